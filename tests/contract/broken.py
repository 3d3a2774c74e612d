"""Methods that each break the contract in one way."""

from __future__ import annotations

import itertools
import random
from typing import Any

import torch
from torch import nn

from vidprompt.models.methods.video_clip import VideoCLIP


class Sound(VideoCLIP):
    """Learns a factor for each number of a feature, which starts at 1."""

    def __init__(self, backbone: Any, num_frames: int, *, class_names: Any = ()) -> None:
        super().__init__(backbone, num_frames, class_names=class_names)
        self.factor = nn.Parameter(torch.ones(self.feature_width))

    def encode_video(self, *args: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        frames, video = super().encode_video(*args, **options)
        return frames * self.factor, video * self.factor


class OtherMean(Sound):
    def encode_video(self, *args: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        frames, video = super().encode_video(*args, **options)
        return frames, video + 1


class LogitsOfItsOwn(Sound):
    def forward(self, clips: torch.Tensor, classes: Any) -> torch.Tensor:
        return super().forward(clips, classes) + 1


class WrongWidth(Sound):
    def encode_classes(self, *args: Any, **options: Any) -> torch.Tensor:
        return super().encode_classes(*args, **options)[..., :-1]


class Unreached(Sound):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.unused = nn.Parameter(torch.zeros(3))


class Multiplied(Sound):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.dead = nn.Parameter(torch.ones(self.feature_width))

    def encode_video(self, *args: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        frames, video = super().encode_video(*args, **options)
        return frames + 0 * self.dead, video + 0 * self.dead


class TrainsTheShared(Sound):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.clip.visual.ln_post.requires_grad_(True)


class OtherStart(Sound):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.factor = nn.Parameter(torch.linspace(-1, 1, self.feature_width))


class Unseeded(Sound):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.factor = nn.Parameter(torch.ones(self.feature_width) + random.random() / 1e4)


class DropsInEvaluation(Sound):
    def encode_video(self, *args: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        frames, _ = super().encode_video(*args, **options)
        frames = nn.functional.dropout(frames, 0.1, training=True)
        return frames, frames.mean(1)


class StateElsewhere(Sound):
    """What it has learned besides is a plain tensor, of no parameter or buffer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.shift = torch.zeros(self.feature_width)

    def encode_video(self, *args: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        frames, video = super().encode_video(*args, **options)
        if self.training:
            self.shift = self.shift + video.detach().mean(0)
        return frames + self.shift, video + self.shift


class FixedLength(Sound):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.times = nn.Parameter(torch.zeros(self.num_frames, self.width))

    def temporal_positions(self, t: int) -> torch.Tensor:
        del t
        return self.times


class LooksAtValues(Sound):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if float(self.factor.detach().sum()) > 1e9:
            raise ValueError("large")


class OwnDraws(Sound):
    """What its layers compute differs from pass to pass."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.passes = itertools.count(1)

    def after_attention(self, prompts: Any, tokens: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return tokens
        return tokens * (1 + self.factor.mean() * next(self.passes) * torch.arange(self.width) / 10)


class BranchesOnValues(Sound):
    def encode_video(self, *args: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        frames, video = super().encode_video(*args, **options)
        if float(frames.sum()) > 0:
            frames, video = frames * 2, video * 2
        return frames, video
