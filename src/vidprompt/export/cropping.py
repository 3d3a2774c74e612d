"""Resize and crop frames with NumPy and Pillow: `data.clips.testing.spatial_crops` without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidprompt.data.frames.sampling import Views

Frames = NDArray[np.uint8]  # (n, H, W, 3) RGB
Pixels = NDArray[Any]  # uint8 or float32
_BICUBIC_A = -0.75  # PyTorch's; Pillow's is -0.5


def crop_frames(frames: Frames, size: int, views: Views) -> Pixels:
    """Frames (T, H, W, 3) → (crops, T, 3, size, size) in [0, 255], as `spatial_crops` makes them.

    With `views.antialias` uint8 and the same values; otherwise float32, equal but for rounding (below
    0.002 of 255).
    """
    height, width = frames.shape[1:3]
    short = views.short_side(size)
    target = height * short // min(height, width), width * short // min(height, width)
    resized: Pixels = frames
    if not views.antialias:
        resized = _interpolated(frames, target, views.interpolation)
    elif target != (height, width):
        kind = Image.Resampling[views.interpolation.upper()]
        pictures = [Image.fromarray(one).resize(target[::-1], kind) for one in frames]
        resized = np.stack([np.asarray(picture) for picture in pictures])
    rest = target[0] - size, target[1] - size
    along_height = target[0] >= target[1]
    crops = []
    for place in range(views.crops) if views.crops > 1 else [1]:
        steps = (place, 1) if along_height else (1, place)
        # half of it is rounded as torchvision does, halves to even, or down as Vita-CLIP does
        y, x = (
            round(r * k / 2) if views.antialias else r * k // 2
            for r, k in zip(rest, steps, strict=True)
        )
        crops.append(resized[:, y : y + size, x : x + size].transpose(0, 3, 1, 2))
    return np.stack(crops)


def _interpolated(frames: Frames, target: tuple[int, int], mode: str) -> NDArray[np.float32]:
    """(T, H, W, 3) → float32 (T, *target, 3), as `torch.nn.functional.interpolate` does."""
    rows, columns = (
        _weights(new, old, mode) for new, old in zip(target, frames.shape[1:3], strict=True)
    )
    out = np.einsum("ih,thwc->tiwc", rows, frames.astype(np.float32), optimize=True)
    return np.einsum("jw,tiwc->tijc", columns, out, optimize=True).astype(np.float32)


def _weights(new: int, old: int, mode: str) -> NDArray[np.float32]:
    """What each of `new` pixels takes of each of `old` along one axis, (new, old)."""
    half = np.float32(0.5)  # PyTorch computes places in float32
    centre = (np.arange(new, dtype=np.float32) + half) * np.float32(old / new) - half
    if mode == "bilinear":
        centre = centre.clip(0, None)
        offsets = np.arange(2)
    else:
        offsets = np.arange(-1, 3)
    first = np.floor(centre)
    distance = np.abs(centre[:, None] - (first[:, None] + offsets))
    share = 1 - distance if mode == "bilinear" else _cubic(distance)
    source = (first[:, None].astype(np.int64) + offsets).clip(0, old - 1)
    weights = np.zeros((new, old), np.float32)
    np.add.at(weights, (np.arange(new)[:, None], source), share.astype(np.float32))
    return weights


def _cubic(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keys' cubic kernel at distances 0 ≤ x ≤ 2."""
    a = _BICUBIC_A
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, far)
