"""A fingerprint of a video's pictures that stays nearly the same when the video is encoded again.

Of four frames, evenly spread, a grey picture of 8 × 9 cells is taken. 64 bits a frame say where it gets
brighter from left to right (a difference hash), 64 bits for each two frames say where it gets brighter in
time, so that different actions before one background differ. Small differences count as none.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

FRAMES = 4
ROWS, COLUMNS = 8, 9  # cells of a thumbnail
HEX_DIGITS = (2 * FRAMES - 1) * ROWS * (COLUMNS - 1) // 4
_SAMPLES = 8  # pixels a cell, in each direction
_BRIGHTER_IN_SPACE, _BRIGHTER_IN_TIME = 2, 6  # grey levels
_PLAIN_BITS = 16  # fewer bits of all frames together: nothing in the pictures to compare

Thumbnail = NDArray[np.float32]  # (ROWS, COLUMNS), grey levels from 0 to 255


def thumbnail(image: NDArray[np.uint8]) -> Thumbnail:
    """The mean grey of each cell of a picture, uint8 (H, W, 3) or (H, W), by a grid of its pixels."""
    height, width = image.shape[:2]
    y = (2 * np.arange(ROWS * _SAMPLES) + 1) * height // (2 * ROWS * _SAMPLES)
    x = (2 * np.arange(COLUMNS * _SAMPLES) + 1) * width // (2 * COLUMNS * _SAMPLES)
    pixels = image[y[:, None], x].astype(np.float32)
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    cells = grey.reshape(ROWS, _SAMPLES, COLUMNS, _SAMPLES).mean(axis=(1, 3))
    return np.asarray(cells, dtype=np.float32)


def frame_numbers(count: int) -> list[int]:
    """The four frames of a video of `count` frames that a fingerprint is of; some repeat in a short one."""
    return [(2 * i + 1) * count // (2 * FRAMES) for i in range(FRAMES)]


def fingerprint(thumbnails: Mapping[int, Thumbnail], count: int) -> str:
    """`HEX_DIGITS` digits, of the thumbnails nearest to the four frames (frame number → thumbnail).

    "" where there are none, or the pictures are plain (a black video would be like any other).
    """
    if not thumbnails:
        return ""
    numbers = sorted(thumbnails)
    nearest = [min(numbers, key=lambda n: abs(n - wanted)) for wanted in frame_numbers(count)]
    cells = np.stack([thumbnails[number] for number in nearest])
    space = np.diff(cells, axis=2) > _BRIGHTER_IN_SPACE
    if space.sum() < _PLAIN_BITS:
        return ""
    time = np.diff(cells[:, :, 1:], axis=0) > _BRIGHTER_IN_TIME
    return np.packbits(np.concatenate([space, time]).reshape(-1)).tobytes().hex()
