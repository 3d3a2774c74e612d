"""Vita-CLIP (arXiv 2304.03307, CVPR 2023): global, local and summary prompts, learned text context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn

from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.layers.attention import Maps, mix, project, project_keys
from vidprompt.models.layers.temporal_code import check_start, ramp, resize_time
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.system.errors import UserError


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
    """What Vita-CLIP adds to one vision layer; None = switched off."""

    class_projection: nn.Module | None
    summary: nn.Module | None
    local_prompts: torch.Tensor | None  # (T, D)
    global_prompts: torch.Tensor | None  # (G, D)


class VitaCLIP(VideoCLIP):
    """Vita-CLIP on any open_clip ViT.

    Args:
        class_names: annotated names of the training classes (the learned contexts are for these when
            `context` is "class").
        global_prompts: video-level prompts a layer (8); 0 = none.
        use_local: local prompts, one a frame (for ablations; the published method has all three types).
        use_summary: summaries, one a frame (likewise). What is switched off has no parameters.
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
        use_local: bool = True,
        use_summary: bool = True,
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
        if global_prompts < 0:
            raise UserError(f"global_prompts is {global_prompts}; give a number of prompts, or 0")
        time = torch.randn(1 + layers, num_frames, width) * prompt_std
        if prompt_start == "ramp":
            time = ramp(1 + layers, num_frames, width, prompt_std)
        self.time_embedding = nn.Parameter(time[0].clone())
        self.local_prompts = nn.Parameter(time[1:].clone()) if use_local else None
        video_level = torch.randn(layers, global_prompts, width) * prompt_std
        self.global_prompts = nn.Parameter(video_level) if global_prompts else None
        projected = range(layers if use_local or use_summary else 0)
        self.class_projections = nn.ModuleList(nn.Linear(width, width) for _ in projected)
        self.class_projections.requires_grad_(train_cls_proj)
        heads = self.vision_blocks[0].attn.num_heads
        summarised = range(layers if use_summary else 0)
        self.summaries = nn.ModuleList(SummaryAttention(width, heads) for _ in summarised)
        self.log_scale = nn.Parameter(self.clip.logit_scale.detach().clone().reshape(()))
        # The released patch embedding has a bias, CLIP's has none: zero unless a checkpoint brings one.
        self.patch_bias: torch.Tensor
        self.register_buffer("patch_bias", torch.zeros(width))

    @property
    def logit_scale(self) -> torch.Tensor:
        """exp of the trained log scale, a scalar."""
        return self.log_scale.exp()

    @property
    def switched_off(self) -> list[str]:
        """Names of the prompt types that this model has not."""
        types = {
            "global prompts": self.global_prompts is not None,
            "local prompts": self.local_prompts is not None,
            "summaries": len(self.summaries) > 0,
        }
        return [name for name, there in types.items() if not there]

    def time_code(self, t: int) -> torch.Tensor:
        """The learned time embedding, for t frames by nearest neighbour as released."""
        return resize_time(self.time_embedding, t)

    def patch_positions(self) -> torch.Tensor:
        return super().patch_positions() + self.patch_bias

    def parts(self, layer: int, t: int) -> Parts:
        local, shared = self.local_prompts, self.global_prompts
        return Parts(
            self.class_projections[layer] if self.class_projections else None,
            self.summaries[layer] if self.summaries else None,
            None if local is None else resize_time(local[layer], t),
            None if shared is None else shared[layer],
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
        local, shared, summary = [], [], []
        if parts.class_projection is not None:
            c = parts.class_projection(tokens[:, 0]).unflatten(0, (-1, t))
            if parts.summary is not None:
                token = parts.summary(c, maps).flatten(0, 1)[:, None]
                summary = [project_keys(block.attn, block.ln_1(token))]
            if parts.local_prompts is not None:
                by_video = project_keys(block.attn, block.ln_1(parts.local_prompts + c))
                local = [by_video.repeat_interleave(t, 0)]
        if parts.global_prompts is not None:
            keys = project_keys(block.attn, block.ln_1(parts.global_prompts))
            shared = [keys.expand(len(tokens), -1, -1)]
        return [*local, *shared, *summary]

    def sources(self, extra: torch.Tensor, time: torch.Tensor | None, n: int) -> torch.Tensor:
        """Local prompts and summaries come from the frames' class tokens, global prompts from nowhere."""
        out = extra.new_zeros(*extra.shape[:2], n)
        if self.local_prompts is not None:
            out[..., 0] += extra[..., : extra.shape[1]].sum(1)
        if time is not None:  # of the summaries
            summary = extra[..., -1]
            out[..., 0] += (summary + torch.einsum("bt,bts->bs", summary, time)) / 2
        return out
