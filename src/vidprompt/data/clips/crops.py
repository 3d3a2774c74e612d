"""Random boxes (top, left, height, width) for training: of crops, and of what is erased."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Box = tuple[int, int, int, int]
TRIES = 10


def multi_scale_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    scales: Sequence[float] = (1.0,),
    distort: int = 0,
    fixed_places: bool = False,
) -> Box:
    """A box whose sides are shares of the picture's short side.

    `scales`: the shares. `distort`: height and width may be so many places apart in `scales`
    (0: squares). `fixed_places`: at one of 13 places (a 5 × 5 grid's corners, centre, middles of its
    sides, and its inner corners) instead of anywhere. Source: the multi-scale and corner cropping of
    TSN (Wang et al., ECCV 2016), as EZ-CLIP uses it with `distort` 1 and `fixed_places`: sides and steps
    of the grid are rounded down, as in its datasets/transforms_ss.py.
    """
    short = min(height, width)
    if distort:
        pairs = [
            (one, other)
            for i, one in enumerate(scales)
            for j, other in enumerate(scales)
            if abs(i - j) <= distort
        ]
        shares = pairs[int(rng.integers(len(pairs)))]
    else:
        shares = (float(rng.choice(scales)),) * 2
    tall, wide = int(short * shares[0]), int(short * shares[1])
    if fixed_places:
        row, column = _PLACES[int(rng.integers(len(_PLACES)))]
        return (height - tall) // 4 * row, (width - wide) // 4 * column, tall, wide
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    return top, left, tall, wide


_PLACES = [
    *((row, column) for row in (0, 2, 4) for column in (0, 2, 4)),
    *((row, column) for row in (1, 3) for column in (1, 3)),
]


def resized_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    area: Sequence[float],
    ratio: Sequence[float],
) -> Box:
    """A box of a random area and shape anywhere in the picture.

    `area`: smallest and largest share of the picture's. `ratio`: smallest and largest width / height;
    its logarithm is uniform. Where none fits in ten tries, the largest box in the middle with a ratio
    in the range. Source: the crop of Inception (Szegedy et al., CVPR 2015), as in torchvision.
    """
    logs = np.log(ratio)
    for _ in range(TRIES):
        pixels = height * width * rng.uniform(area[0], area[1])
        shape = math.exp(rng.uniform(logs[0], logs[1]))
        wide, tall = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
        if 0 < wide <= width and 0 < tall <= height:
            top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
            return top, left, tall, wide
    shape = min(max(width / height, ratio[0]), ratio[1])
    wide, tall = min(width, round(height * shape)), min(height, round(width / shape))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def erased_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    area: Sequence[float],
    ratio: Sequence[float],
) -> Box:
    """A box smaller than the picture, for random erasing.

    `area`: smallest and largest share of the picture's. `ratio`: smallest and largest height / width. Both
    are uniform, and drawn again until the box fits; empty if none does in a hundred tries. Source: algorithm
    1 of Zhong et al. (AAAI 2020; arXiv 1708.04896).
    """
    for _ in range(10 * TRIES):
        pixels = height * width * rng.uniform(area[0], area[1])
        shape = rng.uniform(ratio[0], ratio[1])
        tall, wide = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
        if tall < height and wide < width:
            top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
            return top, left, tall, wide
    return 0, 0, 0, 0
