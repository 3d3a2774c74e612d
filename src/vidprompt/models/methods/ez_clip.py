"""EZ-CLIP (arXiv 2312.08010; TMLR 2025 as "T2L"): temporal visual prompts and adapters.

In each vision layer one prompt a frame attends to the prompts of its video's other frames, through the
layer's own frozen attention, and is then one more token that its frame's tokens attend to. An adapter with a
skip connection follows the attention in both towers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.layers.stochastic_depth import (
    AXES,
    LayerDraws,
    keep_factors,
    scale_branch,
)
from vidprompt.models.layers.temporal_prompts import RESAMPLING, ramp, resample, uniform
from vidprompt.models.methods.video_clip import LayerCall, VideoCLIP
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
    """EZ-CLIP's additions to one vision layer; None = switched off."""

    prompt: torch.Tensor | None  # (T, D)
    adapter: nn.Module | None


class EZCLIP(VideoCLIP):
    """EZ-CLIP on any backbone.

    Args:
        num_frames: T, the number of frames that the prompts are learned for.
        temporal_prompts: False: no prompts, so frames are encoded apart (as released for HMDB-51 with few
            shots, `prompt.use: False`).
        prompt_dropout: rate on the temporal prompts (0.1 as released).
        prompt_start: initial values of the prompts: "released" (uniform) or "ramp" (`temporal_prompts`).
        prompt_scale: factor of the uniform distribution's bound, or deviation of the ramp.
        stochastic_depth: rate in the last vision layer, rising linearly from 0 in the first; the attention
            dropout has the same rates (released: 0.1).
        text_stochastic_depth: the same in the text tower. None, as released (`CLIP.__init__` of
            clip/model.py gives both towers one list): layer i has the rate of vision layer i.
        stochastic_depth_axis: what a draw drops. "token", as released: a position in the sequence, for the
            whole batch (of the temporal prompts a frame index). "sample": a frame (of the prompts a video,
            in the text tower a text).
        adapter_ratio: an adapter's hidden width over the tower's width (1/4); 0 = no adapters.
        other_lengths: for a video of another length than T: "refuse" it, or resample the prompts in time
            ("nearest" or "linear").
        options: a learned text context beside the adapters, and a trained backbone (see VideoCLIP).

    Raises UserError for an unknown prompt_start or other_lengths, or a negative ratio.
    """

    method = "ez_clip"
    start = "temporal prompts, at random values, join the attention of every layer"

    @classmethod
    def image_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Without prompts in time, which an image has none of."""
        return {**options, "temporal_prompts": False}

    def __init__(
        self,
        backbone: Backbone,
        num_frames: int,
        *,
        temporal_prompts: bool = True,
        prompt_dropout: float = 0.1,
        prompt_start: str = "released",
        prompt_scale: float = 1.0,
        stochastic_depth: float = 0.1,
        text_stochastic_depth: float | None = None,
        stochastic_depth_axis: str = "token",
        adapter_ratio: float = 0.25,
        other_lengths: str = "refuse",
        **options: Any,
    ) -> None:
        super().__init__(backbone, num_frames, **options)
        layers = len(self.vision_blocks)
        check_choice("prompt_start", prompt_start, ("released", "ramp"))
        check_choice("other_lengths", other_lengths, ("refuse", *RESAMPLING))
        if adapter_ratio < 0:
            raise UserError(f"adapter_ratio is {adapter_ratio}; give a share of the width, or 0")
        self.other_lengths = other_lengths
        self.temporal_prompts: nn.Parameter | None = None
        if temporal_prompts:
            self.temporal_prompts = nn.Parameter(self._start(prompt_start, prompt_scale))
        # In the published checkpoints and zero there; never trained.
        self.temporal_embedding: torch.Tensor
        self.register_buffer("temporal_embedding", torch.zeros(1, num_frames, self.width))
        vision_blocks, text_blocks = self.vision_blocks, self.text_blocks
        if not adapter_ratio:
            vision_blocks, text_blocks = [], []
        self.vision_adapters = nn.ModuleList(
            Adapter(self.width, adapter_ratio) for _ in vision_blocks
        )
        self.text_adapters = nn.ModuleList(
            Adapter(self.text_width, adapter_ratio) for _ in text_blocks
        )
        check_choice("stochastic_depth_axis", stochastic_depth_axis, AXES)
        self.prompt_dropout, self.drop_axis = prompt_dropout, stochastic_depth_axis
        self.drop_rates = _rising(stochastic_depth, layers)
        if text_stochastic_depth is None:
            last = layers - 1
            self.text_drop_rates = [
                self.drop_rates[min(i, last)] for i in range(len(self.text_blocks))
            ]
        else:
            self.text_drop_rates = _rising(text_stochastic_depth, len(self.text_blocks))

    def _start(self, start: str, scale: float) -> torch.Tensor:
        """Initial values of the temporal prompts, (layers, T, D)."""
        shape = (len(self.vision_blocks), self.num_frames, self.width)
        if start == "ramp":
            return ramp(*shape, scale)
        return uniform(shape, self.image_tower.patch_size, scale)

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

    def video_draws(self, b: int, t: int, batch_seed: int | None) -> list[LayerDraws]:
        """What is dropped in training: alike for all videos of `batch_seed`, but samples by themselves."""
        layers, device, shared = len(self.vision_blocks), self.temporal_embedding.device, None
        if batch_seed is not None:
            shared = torch.Generator(device).manual_seed(batch_seed)
        prompt = keep_factors([self.prompt_dropout] * layers, (t, self.width), device, shared)
        n = self.image_tower.num_tokens
        by_token = self.drop_axis == "token"
        space, time = ((1, n, 1), (1, t, 1)) if by_token else ((b * t, 1, 1), (b, 1, 1))
        attention, mlp, across = (
            keep_factors(self.drop_rates, shape, device, shared if by_token else None)
            for shape in (space, space, time)
        )
        drawn = zip(self.drop_rates, attention, mlp, across, prompt, strict=True)
        return [LayerDraws(*one) for one in drawn]

    @property
    def drops_text(self) -> bool:
        return any(self.text_drop_rates) or super().drops_text

    def text_draws(self, n: int) -> list[LayerDraws]:
        """What is dropped in training: positions of all texts of a call alike, or texts."""
        if not any(self.text_drop_rates):
            return []
        device = self.temporal_embedding.device
        positions = self.text_tower.context_length
        shape = (1, positions, 1) if self.drop_axis == "token" else (n, 1, 1)
        attention, mlp = (keep_factors(self.text_drop_rates, shape, device) for _ in range(2))
        drawn = zip(self.text_drop_rates, attention, mlp, strict=True)
        return [LayerDraws(*one) for one in drawn]

    def layer_prompts(self, layer: int, t: int, drawn: LayerDraws) -> EZLayerPrompts:
        prompt = None
        if self.temporal_prompts is not None:
            prompt = resample(self.temporal_prompts[layer], t, self.other_lengths)
            prompt = scale_branch(prompt, drawn.prompt)
        adapter = self.vision_adapters[layer] if self.vision_adapters else None
        return EZLayerPrompts(prompt, adapter)

    def prompt_kv(
        self, call: LayerCall, prompts: EZLayerPrompts, tokens: torch.Tensor
    ) -> list[torch.Tensor]:
        """One prompt a frame, (B·T, 1, 2·D), after attention across the frames of its video."""
        if prompts.prompt is None:
            return []
        block, drawn = call.block, call.drawn
        prompt = prompts.prompt + tokens.mean(1).unflatten(0, (-1, call.t))  # (B, T, D)
        queries, kv = block.project_qkv(block.norm(prompt))
        attended = block.attend(queries, kv, dropout=drawn.rate, maps=call.maps, name="time")
        prompt = scale_branch(attended, drawn.time)  # without a residual, as released
        return [block.project_kv(block.norm(prompt.flatten(0, 1)[:, None]))]

    def prompt_relevance(
        self, relevance: torch.Tensor, time: torch.Tensor | None, n: int
    ) -> torch.Tensor:
        """A prompt hands on to the prompts of its video, and each of these to all tokens of its frame."""
        if time is None:  # without prompts
            return super().prompt_relevance(relevance, time, n)
        by_frame = torch.einsum("bt,bts->bs", relevance[..., 0], time)
        return (by_frame / n)[..., None].expand(-1, -1, n)

    def after_attention(self, prompts: EZLayerPrompts, tokens: torch.Tensor) -> torch.Tensor:
        return tokens if prompts.adapter is None else prompts.adapter(tokens)

    def after_text_attention(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        return self.text_adapters[layer](x) if self.text_adapters else x

    @property
    def text_is_fixed(self) -> bool:
        return super().text_is_fixed and not self.text_adapters and not self.drops_text


def _rising(rate: float, layers: int) -> list[float]:
    """Rates from 0 in the first layer to `rate` in the last."""
    return [rate * i / max(1, layers - 1) for i in range(layers)]
