"""`VideoClips`: the views of a decoded video as the tensors that a model encodes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vidprompt.data.clips.reading import to_clip
from vidprompt.data.clips.testing import spatial_crops
from vidprompt.prediction.clip_input import ClipInput
from vidprompt.prediction.decoding import DecodedVideo, Numbers, stack_clips


@dataclass(frozen=True)
class VideoClips:
    """The clips of one video.

    `clips`: (views, T, 3, S, S) in [0, 255], views being clips × crops; `numbers` and `times` (clips, T):
    which frames of the video, and when they are shown, in seconds. `n_frames`, `duration` (seconds): of the
    video. `note`: a sentence on damage, or "".
    """

    clips: torch.Tensor
    numbers: Numbers
    times: NDArray[np.float64]
    n_frames: int
    duration: float
    note: str = ""


def video_clips(
    video: DecodedVideo, settings: ClipInput, name: str = "", numbers: Numbers | None = None
) -> VideoClips:
    """Cut the clips of a decoded video, as `data.clips.testing.TestClips` does from the frame cache.

    `numbers` (clips, T): other frames than those of the whole video, of a part of it.
    """
    numbers = settings.clips(video.n_frames, name) if numbers is None else numbers
    views = replace(settings.views, crops=1) if settings.whole else settings.views
    crops = [
        spatial_crops(to_clip(stack_clips(video, clip)), settings.image_size, views)
        for clip in numbers
    ]
    return VideoClips(
        clips=torch.cat(crops),
        numbers=numbers,
        times=video.times[np.searchsorted(video.numbers, numbers)],
        n_frames=video.n_frames,
        duration=video.duration,
        note=video.note,
    )
