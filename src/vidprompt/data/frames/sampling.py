"""Choose the frames of a clip: pure functions of the frame counts, the seed, the epoch and the video.

Frames are numbered from 0 in the video itself, whichever of them are cached.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprompt.system.errors import DataError, UserError
from vidprompt.system.suggestions import check_choice, suggestion

Numbers = NDArray[np.int64]  # of frames
SAMPLINGS = ("segment", "dense")
TRAINING_SAMPLINGS = (*SAMPLINGS, "centre")
INDICES = ("released", "even")
ORDERS = ("forward", "reversed", "shuffled")
PRECISIONS = ("no", "tf32", "bf16", "fp16")
INTERPOLATIONS = ("bilinear", "bicubic")
RESIZE_INPUT = 224  # pixels of the input that `Views.resize` is given for


def clip_rng(seed: int, epoch: int, video_id: str) -> np.random.Generator:
    """The random generator of one video in one epoch, the same in every process."""
    return np.random.default_rng([seed, epoch, zlib.crc32(video_id.encode())])


def segment_frames(
    n_frames: int,
    num_frames: int,
    *,
    offset: tuple[int, int] = (1, 2),
    indices: str = "released",
) -> Numbers:
    """One frame of each of T = `num_frames` equal segments, (T,), ascending (TSN, as EZ-CLIP samples).

    `released`: floor((i + f) · n / T - 1/2) of segment i, where f is the fraction `offset`: for 1/2 the
    segment's middle minus a half. A video of T frames or fewer: floor(i · n / T); T = 1: floor(n / 2).
    Source: EZ-CLIP, `datasets/datasets.py`, `_get_val_indices` (f = 1/2; its files count from 1).
    `even`: floor((i + f) · n / T), whatever the length.
    """
    part, of = offset
    segment = np.arange(num_frames)
    middles = (of * segment + part) * n_frames  # in units of 1 / (of · T) frames
    if indices == "even":
        return middles // (of * num_frames)
    if num_frames == 1 and offset == (1, 2):
        return np.array([n_frames // 2])
    if n_frames <= num_frames:
        return segment * n_frames // num_frames
    return np.maximum(0, (2 * middles - of * num_frames) // (2 * of * num_frames))


def dense_frames(
    n_frames: int, num_frames: int, stride: int, clips: int = 1, *, indices: str = "released"
) -> Numbers:
    """Clips of frames `stride` apart, spread over the video: (clips, num_frames).

    `released`: starts are rounded (halves to even), one clip starts at floor(room / 2); a shorter video
    stands still on its last frame. Source: Vita-CLIP, `video_dataset/dataset.py`,
    `_generate_temporal_crops`. `even`: starts are rounded down, and a shorter video begins again.
    """
    room = max(0, n_frames - (num_frames - 1) * stride - 1)
    if clips == 1:
        starts = [room // 2]
    elif indices == "even":
        starts = [clip * room // (clips - 1) for clip in range(clips)]
    else:
        starts = [round(room / (clips - 1) * clip) for clip in range(clips)]
    numbers = np.array(starts)[:, None] + stride * np.arange(num_frames)
    return numbers % n_frames if indices == "even" else np.minimum(numbers, n_frames - 1)


def training_frames(
    sampling: str,
    n_frames: int,
    num_frames: int,
    stride: int,
    rng: np.random.Generator,
    *,
    cached: Numbers | None = None,
    indices: str = "released",
) -> Numbers:
    """Frames of a training clip, (num_frames,), by `sampling` (one of TRAINING_SAMPLINGS).

    `segment`: a random frame of every segment, of those that are `cached` (ascending; None: all are).
    `released` (EZ-CLIP, `_sample_indices`): segment i begins at floor(i · n / T); of a video of T frames or
    fewer all frames and T - n of them again, in order. `even`: equal segments of real length.
    `dense`: frames `stride` apart from a random start. A shorter video stands still on the last of these
    that it has (`released`: Vita-CLIP, `_random_sample_frame_idx`) or begins again (`even`).
    `centre`: as a test's `segment`, always the same clip (EZ-CLIP's few-shot and base-to-novel).

    Only `segment` keeps to `cached`. Raises DataError where a segment has no cached frame.
    """
    if sampling == "centre":
        return segment_frames(n_frames, num_frames, indices=indices)
    if sampling == "dense":
        room = max(0, n_frames - (num_frames - 1) * stride - 1)
        numbers = int(rng.integers(room + 1)) + stride * np.arange(num_frames)
        if indices == "even":
            return numbers % n_frames
        return numbers if room else np.minimum(numbers, (n_frames - 1) // stride * stride)
    if cached is None:
        cached = np.arange(n_frames)
    if indices == "even":
        begins = np.linspace(0, n_frames, num_frames + 1)
        drawn = (begins[:-1] + rng.random(num_frames) * np.diff(begins)).astype(np.int64)
        return _nearest(cached, np.minimum(drawn, n_frames - 1))
    if n_frames <= num_frames:
        again = rng.integers(n_frames, size=num_frames - n_frames)
        return np.sort(np.concatenate([np.arange(n_frames), again]))
    edges = np.searchsorted(cached, np.arange(num_frames + 1) * n_frames // num_frames)
    if (np.diff(edges) == 0).any():
        raise DataError(
            f"{len(cached)} of {n_frames} frames are cached, and some of {num_frames} segments have none: "
            "raise `frames` in params/frames, or set frames=all, and run the frames stage again"
        )
    return cached[rng.integers(edges[:-1], edges[1:])]


def _nearest(cached: Numbers, numbers: Numbers) -> Numbers:
    """The cached frame nearest to each number; of two, the earlier one."""
    after = np.searchsorted(cached, numbers).clip(1, max(1, len(cached) - 1))
    before, after = cached[after - 1], cached[after % len(cached)]
    return np.where(numbers - before <= after - numbers, before, after)


@dataclass(frozen=True)
class TestFrames:
    """The frames that a kind of test looks at: as `method.num_frames` and the keys of `Views`."""

    __test__ = False  # not a test class, though pytest would collect it

    num_frames: int
    sampling: str = "segment"
    stride: int = 1
    clips: int = 1

    @classmethod
    def of(cls, values: Mapping[str, Any] | TestFrames) -> TestFrames:
        """As a file of params/frames has it. Raises UserError."""
        if isinstance(values, TestFrames):
            return values
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise UserError(f"frames.tests: unknown key {key!r}: {suggestion(key, known)}")
        if "num_frames" not in values:
            raise UserError(f"frames.tests: {dict(values)} has no num_frames")
        test = cls(**values)
        test.frames(1)  # checks the values
        return test

    def frames(self, n_frames: int) -> Numbers:
        """Their numbers, with repeats."""
        views = Views(self.sampling, self.stride, self.clips)
        return views.frames(n_frames, self.num_frames).ravel()


@lru_cache(maxsize=4096)
def cached_frames(
    n_frames: int, frames: int | None, tests: tuple[TestFrames, ...] = ()
) -> tuple[int, ...]:
    """The numbers of the frames that are cached of a video, ascending.

    All that `tests` look at, and where these are fewer than `frames`, so many others that there are
    `frames` in all, evenly in the gaps between them. All frames where there are no more, or `frames` is
    None.
    """
    if frames is None or n_frames <= frames:
        return tuple(range(n_frames))
    looked_at = {int(number) for test in tests for number in test.frames(n_frames)}
    edges = np.array([-1, *sorted(looked_at), n_frames])
    added = np.zeros(len(edges) - 1, np.int64)  # in each gap
    for _ in range(frames - len(looked_at)):
        added[np.argmax(np.diff(edges) / (added + 1))] += 1
    between = [
        first + (last - first) * np.arange(1, count + 1) // (count + 1)
        for first, last, count in zip(edges[:-1], edges[1:], added, strict=True)
    ]
    return tuple(sorted(looked_at.union(*(numbers.tolist() for numbers in between))))


@dataclass(frozen=True)
class Views:
    """The views of a test video: `clips` in time × `crops` in space. Raises UserError for wrong values.

    `segment`: clip k takes the frame at (2k + 1) / (2 clips) of every segment, so one clip takes the
    centres. `dense`: frames `stride` apart, the clips' starts evenly spread over the video (one clip:
    in its middle). `indices`: `released` or `even`, see `segment_frames` and `dense_frames`.

    `resize`: the short side in pixels before the crop, of a model whose input is 224 wide; of another in
    proportion, `input · resize // 224` as EZ-CLIP has it. None: as wide as the input.
    `interpolation` of resizing: `bilinear` or `bicubic`. `antialias`: true as Pillow resizes, to 8 bits;
    false as PyTorch's `interpolate` does, without rounding, and crops' places are rounded down
    (Vita-CLIP). `crops`: 1 (centre) or 3 (along the longer side).

    `order` of a clip's frames, to test a model's use of time: `forward`, `reversed`, or `shuffled` (every
    order is equally likely). Nothing is random: a video is shuffled the same way each time.
    `precision` of the model: `no` is float32, `tf32` that with TF32 on a GPU, else autocast to bf16 or fp16.
    """

    sampling: str = "segment"
    stride: int = 1
    clips: int = 1
    crops: int = 1
    order: str = "forward"
    precision: str = "no"
    indices: str = "released"
    resize: int | None = None
    interpolation: str = "bicubic"
    antialias: bool = True

    def __post_init__(self) -> None:
        for what, value, choices in (
            ("sampling", self.sampling, SAMPLINGS),
            ("order", self.order, ORDERS),
            ("precision", self.precision, PRECISIONS),
            ("indices", self.indices, INDICES),
            ("interpolation", self.interpolation, INTERPOLATIONS),
        ):
            check_choice(what, value, choices)
        if self.crops not in (1, 3) or min(self.clips, self.stride) < 1:
            raise UserError(
                f"views are 1 or more clips × 1 or 3 crops with a stride of at least 1, not {self}"
            )
        if self.resize is not None and self.resize < RESIZE_INPUT:
            raise UserError(
                f"views.resize={self.resize}: null, or at least {RESIZE_INPUT}, which is cropped"
            )

    def frames(self, n_frames: int, num_frames: int, video_id: str = "") -> Numbers:
        """Frames of all clips, (clips, num_frames), in `order`; only `shuffled` uses `video_id`."""
        return self.ordered(self._forward(n_frames, num_frames), video_id)

    def ordered(self, clips: Numbers, video_id: str) -> Numbers:
        """The clips of a video, (n, num_frames), with the frames of each in `order`."""
        if self.order == "reversed":
            return clips[:, ::-1]
        if self.order == "shuffled":
            return np.stack([clip_rng(0, k, video_id).permutation(c) for k, c in enumerate(clips)])
        return clips

    def short_side(self, size: int) -> int:
        """The short side before the crop, in pixels, of a model whose input is `size` wide."""
        return size if self.resize is None else size * self.resize // RESIZE_INPUT

    def _forward(self, n_frames: int, num_frames: int) -> Numbers:
        if self.sampling == "dense":
            return dense_frames(n_frames, num_frames, self.stride, self.clips, indices=self.indices)
        offsets = [(2 * k + 1, 2 * self.clips) for k in range(self.clips)]
        return np.stack(
            [
                segment_frames(n_frames, num_frames, offset=offset, indices=self.indices)
                for offset in offsets
            ]
        )


def tracklet_clips(n_frames: int, num_frames: int = 8, stride: int = 4) -> Numbers:
    """Frames of clips that cover a tracklet, (clips, num_frames): re-identification's `@all-frames`.

    Blocks of num_frames · stride frames give `stride` interleaved clips each; what is left is taken
    with the largest stride that fits, and a last short piece is repeated from its beginning until it
    is a clip. Every frame is in at least one clip. Source: the CCVID evaluation of Gu et al.,
    CVPR 2022 (Simple-CCReID).
    """
    clips = []
    block = num_frames * stride
    start = 0
    while start < n_frames:
        left = n_frames - start
        step = min(stride, left // num_frames)
        if step == 0:  # a short piece
            clips.append(start + np.arange(num_frames) % left)
            break
        clips += [start + i + step * np.arange(num_frames) for i in range(step)]
        start += block if step == stride else step * num_frames
    return np.stack(clips).astype(np.int64)
