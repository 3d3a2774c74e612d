"""Crops by NumPy and Pillow are those of `spatial_crops`, with torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidprompt.data.clips.reading import to_clip
from vidprompt.data.clips.testing import spatial_crops
from vidprompt.data.frames.sampling import Views
from vidprompt.export.cropping import crop_frames

SIZES = [(48, 64), (65, 47), (33, 33), (20, 90), (300, 123)]


def frames(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("resize", [None, 256])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_antialiased_crops_are_equal(
    size: tuple[int, int], crops: int, resize: int | None, interpolation: str
) -> None:
    views = Views(crops=crops, resize=resize, interpolation=interpolation)
    mine = crop_frames(frames(*size), 33, views)
    theirs = spatial_crops(to_clip(frames(*size)), 33, views)
    assert mine.dtype == np.uint8
    np.testing.assert_array_equal(mine, theirs.numpy())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_without_antialiasing_are_torchs_interpolation(
    size: tuple[int, int], crops: int, interpolation: str
) -> None:
    views = Views(crops=crops, resize=256, interpolation=interpolation, antialias=False)
    mine = crop_frames(frames(*size), 33, views)
    theirs = spatial_crops(to_clip(frames(*size)), 33, views)
    assert mine.dtype == np.float32
    assert theirs.dtype == torch.float32
    np.testing.assert_allclose(mine, theirs.numpy(), atol=2e-3)
