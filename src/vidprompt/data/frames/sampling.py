"""Choose the frames of a clip: pure functions of the frame counts, the seed, the epoch and the video."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice

Positions = NDArray[np.int64]
SAMPLINGS = ("segment", "dense")
ORDERS = ("forward", "reversed", "shuffled")
PRECISIONS = ("no", "bf16", "fp16")
TRAINING_SAMPLINGS = (*SAMPLINGS, "centre")


def clip_rng(seed: int, epoch: int, video_id: str) -> np.random.Generator:
    """The random generator of one video in one epoch, the same in every process."""
    return np.random.default_rng([seed, epoch, zlib.crc32(video_id.encode())])


def segment_frames(
    n_frames: int,
    num_frames: int,
    *,
    rng: np.random.Generator | None = None,
    offset: tuple[int, int] = (1, 2),
) -> Positions:
    """One frame a segment (TSN, as EZ-CLIP samples): positions in [0, n_frames), ascending.

    The video is cut into `num_frames` equal segments; with `rng` a random frame of each (training),
    without it the one at the fraction `offset` of each segment (test; 1/2 is its centre). Short
    videos repeat frames.
    """
    if rng is None:
        part, of = offset
        return (of * np.arange(num_frames) + part) * n_frames // (of * num_frames)
    edges = np.linspace(0, n_frames, num_frames + 1)
    positions = edges[:-1] + rng.random(num_frames) * (edges[1:] - edges[:-1])
    return np.minimum(positions.astype(np.int64), n_frames - 1)


def segment_centres(n_frames: int, frames: int | None) -> NDArray[np.int64]:
    """Frame numbers at the centres of `frames` equal segments; all when there are no more."""
    if frames is None or n_frames <= frames:
        return np.arange(n_frames)
    return segment_frames(n_frames, frames)


def dense_frames(n_frames: int, num_frames: int, stride: int, start: int) -> Positions:
    """`num_frames` positions `stride` apart from `start` on; a short video starts over."""
    return (start + stride * np.arange(num_frames)) % n_frames


def training_frames(
    sampling: str, n_frames: int, num_frames: int, stride: int, rng: np.random.Generator
) -> Positions:
    """Positions of a training clip, (num_frames,), by `sampling` (one of TRAINING_SAMPLINGS).

    `segment`: a random frame of every segment; `dense`: frames `stride` apart from a random start;
    `centre`: every segment's centre, always the same clip (EZ-CLIP's few-shot and base-to-novel).
    """
    if sampling == "centre":
        return segment_frames(n_frames, num_frames)
    if sampling == "segment":
        return segment_frames(n_frames, num_frames, rng=rng)
    room = max(0, n_frames - (num_frames - 1) * stride - 1)
    return dense_frames(n_frames, num_frames, stride, int(rng.integers(room + 1)))


@dataclass(frozen=True)
class Views:
    """The views of a test video: `clips` in time × `crops` in space. Raises UserError for wrong values.

    `segment`: clip k takes the frame at (2k + 1) / (2 clips) of every segment, so one clip takes the
    centres. `dense`: frames `stride` apart, the clips' starts evenly spread over the video (one clip:
    in its middle). `crops`: 1 (centre) or 3 (along the longer side). `order` of a clip's frames, to
    test a model's use of time: `forward`, `reversed`, or `shuffled` (every order is equally likely).
    Nothing is random: a video is shuffled the same way each time. `precision` of the model: `no` is
    float32, else autocast to bf16 or fp16.
    """

    sampling: str = "segment"
    stride: int = 1
    clips: int = 1
    crops: int = 1
    order: str = "forward"
    precision: str = "no"

    def __post_init__(self) -> None:
        for what, value, choices in (
            ("sampling", self.sampling, SAMPLINGS),
            ("order", self.order, ORDERS),
            ("precision", self.precision, PRECISIONS),
        ):
            check_choice(what, value, choices)
        if self.crops not in (1, 3) or min(self.clips, self.stride) < 1:
            raise UserError(
                f"views are 1 or more clips × 1 or 3 crops with a stride of at least 1, not {self}"
            )

    def positions(self, n_frames: int, num_frames: int, video_id: str = "") -> Positions:
        """Positions of all clips, (clips, num_frames), in `order`; only `shuffled` uses `video_id`."""
        return self.ordered(self._forward(n_frames, num_frames), video_id)

    def ordered(self, clips: Positions, video_id: str) -> Positions:
        """The clips of a video, (n, num_frames), with the frames of each in `order`."""
        if self.order == "reversed":
            return clips[:, ::-1]
        if self.order == "shuffled":
            return np.stack([clip_rng(0, k, video_id).permutation(c) for k, c in enumerate(clips)])
        return clips

    def _forward(self, n_frames: int, num_frames: int) -> Positions:
        if self.sampling == "segment":
            offsets = [(2 * k + 1, 2 * self.clips) for k in range(self.clips)]
            return np.stack([segment_frames(n_frames, num_frames, offset=o) for o in offsets])
        room = max(0, n_frames - (num_frames - 1) * self.stride - 1)
        last = max(1, self.clips - 1)
        starts = [room // 2] if self.clips == 1 else [k * room // last for k in range(self.clips)]
        return np.stack([dense_frames(n_frames, num_frames, self.stride, s) for s in starts])


def tracklet_clips(n_frames: int, num_frames: int = 8, stride: int = 4) -> Positions:
    """Positions of clips that cover a tracklet, (clips, num_frames): re-identification's `@all-frames`.

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
