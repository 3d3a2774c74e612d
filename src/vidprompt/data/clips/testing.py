"""`TestClips`: the dataset of clips to test on, views (clips × crops) of each video."""

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
    """Short side to `size`, then crops: uint8 (crops, T, 3, size, size).

    1: the centre; 3: the beginning, middle and end of the longer side.
    """
    height, width = clip.shape[-2:]
    if min(height, width) != size:
        clip = F.resize(clip, [size], antialias=True)
        height, width = clip.shape[-2:]
    if crops == 1:
        return F.center_crop(clip, [size, size])[None]
    rooms = height - size, width - size
    places = [(round(rooms[0] * k / 2), round(rooms[1] * k / 2)) for k in range(crops)]
    return torch.stack([clip[..., y : y + size, x : x + size] for y, x in places])


class TestClips(Dataset):
    """Clips of videos to test: item i is a clip, `owner[i]` the number of its video.

    Items are (crops, T, 3, size, size) uint8; those of video v begin at `first[v]`, and `first` ends
    with their number. `views` for all videos, or `whole=True`: all frames in clips
    (re-identification), of the views only the order. Raises DataError for a video that is not in the
    frame cache, and with `whole` for one of which only some frames are there.
    """

    __test__ = False  # no test, whatever pytest thinks

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
        counts = [self._clips_of(int(row)) for row in self.rows] if whole else self.views.clips
        self.owner = np.repeat(np.arange(len(self.rows)), counts)
        self.first = np.searchsorted(self.owner, np.arange(len(self.rows) + 1))
        self._last = -1, np.empty((0, 0), np.int64)

    def _clips_of(self, row: int) -> int:
        cached, source = self.cache.num_frames(row), self.cache.num_source_frames(row)
        if cached < source:
            raise DataError(
                f"{self.cache.video_id(row)}: {cached} of {source} frames are cached, and all are "
                "asked for: set frames to null for its source in params/frames and cache them again"
            )
        return -(-cached // self.num_frames)

    def _positions(self, video: int) -> np.ndarray:
        """Of all clips of a video, (clips, T): kept, for its clips are asked for one after the other."""
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
