"""Put the relevance of a model's crops back on the frames of the video that they were cut from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vidprompt.data.clips.testing import spatial_crops
from vidprompt.data.frames.sampling import Numbers, Views

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """A rectangle of a picture, in fractions of its width and height."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0

    def pixels(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in a picture of this size."""
        return self.left * width, self.top * height, self.right * width, self.bottom * height


@dataclass(frozen=True)
class FrameRelevance:
    """The relevance of the frames of a video that a model looked at, each once, in their order.

    `numbers` (F,): which frames. `temporal` (F,): their shares, which sum to 1. `spatial` (F, rows, columns):
    the shares of a frame's cells, which sum to the frame's. The cells divide `region`, the part of each
    frame that the model saw.
    """

    numbers: Numbers
    temporal: Array
    spatial: Array
    region: Region


def crop_regions(height: int, width: int, size: int, views: Views) -> list[Region]:
    """Where in a frame of this height and width the crops of `data.clips.testing.spatial_crops` are."""
    short = views.short_side(size)
    rows, columns = height * short // min(height, width), width * short // min(height, width)
    # crops of a picture whose values are the places: not a second formula, which could differ
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    crops = spatial_crops(torch.stack([y, x])[None].float(), size, views)
    corners = crops[:, 0, :, 0, 0].round().tolist()
    return [
        Region(left / columns, top / rows, (left + size) / columns, (top + size) / rows)
        for top, left in corners
    ]


def frame_relevance(
    spatial: NDArray[np.float32], numbers: Numbers, regions: Sequence[Region]
) -> FrameRelevance:
    """The mean over the views of a video, frame by frame.

    Args:
        spatial: (clips · crops, T, rows, columns), each view summing to 1, crops of a clip together.
        numbers: (clips, T), the frames of each clip.
        regions: of the crops.
    """
    clips, t = numbers.shape
    maps = spatial.astype(np.float64).reshape(clips, len(regions), t, *spatial.shape[-2:])
    cells, region = _on_one_grid(maps, regions)
    frames, owner = np.unique(numbers, return_inverse=True)
    total = np.zeros((len(frames), *cells.shape[-2:]))
    np.add.at(total, owner.ravel(), cells.reshape(clips * t, *cells.shape[-2:]))
    total /= total.sum() or 1.0
    return FrameRelevance(frames, total.sum((1, 2)), total, region)


def _on_one_grid(maps: Array, regions: Sequence[Region]) -> tuple[Array, Region]:
    """(clips, crops, T, rows, columns) → the sum over the crops, (clips, T, rows, columns), and its region.

    Crops lie along one side of the frame. A patch that lies in two cells of the common grid is divided
    between them by its area.
    """
    first = regions[0]
    region = Region(
        min(one.left for one in regions),
        min(one.top for one in regions),
        max(one.right for one in regions),
        max(one.bottom for one in regions),
    )
    rows, columns = maps.shape[-2:]
    high = round(rows * (region.bottom - region.top) / (first.bottom - first.top))
    wide = round(columns * (region.right - region.left) / (first.right - first.left))
    cells = np.zeros((maps.shape[0], maps.shape[2], high, wide))
    for crop, one in enumerate(regions):
        down = _overlaps(one.top, one.bottom, rows, region.top, region.bottom, high)
        along = _overlaps(one.left, one.right, columns, region.left, region.right, wide)
        cells += np.einsum("ctrk,ry,kx->ctyx", maps[:, crop], down, along)
    return cells, region


def _overlaps(
    start: float, end: float, parts: int, whole_start: float, whole_end: float, cells: int
) -> Array:
    """(parts, cells): which fraction of each of `parts` from start to end is in each of the cells."""
    edges = np.linspace(start, end, parts + 1)
    borders = np.linspace(whole_start, whole_end, cells + 1)
    low = np.maximum(edges[:-1, None], borders[None, :-1])
    high = np.minimum(edges[1:, None], borders[None, 1:])
    shares: Array = np.clip(high - low, 0, None)
    return shares / shares.sum(1, keepdims=True)
