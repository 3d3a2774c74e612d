"""Colours of relevance: one scale for all frames of an explanation, and heat maps over pictures.

Relevance is drawn as a multiple of an even share: 1 × is what each cell would have if all frames and places
mattered alike. The scale begins at 0, so that an even map looks even and nothing is stretched to look
decided; it ends at a number that is written beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprompt.reporting.explanations.geometry import Array, Region

Picture = NDArray[np.uint8]  # RGB (H, W, 3)
# The upper four fifths of matplotlib's "inferno" (CC0), at even distances: lighter means more, in print and
# to the colour-blind, too
_STOPS = [
    "#420a68",
    "#6a176e",
    "#932667",
    "#bc3754",
    "#dd513a",
    "#f37819",
    "#fca50a",
    "#f6d746",
    "#fcffa4",
]
_OPAQUE = 0.85  # of the strongest colour; the picture shows through
_DARKEST, _LIGHTEST = 26, 214  # of the picture below, which is grey: all colour is relevance
_UNSEEN = 0.4  # brightness of what the model did not see
_NICE = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500)
_QUANTILE = 0.995  # of all cells: the scale need not reach to a few extreme ones


def multiples(spatial: Array) -> Array:
    """Shares of cells (F, rows, columns) that sum to 1 → multiples of an even share."""
    return spatial * spatial.size


def scale_end(maps: Iterable[Array]) -> int:
    """The multiple at which the scale ends that these maps share: a round number of at least 2.

    It is not above the largest value, and 1 cell in 200 may exceed it, as `end_label` says.
    """
    values = np.concatenate([one.ravel() for one in maps])
    wanted = float(np.quantile(values, _QUANTILE))
    return next((one for one in _NICE if one >= wanted), _NICE[-1])


def end_label(maps: Iterable[Array], end: int) -> str:
    """What is written at the end of the scale: `6×`, or `≥ 6×` where a cell exceeds it."""
    exceeded = any(float(one.max()) > end for one in maps)
    return f"{'≥ ' if exceeded else ''}{end}×"


@lru_cache(maxsize=1)
def _table() -> Array:
    """256 colours, RGB from 0 to 255."""
    stops = np.array([[int(one[i : i + 2], 16) for i in (1, 3, 5)] for one in _STOPS], float)
    places = np.linspace(0, len(stops) - 1, 256)
    return np.stack([np.interp(places, range(len(stops)), stops[:, k]) for k in range(3)], axis=1)


def colours(values: Array) -> NDArray[np.uint8]:
    """RGBA (…, 4) of values from 0 to 1: the stronger, the less transparent."""
    level = np.clip(values, 0, 1)
    rgb = _table()[(level * 255).round().astype(int)]
    alpha = 255 * _OPAQUE * np.sqrt(level)[..., None]
    return np.concatenate([rgb, alpha], axis=-1).round().astype(np.uint8)


def css_gradient() -> str:
    """The colours of the scale from left to right, for a page."""
    return f"linear-gradient(to right, {', '.join(_STOPS)})"


def scale_bar(width: int, height: int) -> Picture:
    """The colours of the scale from left to right, (height, width, 3)."""
    row = _table()[np.linspace(0, 255, width).round().astype(int)].round().astype(np.uint8)
    return np.broadcast_to(row, (height, width, 3)).copy()


def draw_heat_map(picture: Picture, cells: Array, region: Region, end: float) -> Picture:
    """The picture in grey with the heat map of its `region` on it; outside of it, it is dark.

    `cells` (rows, columns): multiples of an even share. They are drawn as they are: smooth maps would show
    places that the model cannot tell apart.
    """
    from PIL import Image

    height, width = picture.shape[:2]
    left, top, right, bottom = (round(v) for v in region.pixels(width, height))
    across, down = max(1, right - left), max(1, bottom - top)
    rows = np.arange(down) * len(cells) // down
    columns = np.arange(across) * cells.shape[1] // across
    heat = colours((cells / end)[rows][:, columns])[: height - top, : width - left].astype(float)
    grey: Any = np.asarray(Image.fromarray(picture).convert("L"), dtype=np.float64)[..., None]
    grey = _DARKEST + grey / 255 * (_LIGHTEST - _DARKEST)
    drawn = np.repeat(grey * _UNSEEN, 3, axis=2)
    inside = slice(top, top + heat.shape[0]), slice(left, left + heat.shape[1])
    alpha = heat[..., 3:] / 255
    drawn[inside] = grey[inside] * (1 - alpha) + heat[..., :3] * alpha
    result: Picture = drawn.round().clip(0, 255).astype(np.uint8)
    return result
