"""Vita-CLIP (arXiv 2304.03307, CVPR 2023): global, local and summary prompts, learned text context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn

from vidprompt.models.attention import Maps, mix, project, project_keys
from vidprompt.models.backbone import Backbone
from vidprompt.models.time_code import check_start, ramp, resize_time
from vidprompt.models.video_clip import VideoCLIP


class SummaryAttention(nn.Module):
    """s = c + MHA(LN(c)) over the T frames' projected class tokens (section 3.2). (B, T, D) → same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, c: torch.Tensor, maps: Maps | None = None) -> torch.Tensor:
        queries, keys = project(self.attention, self.norm(c))
        return c + mix(self.attention, queries, keys, maps=maps, name="time")


class Parts(NamedTuple):
    """What Vita-CLIP adds to one vision layer."""

    class_projection: nn.Module
    summary: nn.Module
    local_prompts: torch.Tensor  # (T, D)
    global_prompts: torch.Tensor  # (G, D)


class VitaCLIP(VideoCLIP):
    """Vita-CLIP on any open_clip ViT.

    Args:
        class_names: annotated names of the training classes (the learned contexts are for these when
            `context` is "class").
        global_prompts: video-level prompts a layer (8).
        context_length: M learned vectors before the class name (8 in the released script, 16 default).
        context: "class" (one context a class; unseen classes use plain class names), "shared" or
            "none".
        prompt_start: "released" (normal) or "ramp" (time embedding and local prompts, see time_code).
        prompt_std: deviation of the start of vision prompts and time embedding (0.02 as released).
        train_cls_proj: False = released code (frozen at its random start), True = paper.
        options: the rest of the text context's (see VideoCLIP).
    """

    method = "vita_clip"

    def __init__(
        self,
        backbone: Backbone,
        num_frames: int,
        *,
        class_names: Sequence[str] = (),
        global_prompts: int = 8,
        context_length: int = 8,
        context: str = "class",
        train_cls_proj: bool = False,
        prompt_start: str = "released",
        prompt_std: float = 0.02,
        **options: Any,
    ) -> None:
        super().__init__(
            backbone,
            num_frames,
            class_names=class_names,
            context=context,
            context_length=context_length,
            **options,
        )
        layers, width = len(self.vision_blocks), self.width
        check_start(prompt_start)
        time = torch.randn(1 + layers, num_frames, width) * prompt_std
        if prompt_start == "ramp":
            time = ramp(1 + layers, num_frames, width, prompt_std)
        self.time_embedding = nn.Parameter(time[0].clone())
        self.local_prompts = nn.Parameter(time[1:].clone())
        self.global_prompts = nn.Parameter(torch.randn(layers, global_prompts, width) * prompt_std)
        self.class_projections = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.class_projections.requires_grad_(train_cls_proj)
        heads = self.vision_blocks[0].attn.num_heads
        self.summaries = nn.ModuleList(SummaryAttention(width, heads) for _ in range(layers))
        self.log_scale = nn.Parameter(self.clip.logit_scale.detach().clone().reshape(()))
        # The released patch embedding has a bias, CLIP's has none: zero unless a checkpoint brings one.
        self.patch_bias: torch.Tensor
        self.register_buffer("patch_bias", torch.zeros(width))

    @property
    def logit_scale(self) -> torch.Tensor:
        """exp of the trained log scale, a scalar."""
        return self.log_scale.exp()

    def time_code(self, t: int) -> torch.Tensor:
        """The learned time embedding, for t frames by nearest neighbour as released."""
        return resize_time(self.time_embedding, t)

    def patch_positions(self) -> torch.Tensor:
        return super().patch_positions() + self.patch_bias

    def parts(self, layer: int, t: int) -> Parts:
        return Parts(
            self.class_projections[layer],
            self.summaries[layer],
            resize_time(self.local_prompts[layer], t),
            self.global_prompts[layer],
        )

    def extra_keys(
        self,
        block: ResidualAttentionBlock,
        parts: Parts,
        tokens: torch.Tensor,
        t: int,
        maps: Maps | None,
    ) -> list[torch.Tensor]:
        """Local prompts (T, the same for all frames of a video), global ones (G), a frame's summary.

        The released layer also asks with these tokens and drops what comes of it; here they are only
        looked at, and those that frames or videos share are projected once.
        """
        c = parts.class_projection(tokens[:, 0]).unflatten(0, (-1, t))
        summary = parts.summary(c, maps).flatten(0, 1)[:, None]
        local = project_keys(block.attn, block.ln_1(parts.local_prompts + c)).repeat_interleave(
            t, 0
        )
        shared = project_keys(block.attn, block.ln_1(parts.global_prompts))
        return [
            local,
            shared.expand(len(tokens), -1, -1),
            project_keys(block.attn, block.ln_1(summary)),
        ]

    def sources(self, extra: torch.Tensor, time: torch.Tensor | None, n: int) -> torch.Tensor:
        """Local prompts and summaries come from the frames' class tokens, global prompts from nowhere."""
        assert time is not None
        t = extra.shape[1]
        summary = extra[..., -1]
        classes = extra[..., :t].sum(1) + (summary + torch.einsum("bt,bts->bs", summary, time)) / 2
        out = extra.new_zeros(*extra.shape[:2], n)
        out[..., 0] = classes
        return out
