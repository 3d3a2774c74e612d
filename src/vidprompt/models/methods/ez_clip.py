"""EZ-CLIP (arXiv 2312.08010; TMLR 2025 as "T2L"): temporal visual prompts and adapters.

In each vision layer one prompt a frame attends to the prompts of its video's other frames, through the
layer's own frozen attention, and is then one more token that its frame's tokens attend to. An adapter with a
skip connection follows the attention in both towers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn

from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.layers.attention import AttentionMaps, attend, project_kv, project_qkv
from vidprompt.models.layers.stochastic_depth import drop_path
from vidprompt.models.layers.temporal_prompts import RESAMPLING, check_start, ramp, resample
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice


class Adapter(nn.Module):
    """Bottleneck adapter x + W2·GELU(W1·x), (…, D) → (…, D); W2 is zero at first: the identity."""

    def __init__(self, width: int, ratio: float = 0.25) -> None:
        super().__init__()
        hidden = round(width * ratio)
        self.down = nn.Linear(width, hidden)
        self.up = nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.up(nn.functional.gelu(self.down(x)))


class EZLayerPrompts(NamedTuple):
    """EZ-CLIP's additions to one vision layer."""

    prompt: torch.Tensor  # (T, D)
    adapter: Adapter
    rate: float  # of stochastic depth and attention dropout


class EZCLIP(VideoCLIP):
    """EZ-CLIP on any open_clip ViT.

    Args:
        num_frames: T, the number of frames that the prompts are learned for.
        prompt_dropout: rate on the temporal prompts (0.1 as released).
        prompt_start: initial values of the prompts: "released" (uniform) or "ramp" (`temporal_prompts`).
        prompt_scale: factor of the uniform distribution's bound, or deviation of the ramp.
        stochastic_depth: rate in the last layer, rising linearly from 0 in the first; the attention
            dropout has the same rates (released: 0.1).
        adapter_ratio: an adapter's hidden width over the tower's width (1/4).
        other_lengths: for a video of another length than T: "refuse" it, or resample the prompts in time
            ("nearest" or "linear").
        options: a learned text context beside the adapters (see VideoCLIP).

    Raises UserError for an unknown prompt_start or other_lengths.
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
        # In the published checkpoints and zero there; never trained.
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

    def temporal_positions(self, t: int) -> torch.Tensor:
        """The temporal embedding (t, D): zero unless a checkpoint has another.

        Raises UserError for a video of other than T frames with other_lengths="refuse".
        """
        if t != self.num_frames and self.other_lengths == "refuse":
            raise UserError(
                f"EZ-CLIP's prompts are for {self.num_frames} frames, and the video has {t}: sample "
                f"{self.num_frames}, or set method.options.other_lengths to nearest or linear"
            )
        return resample(self.temporal_embedding[0], t, self.other_lengths)

    def layer_prompts(self, layer: int, t: int) -> EZLayerPrompts:
        prompt = resample(self.temporal_prompts[layer], t, self.other_lengths)
        adapter = self.vision_adapters[layer]
        assert isinstance(adapter, Adapter)
        return EZLayerPrompts(self.prompt_dropout(prompt), adapter, self.drop_rates[layer])

    def drop_rate(self, prompts: EZLayerPrompts) -> float:
        return prompts.rate

    def prompt_kv(
        self,
        block: ResidualAttentionBlock,
        prompts: EZLayerPrompts,
        tokens: torch.Tensor,
        t: int,
        maps: AttentionMaps | None,
    ) -> list[torch.Tensor]:
        """One prompt a frame, (B·T, 1, 2·D), after attention across the frames of its video."""
        dropout = prompts.rate if self.training else 0.0
        prompt = prompts.prompt + tokens.mean(1).unflatten(0, (-1, t))  # (B, T, D)
        queries, kv = project_qkv(block.attn, block.ln_1(prompt))
        attended = attend(block.attn, queries, kv, dropout=dropout, maps=maps, name="time")
        prompt = drop_path(block.ls_1(attended), dropout)  # without a residual, as released
        return [project_kv(block.attn, block.ln_1(prompt.flatten(0, 1)[:, None]))]

    def prompt_relevance(
        self, relevance: torch.Tensor, time: torch.Tensor | None, n: int
    ) -> torch.Tensor:
        """A prompt hands on to the prompts of its video, and each of these to all tokens of its frame."""
        assert time is not None
        by_frame = torch.einsum("bt,bts->bs", relevance[..., 0], time)
        return (by_frame / n)[..., None].expand(-1, -1, n)

    def after_attention(self, prompts: EZLayerPrompts, tokens: torch.Tensor) -> torch.Tensor:
        return prompts.adapter(tokens)

    def after_text_attention(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        return self.text_adapters[layer](x)

    @property
    def text_is_fixed(self) -> bool:
        return False
