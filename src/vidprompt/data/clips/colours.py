"""Colours of clips in 8 bits, of a frame on a CPU or of a whole batch on a GPU.

Brightness, contrast, saturation, hue and greyscale. A factor is a number, or a tensor that broadcasts to the
pixels (…, 3, H, W), with its complement in double precision (`Blend`). Each step rounds as torchvision's,
whose values these are but for the hue's: that is turned in integers, without hue and saturation in between,
and within 1 of 255 of the exact value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

Factor = float | torch.Tensor
MOST_NARROW = 1 / 6  # turns: a shift up to here leaves a hue within the next sector


class Blend(NamedTuple):
    """The shares of a picture and of what it is mixed with: factor and 1 - factor."""

    factor: Factor
    rest: Factor


class Jitter(NamedTuple):
    """Brightness's factor, contrast's and saturation's blends, and the shift of the hue in turns."""

    brightness: Factor
    contrast: Blend
    saturation: Blend
    hue: Factor


def jitter_of(spread: Iterable[float]) -> Jitter:
    """The jitter of four numbers around 0: brightness, contrast, saturation, hue (in turns)."""
    brightness, contrast, saturation, hue = (float(one) for one in spread)
    return Jitter(
        1 + brightness,
        Blend(1 + contrast, 1.0 - (1 + contrast)),
        Blend(1 + saturation, 1.0 - (1 + saturation)),
        hue,
    )


def jittered(pixels: torch.Tensor, jitter: Jitter, *, wide: bool) -> torch.Tensor:
    """Brightness, contrast, saturation and hue of pixels uint8 (…, 3, H, W), in this order.

    `wide`: a hue may be shifted by more than a sixth of a turn. A hue that is a number and 0 is left alone.
    """
    # whole numbers, but in float32 from step to step: conversions take as long as what is computed
    values = _whole(pixels.to(torch.float32).mul_(jitter.brightness))
    values = _whole(_contrasted(values, jitter.contrast))
    pixels = _bytes(_saturated(values, jitter.saturation))
    if isinstance(jitter.hue, torch.Tensor) or jitter.hue:
        pixels = shift_hue(pixels, jitter.hue, wide=wide)
    return pixels


def grey_level(pixels: torch.Tensor) -> torch.Tensor:
    """Whole grey levels of (…, 3, H, W) as float32 (…, 1, H, W)."""
    values = pixels.to(torch.float32, memory_format=torch.contiguous_format)
    red, green, blue = values.unbind(-3)
    grey = red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)
    return grey.unsqueeze(-3).floor_()


def greyscale(pixels: torch.Tensor) -> torch.Tensor:
    """The same grey level in all channels, uint8 (…, 3, H, W)."""
    return grey_level(pixels).to(pixels.dtype).expand(pixels.shape)


def adjust_brightness(pixels: torch.Tensor, factor: Factor) -> torch.Tensor:
    """Pixels uint8 · factor."""
    return _bytes(pixels.to(torch.float32).mul_(factor))


def adjust_contrast(pixels: torch.Tensor, blend: Blend) -> torch.Tensor:
    """Mix pixels uint8 (…, 3, H, W) with the mean grey level of each frame."""
    return _bytes(_contrasted(pixels.to(torch.float32), blend))


def adjust_saturation(pixels: torch.Tensor, blend: Blend) -> torch.Tensor:
    """Mix pixels uint8 (…, 3, H, W) with their grey levels."""
    return _bytes(_saturated(pixels.to(torch.float32), blend))


def _contrasted(values: torch.Tensor, blend: Blend) -> torch.Tensor:
    """Whole numbers in float32, which are written over, mixed with the mean grey level of each frame."""
    grey = grey_level(values)
    # a sum of whole numbers, which is the same in any order; `mean` multiplies by 1/n on a GPU
    mean = grey.sum((-3, -2, -1), keepdim=True).div_(grey.shape[-2] * grey.shape[-1])
    return _mix_(values, mean, blend)


def _saturated(values: torch.Tensor, blend: Blend) -> torch.Tensor:
    """Whole numbers in float32, which are written over, mixed with their grey levels."""
    return _mix_(values, grey_level(values), blend)


def _mix_(values: torch.Tensor, other: torch.Tensor, blend: Blend) -> torch.Tensor:
    values.mul_(blend.factor)
    if isinstance(blend.rest, torch.Tensor):
        return values.addcmul_(other, blend.rest)
    return values.add_(other, alpha=blend.rest)


def _whole(values: torch.Tensor) -> torch.Tensor:
    """The numbers of `_bytes`, still in float32."""
    return values.clamp_(0, 255).floor_()


def _bytes(values: torch.Tensor) -> torch.Tensor:
    """Values as uint8, cut to its range and rounded down; four times as fast on a CPU by way of int16."""
    return values.clamp_(0, 255).to(torch.int16).to(torch.uint8)


def shift_hue(pixels: torch.Tensor, shift: Factor, *, wide: bool = True) -> torch.Tensor:
    """Turn the hue of pixels uint8 (…, 3, H, W) by `shift` turns; their largest and smallest value stay.

    Times the range c of a pixel's values, its hue is a whole number in [-3c, 3c] (0 = red, 2c = green,
    -2c = blue), and a channel is a trapezium of the distance between the hue and its own: `shift` · 6c,
    rounded, is the only number that is not whole. `wide` = False is faster, for at most MOST_NARROW.
    """
    red, green, blue = pixels.unbind(-3)
    largest = torch.maximum(torch.maximum(red, green), blue)
    smallest = torch.minimum(torch.minimum(red, green), blue)
    chroma = (largest - smallest).to(torch.int16)
    is_red, is_green = red == largest, green == largest
    red, green, blue = (one.to(torch.int16) for one in (red, green, blue))
    twice = chroma * 2
    hue = _chosen(is_red, green - blue, _chosen(is_green, blue - red + twice, red - green - twice))
    six = shift.squeeze(-3) * 6 if isinstance(shift, torch.Tensor) else shift * 6
    hue += chroma.mul(six).round_().to(torch.int16)
    bottom, low, high = smallest - chroma, smallest.to(torch.int16), largest.to(torch.int16)
    thrice, out = twice + chroma, torch.empty(pixels.shape, dtype=torch.uint8, device=pixels.device)
    for channel, distance in enumerate((hue, hue - twice, hue + twice)):
        # |x - 3c| - c of a distance up to 6c is the trapezium's height, below 0 and above c too
        height = distance.abs_()
        if wide:  # a distance may be up to 9c, and so may be one from the next turn
            height = height.sub_(thrice * 2).abs_()
        height = height.sub_(thrice).abs_().add_(bottom)
        out.select(-3, channel).copy_(torch.clamp(height, low, high))
    return out


def _chosen(mask: torch.Tensor, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """`torch.where` of whole numbers; half the time on a CPU. `one` is written over."""
    return one.bitwise_xor_(other).bitwise_and_(mask.to(torch.int16).neg_()).bitwise_xor_(other)
