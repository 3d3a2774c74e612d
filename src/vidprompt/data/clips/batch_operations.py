"""RandAugment's operations on several clips at once, each with its own argument; no device is waited for.

The same operations as in `rand_augment`, whose values they have: exactly where values alone are changed, and
within the rounding of a bilinear interpolation where pictures are moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as transforms

from vidprompt.data.clips.colours import (
    Blend,
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
)
from vidprompt.data.clips.rand_augment import GREY, DrawnOperation

ARGUMENTS = 6  # numbers an operation is given: its argument, or the rows of a matrix
MOVING = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
Pixels = torch.Tensor  # uint8 (n, T, 3, H, W)


class PlannedOperation(NamedTuple):
    """One operation on so many clips of a group."""

    name: str
    clips: int


class Plan(NamedTuple):
    """Operations one after another; a clip's come in its own order."""

    operations: list[PlannedOperation]
    rows: torch.Tensor  # the clips of each, one after another, int64 (n,)
    arguments: torch.Tensor  # float32 (n, ARGUMENTS)


def plan_operations(
    drawn: Sequence[Sequence[DrawnOperation]], height: int, width: int
) -> Plan | None:
    """The plan for clips of one size with what was drawn for each; None where nothing was."""
    operations, rows, arguments = list[PlannedOperation](), list[int](), list[list[float]]()
    for place in range(max(map(len, drawn), default=0)):
        of_name: dict[str, list[int]] = {}
        for row, own in enumerate(drawn):
            if place < len(own):
                of_name.setdefault(own[place].name, []).append(row)
        for name, chosen in of_name.items():
            operations.append(PlannedOperation(name, len(chosen)))
            rows += chosen
            arguments += [_arguments(drawn[row][place], height, width) for row in chosen]
    if not operations:
        return None
    return Plan(operations, torch.tensor(rows), torch.tensor(arguments, dtype=torch.float32))


def apply_plan(pixels: Pixels, plan: Plan) -> Pixels:
    """Apply the operations to clips in place."""
    counts = [operation.clips for operation in plan.operations]
    given = zip(plan.operations, plan.rows.split(counts), plan.arguments.split(counts), strict=True)
    for operation, rows, arguments in given:
        chosen = pixels.index_select(0, rows)
        pixels.index_copy_(0, rows, _APPLY[operation.name](chosen, arguments))
    return pixels


def _arguments(drawn: DrawnOperation, height: int, width: int) -> list[float]:
    """What `_APPLY` takes of an operation on pictures of a size."""
    value = drawn.argument
    if drawn.name in MOVING:
        return _matrix(drawn.name, value, height, width)
    if drawn.name == "posterise":
        value = float((256 - (1 << (8 - int(value)))) & 255)  # the bits that are kept
    return [value, 1.0 - value, *[0.0] * (ARGUMENTS - 2)]


def _matrix(name: str, value: float, height: int, width: int) -> list[float]:
    """From where a pixel at (x, y) of the new picture comes, both from the middle: rows of a 2 × 3 matrix."""
    cosine, sine = math.cos(math.radians(value)), math.sin(math.radians(value))
    matrices = {
        "rotate": [cosine, -sine, 0.0, sine, cosine, 0.0],
        "shear_x": [1.0, value, value * height / 2, 0.0, 1.0, 0.0],
        "shear_y": [1.0, 0.0, 0.0, value, 1.0, value * width / 2],
        "translate_x": [1.0, 0.0, value * width, 0.0, 1.0, 0.0],
        "translate_y": [1.0, 0.0, 0.0, 0.0, 1.0, value * height],
    }
    return matrices[name]


def _number(arguments: torch.Tensor, place: int = 0) -> torch.Tensor:
    """One number a clip, (n, 1, 1, 1, 1)."""
    return arguments[:, place, None, None, None, None]


def _blend(arguments: torch.Tensor) -> Blend:
    return Blend(_number(arguments), _number(arguments, 1))


def _auto_contrast(pixels: Pixels, arguments: torch.Tensor) -> Pixels:
    del arguments
    low = pixels.amin((-2, -1), keepdim=True).to(torch.float32)
    span = pixels.amax((-2, -1), keepdim=True).to(torch.float32).sub_(low)
    flat = span == 0
    scale = torch.where(flat, torch.ones_like(span), span.mul_(1.0 / 255))
    low = low.masked_fill_(flat, 0.0)
    return pixels.sub(low).div_(scale).clamp_(0, 255).to(torch.uint8)


def _solarise(pixels: Pixels, arguments: torch.Tensor) -> Pixels:
    return torch.where(pixels >= _number(arguments), 255 - pixels, pixels)


def _add_to_dark(pixels: Pixels, arguments: torch.Tensor) -> Pixels:
    return torch.where(pixels < 128, pixels + _number(arguments).to(torch.uint8), pixels)


def _sharpness(pixels: Pixels, arguments: torch.Tensor) -> Pixels:
    """Mix with the mean over 3 × 3 pixels, of which the middle one counts five times; borders stay."""
    out = pixels.to(torch.float32)
    rows = out[..., :-2, :] + out[..., 1:-1, :] + out[..., 2:, :]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    middle = out[..., 1:-1, 1:-1]
    blurred = total.add_(middle, alpha=4).div_(13).round_()
    middle.addcmul_(blurred.sub_(middle), _number(arguments, 1))
    return out.clamp_(0, 255).to(torch.uint8)


def _move(pixels: Pixels, arguments: torch.Tensor) -> Pixels:
    """Take each pixel from where its clip's matrix says, bilinearly; grey comes from beyond the border."""
    n, t, _, height, width = pixels.shape
    device = pixels.device
    x = torch.arange(width, device=device, dtype=torch.float32).sub_((width - 1) / 2)
    y = torch.arange(height, device=device, dtype=torch.float32).sub_((height - 1) / 2)[:, None]
    rows = arguments.unflatten(1, (2, 3))[:, :, :, None, None]  # (n, 2, 3, 1, 1)
    grid = rows[:, :, 0] * x + rows[:, :, 1] * y + rows[:, :, 2]  # (n, 2, H, W)
    grid = torch.stack([grid[:, 0] / (width / 2), grid[:, 1] / (height / 2)], -1)
    inside = torch.ones((n, 1, height, width), device=device)
    planes = torch.cat([pixels.flatten(1, 2).to(torch.float32), inside], 1)
    moved = F.grid_sample(planes, grid, padding_mode="zeros", align_corners=False)
    mask = moved[:, -1:]
    out = moved[:, :-1].sub_(GREY[0]).mul_(mask).add_(GREY[0])
    return out.round_().to(torch.uint8).unflatten(1, (t, 3))


_APPLY: dict[str, Callable[[Pixels, torch.Tensor], Pixels]] = {
    "auto_contrast": _auto_contrast,
    "equalise": lambda pixels, _: transforms.equalize(pixels),
    "invert": lambda pixels, _: 255 - pixels,
    "posterise": lambda pixels, a: pixels & _number(a).to(torch.uint8),
    "solarise": _solarise,
    "solarise_add": _add_to_dark,
    "colour": lambda pixels, a: adjust_saturation(pixels, _blend(a)),
    "contrast": lambda pixels, a: adjust_contrast(pixels, _blend(a)),
    "brightness": lambda pixels, a: adjust_brightness(pixels, _number(a)),
    "sharpness": _sharpness,
    **dict.fromkeys(MOVING, _move),
}
