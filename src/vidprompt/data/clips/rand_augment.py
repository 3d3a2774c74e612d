"""RandAugment for clips: random operations, the same for all frames of a clip.

The method is Cubuk et al. (2020, arXiv 1909.13719). Operations and strengths are those of timm's
"increasing" set (`rand-m7-n4-mstd0.5-inc1` is layers 4, magnitude 7, std 0.5), in which every operation
does more at a larger magnitude; Vita-CLIP was trained with it. Pictures are moved with bilinear
interpolation, where timm draws bilinear or bicubic: torchvision has no bicubic one for tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2.functional import InterpolationMode

from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

LARGEST = 10.0  # magnitude
GREY = [128.0, 128.0, 128.0]  # fills the area beyond the border


@dataclass(frozen=True)
class RandAugment:
    """Settings of RandAugment.

    `layers`: operations drawn with replacement, each applied with `probability`. `magnitude`: their
    strength in [0, 10], drawn anew each time from a normal distribution with the deviation `std` and
    cut to that range. Raises UserError for a number out of range.
    """

    layers: int = 4
    magnitude: float = 7.0
    std: float = 0.5
    probability: float = 0.5

    def __post_init__(self) -> None:
        valid = self.layers >= 1 and self.std >= 0
        if not (valid and 0 <= self.magnitude <= LARGEST and 0 <= self.probability <= 1):
            raise UserError(
                "rand_augment needs 1 or more layers, a magnitude in [0, 10], a std of at least 0 and "
                f"a probability in [0, 1], not {self}"
            )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RandAugment:
        """Build it from a mapping of its fields. Raises UserError for an unknown one."""
        names = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise UserError(f"rand_augment has no {unknown[0]!r}: {suggestion(unknown[0], names)}")
        return cls(**values)


class Operation(NamedTuple):
    """One operation: a function of a clip and an argument, and the argument at a level.

    A level is a magnitude / 10: in [0, 1], or in [-1, 1] where the sign is random (`either_sign`).
    """

    apply: Callable[[torch.Tensor, float], torch.Tensor]
    argument: Callable[[float], float]
    either_sign: bool = False


class DrawnOperation(NamedTuple):
    """An operation with what was drawn for a clip: a magnitude in [0, 10], and a sign of 1 or -1."""

    name: str
    magnitude: float
    sign: int

    @property
    def argument(self) -> float:
        """The argument of the operation's function."""
        operation = OPERATIONS[self.name]
        level = self.magnitude / LARGEST * (self.sign if operation.either_sign else 1)
        return operation.argument(level)


def draw_operations(settings: RandAugment, rng: np.random.Generator) -> list[DrawnOperation]:
    """The operations that are applied to a clip, in their order."""
    names, drawn = list(OPERATIONS), []
    for number in rng.integers(len(names), size=settings.layers):
        applied = rng.random() < settings.probability
        magnitude = float(np.clip(rng.normal(settings.magnitude, settings.std), 0, LARGEST))
        sign = 1 if rng.random() < 0.5 else -1
        if applied:
            drawn.append(DrawnOperation(names[number], magnitude, sign))
    return drawn


def apply_operation(clip: torch.Tensor, drawn: DrawnOperation) -> torch.Tensor:
    """A clip uint8 (T, 3, H, W) after one operation, of the same shape."""
    return OPERATIONS[drawn.name].apply(clip, drawn.argument)


def _shear(clip: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Rows move left by `x` times their distance from the top, columns up by `y` times theirs from
    the left."""
    degrees = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return _move(clip, [0.0, 0.0], degrees, [0.0, 0.0])


def _move(
    clip: torch.Tensor, by: list[float], shear: list[float], centre: list[float] | None = None
) -> torch.Tensor:
    return F.affine(
        clip,
        angle=0.0,
        translate=by,
        scale=1.0,
        shear=shear,
        interpolation=InterpolationMode.BILINEAR,
        fill=GREY,
        center=centre,
    )


def _rotate(clip: torch.Tensor, degrees: float) -> torch.Tensor:
    return F.rotate(clip, degrees, interpolation=InterpolationMode.BILINEAR, fill=GREY)


def _solarise(clip: torch.Tensor, threshold: float) -> torch.Tensor:
    return torch.where(clip >= threshold, 255 - clip, clip)


def _add_to_dark(clip: torch.Tensor, amount: float) -> torch.Tensor:
    return torch.where(clip < 128, clip + int(amount), clip)


def _factor(level: float) -> float:
    """The factor of an enhancement at a level: 1 changes nothing."""
    return max(0.1, 1.0 + 0.9 * level)


OPERATIONS: dict[str, Operation] = {  # arguments: at level 1
    "auto_contrast": Operation(lambda clip, _: F.autocontrast(clip), lambda _: 0.0),
    "equalise": Operation(lambda clip, _: F.equalize(clip), lambda _: 0.0),
    "invert": Operation(lambda clip, _: F.invert(clip), lambda _: 0.0),
    "rotate": Operation(_rotate, lambda level: 30 * level, True),  # degrees
    "posterise": Operation(  # bits kept: 4 … 0
        lambda clip, bits: F.posterize(clip, int(bits)), lambda level: 4 - int(4 * level)
    ),
    "solarise": Operation(_solarise, lambda level: 256.0 - int(256 * level)),  # from this value on
    "solarise_add": Operation(_add_to_dark, lambda level: int(110 * level)),
    "colour": Operation(F.adjust_saturation, _factor, True),  # 0.1 … 1.9
    "contrast": Operation(F.adjust_contrast, _factor, True),
    "brightness": Operation(F.adjust_brightness, _factor, True),
    "sharpness": Operation(F.adjust_sharpness, _factor, True),
    "shear_x": Operation(lambda clip, by: _shear(clip, by, 0.0), lambda level: 0.3 * level, True),
    "shear_y": Operation(lambda clip, by: _shear(clip, 0.0, by), lambda level: 0.3 * level, True),
    "translate_x": Operation(  # shares of the width
        lambda clip, by: _move(clip, [-by * clip.shape[-1], 0.0], [0.0, 0.0]),
        lambda level: 0.45 * level,
        True,
    ),
    "translate_y": Operation(  # and of the height
        lambda clip, by: _move(clip, [0.0, -by * clip.shape[-2]], [0.0, 0.0]),
        lambda level: 0.45 * level,
        True,
    ),
}
