"""`TestClips`: a dataset of test clips, the views (clips × crops) of each video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from vidprompt.data.clips.reading import cached_rows, read_clip
from vidprompt.data.frames.cache import FrameCache
from vidprompt.data.frames.sampling import Views, tracklet_clips
from vidprompt.system.errors import DataError


def spatial_crops(clip: torch.Tensor, size: int, crops: int = 1) -> torch.Tensor:
    """Resize the short side to `size`, then crop: uint8 (T, 3, H, W) → (crops, T, 3, size, size).

    1 crop: the centre; 3 crops: the beginning, middle and end of the longer side.
    """
    height, width = clip.shape[-2:]
    if min(height, width) != size:
        clip = F.resize(clip, [size], antialias=True)
        height, width = clip.shape[-2:]
    if crops == 1:
        return F.center_crop(clip, [size, size])[None]
    rest = height - size, width - size
    corners = [(round(rest[0] * k / 2), round(rest[1] * k / 2)) for k in range(crops)]
    return torch.stack([clip[..., y : y + size, x : x + size] for y, x in corners])


class TestClips(Dataset):
    """Clips of test videos: item i is a clip, uint8 (crops, T, 3, size, size), of video `owner[i]`.

    The clips of video v are the items from `first[v]` to `first[v + 1]`. Each video has its `views`; with
    `whole`, clips that cover all frames (re-identification), and only the order of the views is used.
    Raises DataError for a video that is not in the frame cache, and with `whole` for one of which only
    some frames are cached.
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
        self.crops = 1 if whole else self.views.crops
        counts = [self._count_clips(int(row)) for row in self.rows] if whole else self.views.clips
        self.owner = np.repeat(np.arange(len(self.rows)), counts)
        self.first = np.searchsorted(self.owner, np.arange(len(self.rows) + 1))
        self._last = -1, np.empty((0, 0), np.int64)

    def _count_clips(self, row: int) -> int:
        """How many clips cover all frames of a video."""
        cached, source = self.cache.num_frames(row), self.cache.num_source_frames(row)
        if cached < source:
            raise DataError(
                f"{self.cache.video_id(row)}: {cached} of {source} frames are cached, and all are "
                "needed: set frames to null for its source in params/frames and cache them again"
            )
        return -(-cached // self.num_frames)

    def _positions(self, video: int) -> np.ndarray:
        """Positions of all clips of a video, (clips, T); the last video's are kept for its next clip."""
        if self._last[0] != video:
            row = int(self.rows[video])
            available, name = self.cache.num_frames(row), self.cache.video_id(row)
            if self.whole:
                clips = self.views.ordered(tracklet_clips(available, self.num_frames), name)
            else:
                clips = self.views.positions(available, self.num_frames, name)
            self._last = video, clips
        return self._last[1]

    def __len__(self) -> int:
        return len(self.owner)

    def __getitem__(self, item: int) -> torch.Tensor:
        video = int(self.owner[item])
        positions = self._positions(video)[item - self.first[video]]
        clip = read_clip(self.cache, int(self.rows[video]), positions)
        return spatial_crops(clip, self.size, self.crops)
