"""Training augmentation of a clip: RandAugment, crop, flip, colours and erasing, the same for all frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as F

from vidprompt.data.clips.colours import MOST_NARROW, greyscale, jitter_of, jittered
from vidprompt.data.clips.crops import Box, erased_box, multi_scale_box, resized_box
from vidprompt.data.clips.rand_augment import (
    DrawnOperation,
    RandAugment,
    apply_operation,
    draw_operations,
)
from vidprompt.data.clips.reading import stack_frames
from vidprompt.system.errors import UserError

Frames = torch.Tensor | Sequence[torch.Tensor]  # uint8 (T, 3, H, W), or T of (3, H, W)
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


class Draws(NamedTuple):
    """What is drawn at random for the augmentation of one clip; () or None: nothing is done."""

    operations: Sequence[DrawnOperation]  # of RandAugment
    box: Box  # the crop
    flip: bool
    jitter: NDArray[np.float64] | None  # `jitter_of` a clip (1, 4) or of each frame (T, 4)
    channels: NDArray[np.int64] | None  # their order, (3,)
    greyscale: bool
    erased: Box | None


def draw(
    frames: int,
    height: int,
    width: int,
    size: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Draws:
    """Draw for a clip of so many frames of height × width, which becomes size × size."""
    chosen, operations = augmentation, list[DrawnOperation]()
    if chosen.rand_augment is not None:
        operations = draw_operations(RandAugment.of(chosen.rand_augment), rng)
    box = _crop_box(height, width, chosen, rng)
    flip = bool(chosen.flip and rng.random() < 0.5)
    jitter = channels = erased = None
    if chosen.jitter and rng.random() < chosen.jitter:
        rows = frames if chosen.jitter_by_frame else 1
        jitter = rng.uniform(-1, 1, (rows, 4)) * np.asarray(chosen.jitter_strength)
    if chosen.channels and rng.random() < chosen.channels:
        channels = rng.permutation(3)
    grey = bool(chosen.greyscale and rng.random() < chosen.greyscale)
    if chosen.erase and rng.random() < chosen.erase:
        area, ratio = chosen.erase_area, chosen.erase_ratio
        erased = erased_box(size, size, rng, area=area, ratio=ratio)
    return Draws(operations, box, flip, jitter, channels, grey, erased)


def training_view(
    frames: Frames, size: int, augmentation: Augmentation, rng: np.random.Generator
) -> torch.Tensor:
    """Augment a clip: uint8 (T, 3, H, W) → (T, 3, size, size)."""
    height, width = frames[0].shape[-2:]
    draws = draw(len(frames), height, width, size, augmentation, rng)
    if draws.operations:
        clip = as_clip(frames)
        for operation in draws.operations:
            clip = apply_operation(clip, operation)
        frames = clip
    clip = cropped(frames, draws.box, size)
    if draws.flip:
        clip = clip.flip(-1)
    if draws.jitter is not None:
        clip = _jittered(clip, draws.jitter, wide_hue(augmentation))
    if draws.channels is not None:
        clip = clip[:, torch.from_numpy(draws.channels)]
    if draws.greyscale:
        clip = greyscale(clip)
    if draws.erased is not None:
        top, left, tall, wide = draws.erased
        grey = torch.tensor(ERASED, dtype=clip.dtype)[:, None, None]
        clip = F.erase(clip, top, left, tall, wide, grey)
    return clip


def as_clip(frames: Frames) -> torch.Tensor:
    """(T, 3, H, W) in one tensor."""
    return frames if isinstance(frames, torch.Tensor) else stack_frames(frames)


def cropped(frames: Frames, box: Box, size: int) -> torch.Tensor:
    """The box of a clip uint8 (T, 3, H, W), resized to (T, 3, size, size)."""
    top, left, height, width = box
    rows, columns = slice(top, top + height), slice(left, left + width)
    if isinstance(frames, torch.Tensor):
        clip = frames[..., rows, columns]
    else:  # less is copied than if whole frames were put together
        clip = stack_frames([frame[..., rows, columns] for frame in frames])
    if (height, width) != (size, size):
        # of torchvision it depends on its version and the CPU whether 8 bits are resized as such
        clip = interpolate(clip, (size, size), mode="bilinear", antialias=True)
    return clip


def wide_hue(augmentation: Augmentation) -> bool:
    """True if a hue may be shifted by more than a sixth of a turn."""
    return abs(augmentation.jitter_strength[3]) > MOST_NARROW


def _jittered(clip: torch.Tensor, spreads: NDArray[np.float64], wide: bool) -> torch.Tensor:
    """Frame by frame: a frame stays in a core's cache, and planes that are contiguous are much faster."""
    rows = spreads if len(spreads) > 1 else spreads.repeat(len(clip), 0)
    out = torch.empty(clip.shape, dtype=clip.dtype)
    for target, frame, spread in zip(out, clip, rows, strict=True):
        target.copy_(jittered(frame.contiguous(), jitter_of(spread), wide=wide))
    return out


def _crop_box(height: int, width: int, augmentation: Augmentation, rng: np.random.Generator) -> Box:
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
