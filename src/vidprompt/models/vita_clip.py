"""Vita-CLIP (arXiv 2304.03307, CVPR 2023): global, local and summary prompts, learned text context."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from vidprompt.errors import UserError
from vidprompt.models.backbone import Backbone
from vidprompt.models.context import LearnedContext
from vidprompt.models.prompts import PromptSet
from vidprompt.models.time_code import check_start, ramp, resize_time
from vidprompt.models.video_clip import VideoCLIP


class SummaryAttention(nn.Module):
    """s = c + MHA(LN(c)) over the T frames' projected class tokens (section 3.2). (B, T, D) → same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, c: torch.Tensor) -> torch.Tensor:
        normed = self.norm(c)
        return c + self.attention(normed, normed, normed, need_weights=False)[0]


class VitaCLIP(VideoCLIP):
    """Vita-CLIP on any open_clip ViT.

    Args:
        class_names: annotated names of the training classes (the learned contexts are for these when
            `context` is "class").
        global_prompts: video-level prompts a layer (8).
        context_length: M learned vectors before the class name (8 in the released script, 16 default).
        context: "class" (one context a class; unseen classes use plain class names) or "shared".
        prompt_start: "released" (normal) or "ramp" (time embedding and local prompts, see time_code).
        prompt_std: deviation of the start of vision prompts and time embedding (0.02 as released).
        train_cls_proj: False = released code (frozen at its random start), True = paper.
    """

    method = "vita_clip"

    def __init__(
        self,
        backbone: Backbone,
        num_frames: int,
        *,
        class_names: Sequence[str],
        global_prompts: int = 8,
        context_length: int = 8,
        context: str = "class",
        train_cls_proj: bool = False,
        prompt_start: str = "released",
        prompt_std: float = 0.02,
    ) -> None:
        super().__init__(backbone, num_frames)
        if context not in ("class", "shared"):
            raise UserError(f"method.context is {context!r}; choose class or shared")
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
        self.context = LearnedContext(
            class_names, context_length, self.text_width, shared=context == "shared"
        )
        self.clip.logit_scale.requires_grad_(True)

    def time_code(self, t: int) -> torch.Tensor:
        """The learned time embedding."""
        return resize_time(self.time_embedding, t)

    def vision_layers(self, tokens: torch.Tensor, b: int, t: int) -> torch.Tensor:
        for layer, block in enumerate(self.vision_blocks):
            shared = self.global_prompts[layer]
            count = shared.shape[0]
            c = self.class_projections[layer](tokens[:, 0]).reshape(b, t, -1)
            summary = self.summaries[layer](c).reshape(b * t, 1, -1)
            local = resize_time(self.local_prompts[layer], t)
            local = (local + c).repeat_interleave(t, 0)  # all T of them to every frame
            joint = torch.cat(
                [tokens[:, :1], local, shared.expand(b * t, -1, -1), tokens[:, 1:], summary], 1
            )
            joint = joint + block.ls_1(block.attention(block.ln_1(joint)))
            # After the MLP the global prompts are dropped too, and a token's MLP sees that token
            # alone: dropping them before it gives the same and costs less.
            tokens = torch.cat([joint[:, :1], joint[:, 1 + t + count : -1]], 1)
            tokens = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
        return tokens

    def encode_classes(
        self, class_names: Sequence[str], prompts: PromptSet, chunk: int = 256
    ) -> torch.Tensor:
        """Learned contexts where there are some for these classes, else plain class names."""
        del prompts  # the contexts stand in for templates
        names = list(class_names)
        if self.context.knows(names):
            parts = [names[i : i + chunk] for i in range(0, len(names), chunk)]
            return torch.cat([self.context.features(self, part) for part in parts])[:, None]
        return super().encode_classes(names, PromptSet(("{}",)), chunk)
