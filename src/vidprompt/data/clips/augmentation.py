"""Training augmentation of a clip: RandAugment, crop, flip, colours and erasing, the same for all frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from vidprompt.data.clips.crops import erased_box, multi_scale_box, resized_box
from vidprompt.data.clips.rand_augment import RandAugment, rand_augment
from vidprompt.system.errors import UserError

# Red, green and blue of an erased box: 0.4914, 0.4822, 0.4465 times ImageNet's deviation over its mean, as
# the re-identification code that erases normalised pictures has it (MADE, Colors See Colors Ignore).
ERASED = (152, 144, 129)


@dataclass(frozen=True)
class Augmentation:
    """Settings of the training augmentation, in the order of its steps; all frames of a clip get the same.

    `rand_augment`: fields of `RandAugment`, applied to whole pictures. `scales`, `distort`, `fixed_places`:
    multi-scale crop (see multi_scale_box); or instead of it `area` and `ratio` (see resized_box).
    `flip` must be off where left and right are different classes. `jitter`: probability of colour
    jitter; `jitter_strength`: of brightness, contrast, saturation and hue (hue costs more time
    than the rest); `jitter_by_frame`: drawn anew for every frame, as EZ-CLIP's released code does.
    `channels`: probability of shuffling the colour channels. `greyscale`: probability.
    `erase`: probability of a box in ERASED's grey, with `erase_area` and `erase_ratio` (see erased_box).

    Raises UserError for an invalid range.
    """

    rand_augment: Mapping[str, Any] | None = None
    scales: Sequence[float] = (1.0,)
    distort: int = 0
    fixed_places: bool = False
    area: Sequence[float] | None = None
    ratio: Sequence[float] = (3 / 4, 4 / 3)
    flip: bool = False
    jitter: float = 0.0
    jitter_strength: Sequence[float] = (0.4, 0.4, 0.2, 0.1)
    jitter_by_frame: bool = False
    channels: float = 0.0
    greyscale: float = 0.0
    erase: float = 0.0
    erase_area: Sequence[float] = (0.02, 0.4)
    erase_ratio: Sequence[float] = (0.3, 1 / 0.3)

    def __post_init__(self) -> None:
        if self.rand_augment is not None:
            RandAugment.of(self.rand_augment)
        for name, values, most in (
            ("area", self.area, 1.0),
            ("ratio", self.ratio, np.inf),
            ("erase_area", self.erase_area, 1.0),
            ("erase_ratio", self.erase_ratio, np.inf),
        ):
            valid = values is None or (len(values) == 2 and 0 < values[0] <= values[1] <= most)
            if not valid:
                raise UserError(
                    f"augmentation.{name}: {values}; give a smallest and a largest value"
                )


def training_view(
    clip: torch.Tensor, size: int, augmentation: Augmentation, rng: np.random.Generator
) -> torch.Tensor:
    """Augment a clip: uint8 (T, 3, H, W) → (T, 3, size, size)."""
    if augmentation.rand_augment is not None:
        clip = rand_augment(clip, RandAugment.of(augmentation.rand_augment), rng)
    top, left, height, width = _crop_box(clip, augmentation, rng)
    clip = clip[..., top : top + height, left : left + width]
    if (height, width) != (size, size):
        clip = F.resize(clip, [size, size], antialias=True)
    if augmentation.flip and rng.random() < 0.5:
        clip = clip.flip(-1)
    if augmentation.jitter and rng.random() < augmentation.jitter:
        strength = augmentation.jitter_strength
        if augmentation.jitter_by_frame:
            clip = torch.cat([_jittered(frame, strength, rng) for frame in clip.split(1)])
        else:
            clip = _jittered(clip, strength, rng)
    if augmentation.channels and rng.random() < augmentation.channels:
        clip = clip[:, torch.from_numpy(rng.permutation(3))]
    if augmentation.greyscale and rng.random() < augmentation.greyscale:
        clip = v2.Grayscale(3)(clip)
    if augmentation.erase and rng.random() < augmentation.erase:
        clip = _erased(clip, augmentation, rng)
    return clip


def _erased(
    clip: torch.Tensor, augmentation: Augmentation, rng: np.random.Generator
) -> torch.Tensor:
    height, width = clip.shape[-2:]
    top, left, tall, wide = erased_box(
        height, width, rng, area=augmentation.erase_area, ratio=augmentation.erase_ratio
    )
    grey = torch.tensor(ERASED, dtype=clip.dtype, device=clip.device)[:, None, None]
    return F.erase(clip, top, left, tall, wide, grey)


def _crop_box(
    clip: torch.Tensor, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    height, width = clip.shape[-2:]
    if augmentation.area is not None:
        area, ratio = augmentation.area, augmentation.ratio
        return resized_box(height, width, rng, area=area, ratio=ratio)
    return multi_scale_box(
        height,
        width,
        rng,
        scales=augmentation.scales,
        distort=augmentation.distort,
        fixed_places=augmentation.fixed_places,
    )


def _jittered(
    clip: torch.Tensor, strength: Sequence[float], rng: np.random.Generator
) -> torch.Tensor:
    spread = rng.uniform(-1, 1, 4) * strength
    clip = F.adjust_brightness(clip, 1 + spread[0])
    clip = F.adjust_contrast(clip, 1 + spread[1])
    clip = F.adjust_saturation(clip, 1 + spread[2])
    return F.adjust_hue(clip, spread[3]) if spread[3] else clip
