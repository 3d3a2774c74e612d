"""EZ-CLIP (arXiv 2312.08010; TMLR 2025 as "T2L"): temporal visual prompts and adapters.

Per vision layer, one prompt token a frame looks at the whole video (through the layer's own frozen
attention, across time) and then joins its frame's tokens for the spatial attention; an adapter with a
skip of its own follows the attention in both towers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn

from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.layers.attention import Maps, mix, project, project_keys
from vidprompt.models.layers.stochastic_depth import drop_path
from vidprompt.models.layers.temporal_code import RESAMPLING, check_start, ramp, resize_time
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice


class Adapter(nn.Module):
    """x + W2·GELU(W1·x); W2 starts at zero, so it starts as the identity. (…, D) → (…, D)."""

    def __init__(self, width: int, ratio: float = 0.25) -> None:
        super().__init__()
        hidden = round(width * ratio)
        self.down = nn.Linear(width, hidden)
        self.up = nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.up(nn.functional.gelu(self.down(x)))


class Parts(NamedTuple):
    """What EZ-CLIP adds to one vision layer."""

    prompt: torch.Tensor  # (T, D)
    adapter: Adapter
    rate: float  # of stochastic depth and attention dropout


class EZCLIP(VideoCLIP):
    """EZ-CLIP on any open_clip ViT.

    Args:
        num_frames: T; the prompts are learned for this many frames.
        prompt_dropout: on the temporal prompts (0.1 as released).
        prompt_start: "released" (uniform) or "ramp" (see time_code).
        prompt_scale: factor of the uniform start's bound, or deviation of the ramp.
        stochastic_depth: rate in the last layer; rises linearly from 0 in the first. Attention
            dropout follows the same rates (released: 0.1).
        adapter_ratio: width of an adapter's middle, of the tower's width (1/4).
        other_lengths: what becomes of a video of another length than T: "refuse", or the prompts are
            resampled along time ("nearest" or "linear").
        options: a learned text context beside the adapters (see VideoCLIP).
    """

    method = "ez_clip"

    def __init__(
        self,
        backbone: Backbone,
        num_frames: int,
        *,
        prompt_dropout: float = 0.1,
        prompt_start: str = "released",
        prompt_scale: float = 1.0,
        stochastic_depth: float = 0.1,
        adapter_ratio: float = 0.25,
        other_lengths: str = "refuse",
        **options: Any,
    ) -> None:
        super().__init__(backbone, num_frames, **options)
        layers = len(self.vision_blocks)
        patch = self.clip.visual.conv1.kernel_size
        check_start(prompt_start)
        check_choice("other_lengths", other_lengths, ("refuse", *RESAMPLING))
        self.other_lengths = other_lengths
        bound = prompt_scale * math.sqrt(6.0 / (3 * patch[0] * patch[1] + self.width))
        start = torch.empty(layers, num_frames, self.width).uniform_(-bound, bound)
        if prompt_start == "ramp":
            start = ramp(layers, num_frames, self.width, prompt_scale)
        self.temporal_prompts = nn.Parameter(start)
        # In the published checkpoints, and zero there: kept, and never trained.
        self.temporal_embedding: torch.Tensor
        self.register_buffer("temporal_embedding", torch.zeros(1, num_frames, self.width))
        self.vision_adapters = nn.ModuleList(
            Adapter(self.width, adapter_ratio) for _ in self.vision_blocks
        )
        self.text_adapters = nn.ModuleList(
            Adapter(self.text_width, adapter_ratio) for _ in self.text_blocks
        )
        self.prompt_dropout = nn.Dropout(prompt_dropout)
        self.drop_rates = [stochastic_depth * i / max(1, layers - 1) for i in range(layers)]

    def time_code(self, t: int) -> torch.Tensor:
        """The temporal embedding: zero, unless a checkpoint brings another.

        Raises UserError when the video is not of T frames and that is to be refused.
        """
        if t != self.num_frames and self.other_lengths == "refuse":
            raise UserError(
                f"EZ-CLIP's prompts are for {self.num_frames} frames, and the video has {t}: sample "
                f"{self.num_frames}, or set method.options.other_lengths to nearest or linear"
            )
        return self._for_length(self.temporal_embedding[0], t)

    def _for_length(self, code: torch.Tensor, t: int) -> torch.Tensor:
        return code if t == len(code) else resize_time(code, t, self.other_lengths)

    def parts(self, layer: int, t: int) -> Parts:
        prompt = self._for_length(self.temporal_prompts[layer], t)
        adapter = self.vision_adapters[layer]
        assert isinstance(adapter, Adapter)
        return Parts(self.prompt_dropout(prompt), adapter, self.drop_rates[layer])

    def drop_rate(self, parts: Parts) -> float:
        return parts.rate

    def extra_keys(
        self,
        block: ResidualAttentionBlock,
        parts: Parts,
        tokens: torch.Tensor,
        t: int,
        maps: Maps | None,
    ) -> list[torch.Tensor]:
        """One prompt a frame: it attends across its video's frames, and its frame's tokens see it."""
        dropout = parts.rate if self.training else 0.0
        prompt = parts.prompt + tokens.mean(1).unflatten(0, (-1, t))
        queries, keys = project(block.attn, block.ln_1(prompt))
        mixed = mix(block.attn, queries, keys, dropout=dropout, maps=maps, name="time")
        prompt = drop_path(block.ls_1(mixed), dropout)  # no residual here
        return [project_keys(block.attn, block.ln_1(prompt.flatten(0, 1)[:, None]))]

    def sources(self, extra: torch.Tensor, time: torch.Tensor | None, n: int) -> torch.Tensor:
        """A prompt comes from its video's prompts, and each of these from all tokens of its frame."""
        assert time is not None
        by_frame = torch.einsum("bt,bts->bs", extra[..., 0], time)
        return (by_frame / n)[..., None].expand(-1, -1, n)

    def after_attention(self, parts: Parts, tokens: torch.Tensor) -> torch.Tensor:
        return parts.adapter(tokens)

    def after_text_attention(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        return self.text_adapters[layer](x)

    @property
    def text_is_fixed(self) -> bool:
        return False
