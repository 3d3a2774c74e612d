"""`TestClips`: a dataset of test clips, the views (clips × crops) of each video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from vidprompt.data.clips.reading import cached_rows, one_row_a_length, read_clip, to_clip
from vidprompt.data.frames.cache import FrameCache
from vidprompt.data.frames.sampling import Views, tracklet_clips
from vidprompt.system.errors import DataError


def spatial_crops(clip: torch.Tensor, size: int, views: Views) -> torch.Tensor:
    """Resize and crop as `views` say: uint8 (T, 3, H, W) → (crops, T, 3, size, size) in [0, 255].

    The short side becomes `views.short_side(size)`, the long side is rounded down. 1 crop: the centre;
    3 crops: the beginning, middle and end of the longer side, the other side in its middle. uint8, equal
    to torchvision's `Resize` and `CenterCrop` of Pillow images (EZ-CLIP, `utils/Augmentation.py`); with
    `views.antialias` false float32, equal to Vita-CLIP's `video_dataset/dataset.py`.
    """
    height, width = clip.shape[-2:]
    short = views.short_side(size)
    target = height * short // min(height, width), width * short // min(height, width)
    if not views.antialias:
        mode = views.interpolation
        clip = interpolate(clip.float(), target, mode=mode, align_corners=False)
    elif target != (height, width):
        clip = _resized_by_pillow(clip, target, views.interpolation)
    rest = target[0] - size, target[1] - size
    along_height = target[0] >= target[1]
    corners = []
    for place in range(views.crops) if views.crops > 1 else [1]:
        places = (place, 1) if along_height else (1, place)
        corners.append([_half(r * k, views.antialias) for r, k in zip(rest, places, strict=True)])
    return torch.stack([clip[..., y : y + size, x : x + size] for y, x in corners])


def _half(pixels: int, rounded: bool) -> int:
    """Half of it, rounded (halves to even, as torchvision) or rounded down (as Vita-CLIP)."""
    return round(pixels / 2) if rounded else pixels // 2


def _resized_by_pillow(
    clip: torch.Tensor, target: tuple[int, int], interpolation: str
) -> torch.Tensor:
    """uint8 (T, 3, H, W) → (T, 3, *target). torchvision's own uint8 kernels differ from Pillow by one level
    in a value of 200."""
    kind = Image.Resampling[interpolation.upper()]
    frames = clip.permute(0, 2, 3, 1).numpy()
    resized = [np.asarray(Image.fromarray(one).resize(target[::-1], kind)) for one in frames]
    return to_clip(np.stack(resized))


class TestClips(Dataset):
    """Clips of test videos: item i is a clip, (crops, T, 3, size, size) in [0, 255], of video `owner[i]`.

    The clips of video v are the items from `first[v]` to `first[v + 1]`. Each video has its `views`; with
    `whole`, clips that cover all frames (re-identification), and of the views only how they order frames,
    resize and crop the centre. Raises DataError for a video that is not in the frame cache, or of which a
    frame that is looked at is not.
    """

    __test__ = False  # not a test class, though pytest would collect it

    def __init__(
        self,
        cache: Path | str,
        videos: Sequence[str],
        *,
        num_frames: int,
        size: int,
        views: Views | None = None,
        whole: bool = False,
    ) -> None:
        self.cache = FrameCache(cache)
        self.rows = cached_rows(self.cache, videos)
        self.num_frames, self.size, self.whole = num_frames, size, whole
        self.views = views or Views()
        if whole:
            self.views = replace(self.views, crops=1)
        self.crops = self.views.crops
        counts = [self._count_clips(int(row)) for row in self.rows] if whole else self.views.clips
        self.owner = np.repeat(np.arange(len(self.rows)), counts)
        self.first = np.searchsorted(self.owner, np.arange(len(self.rows) + 1))
        self._last = -1, np.empty((0, 0), np.int64)
        for row in [] if whole else one_row_a_length(self.cache, self.rows):
            self._positions(row)

    def _count_clips(self, row: int) -> int:
        """How many clips cover all frames of a video."""
        cached, source = self.cache.num_frames(row), self.cache.num_source_frames(row)
        if cached < source:
            raise DataError(
                f"{self.cache.video_id(row)}: {cached} of {source} frames are cached, and all are "
                "needed: set frames to null for its source in params/frames and cache them again"
            )
        return -(-cached // self.num_frames)

    def _positions(self, row: int) -> np.ndarray:
        """Where the frames of a video's clips are in the cache, (clips, T); kept for its next clip."""
        if self._last[0] != row:
            n_frames, name = self.cache.num_source_frames(row), self.cache.video_id(row)
            if self.whole:
                clips = self.views.ordered(tracklet_clips(n_frames, self.num_frames), name)
            else:
                clips = self.views.frames(n_frames, self.num_frames, name)
            self._last = row, self.cache.positions(row, clips)
        return self._last[1]

    @property
    def item_bytes(self) -> int:
        """Bytes of an item."""
        return self.crops * self.num_frames * 3 * self.size**2 * (1 if self.views.antialias else 4)

    def __len__(self) -> int:
        return len(self.owner)

    def __getitem__(self, item: int) -> torch.Tensor:
        video = int(self.owner[item])
        row = int(self.rows[video])
        clip = read_clip(self.cache, row, self._positions(row)[item - self.first[video]])
        return spatial_crops(clip, self.size, self.views)
