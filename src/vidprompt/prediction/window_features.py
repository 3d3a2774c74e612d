"""Encode the windows of a long video; what windows have in common is computed once.

Neighbouring windows share frames, and all methods share what is done with a frame: decoding, conversion,
resizing, its crops. Frozen CLIP's feature of a frame depends on no other frame, so each is encoded once and a
window is a mean. In EZ-CLIP and Vita-CLIP the frames of a clip attend to each other through their prompts in
every layer: another clip gives a frame another feature, and each window is encoded by itself.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from vidprompt.data.clips.reading import to_clip
from vidprompt.data.clips.testing import spatial_crops
from vidprompt.inference.encoding import map_ahead, single_threaded
from vidprompt.metrics.scores import class_probabilities
from vidprompt.metrics.unknown import class_cosines
from vidprompt.prediction.classes import ClassTexts
from vidprompt.prediction.clip_input import ClipInput
from vidprompt.prediction.decoding import Numbers
from vidprompt.prediction.hysteresis import WindowScores
from vidprompt.prediction.results import video_feature
from vidprompt.prediction.windows import VideoEnd, WindowFrames
from vidprompt.system.errors import DataError

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
Encode = Callable[[torch.Tensor], Array]
SCORED_AT_ONCE = 32
_MAX_LAG_S = 3.0  # of a stream


@dataclass(frozen=True)
class WindowFeatures:
    """A window of a video from `start` to `end`, in seconds, with its views' features (views, E).

    float32, not normalised, as `Model.encode` gives them. `numbers` (clips, T): the frames of its clips, in
    the video.
    """

    start: float
    end: float
    views: Array
    numbers: Numbers

    @property
    def feature(self) -> Array:
        """One feature of unit length, (E,)."""
        return video_feature(self.views)


def encode_windows(
    windows: Iterable[WindowFrames | VideoEnd],
    settings: ClipInput,
    device: torch.device,
    encode_clips: Encode,
    encode_frames: Encode | None = None,
    on_end: Callable[[VideoEnd], None] | None = None,
    live: bool = False,
) -> Iterator[WindowFeatures]:
    """The features of windows, in order.

    `encode_clips`: clips (n, T, 3, S, S) in [0, 255] → (n, E). `encode_frames`: frames (n, 3, S, S) → (n, E),
    for a method whose frames do not depend on each other. `live`: each window is encoded at once, and where
    the model is slower than the stream some are left out. Raises DataError for features that are not finite.
    """
    work: _ByFrame | _ByClip
    work = (
        _ByClip(settings, encode_clips)
        if encode_frames is None
        else _ByFrame(settings, encode_frames)
    )

    def prepared() -> Iterator[tuple[WindowFrames, torch.Tensor | None]]:
        for item in windows:
            if isinstance(item, VideoEnd):
                if on_end is not None:
                    on_end(item)
            else:
                yield item, work.tensor(item)

    with single_threaded(device) as threads:
        results: Generator[tuple[WindowFrames, Array | None], None, None]
        if live:
            results = _encode_live(prepared(), work)
        else:
            results = map_ahead(lambda pair: (pair[0], work.encode(pair[1])), prepared(), threads)
        with closing(results):
            for item, encoded in results:
                views = work.views(item, encoded)
                if not np.isfinite(views).all():
                    raise DataError(f"the features at {item.start:g} s are not finite numbers")
                yield WindowFeatures(item.start, item.end, views, item.numbers)


def _encode_live(
    windows: Iterator[tuple[WindowFrames, torch.Tensor | None]], work: _ByFrame | _ByClip
) -> Generator[tuple[WindowFrames, Array | None], None, None]:
    """Encode windows as they come; those that would be late are left out, if the method allows it."""
    earliest, late = math.inf, False
    for item, tensor in windows:
        behind = time.monotonic() - item.end
        earliest = min(earliest, behind)
        if behind - earliest > _MAX_LAG_S and isinstance(work, _ByClip):
            if not late:
                logger.warning("the model is slower than the stream: windows are left out")
            late = True
            work.leave_out()
        else:
            yield item, work.encode(tensor)


def score_windows(
    windows: Iterable[WindowFeatures], texts: ClassTexts, at_once: int = SCORED_AT_ONCE
) -> Iterator[WindowScores]:
    """The classes' probabilities and cosine similarities of windows, as of videos, in order.

    Some are computed together, which is faster and gives the same bits.
    """
    rest = iter(windows)
    while part := list(islice(rest, at_once)):
        views = np.stack([one.views for one in part])
        probabilities = class_probabilities(
            views, texts.features, texts.logit_scale, texts.ensemble
        )
        cosines = class_cosines(views, texts.features)
        for row, one in enumerate(part):
            yield WindowScores(one.start, one.end, probabilities[row], cosines[row])


def tee(
    scores: Iterable[WindowScores], on_window: Callable[[WindowScores], None]
) -> Iterator[WindowScores]:
    """The scores, of which `on_window` is told each."""
    for one in scores:
        on_window(one)
        yield one


class _ByClip:
    """Windows whose clips are encoded each by itself; frames share their crops."""

    def __init__(self, settings: ClipInput, encode: Encode) -> None:
        self._settings, self._encode = settings, encode
        self._crops: dict[int, torch.Tensor] = {}  # frame → (crops, 3, S, S)
        self._numbers, self._views = np.empty(0, np.int64), np.empty((0, 0), np.float32)
        self._before = self._numbers  # of the last tensor that was made

    def tensor(self, window: WindowFrames) -> torch.Tensor | None:
        """Its clips (views, T, 3, S, S); None where they are those of the window before."""
        self._crops |= _crops(window, self._settings)
        clips = None
        if not np.array_equal(window.numbers, self._before):
            clips = torch.cat(
                [torch.stack([self._crops[n] for n in clip], 1) for clip in window.numbers.tolist()]
            )
            self._before = window.numbers
        self._crops = {n: crops for n, crops in self._crops.items() if n >= window.first}
        return clips

    def leave_out(self) -> None:
        """Forget the last tensor, which is not encoded."""
        self._before = np.empty(0, np.int64)

    def encode(self, clips: torch.Tensor | None) -> Array | None:
        return None if clips is None else self._encode(clips)

    def views(self, window: WindowFrames, encoded: Array | None) -> Array:
        """(views, E); called in the order of the windows."""
        del window
        if encoded is not None:
            self._views = encoded
        return self._views


class _ByFrame:
    """Windows of a method whose frames do not depend on each other."""

    def __init__(self, settings: ClipInput, encode: Encode) -> None:
        self._settings, self._encode = settings, encode
        self._features: dict[int, Array] = {}  # frame → (crops, E)

    def tensor(self, window: WindowFrames) -> torch.Tensor | None:
        """The frames that no window before had, (n, crops, 3, S, S)."""
        crops = _crops(window, self._settings)
        return torch.stack(list(crops.values())) if crops else None

    def encode(self, frames: torch.Tensor | None) -> Array | None:
        if frames is None:
            return None
        features = self._encode(frames.flatten(0, 1))
        return features.reshape(len(frames), -1, features.shape[1])

    def views(self, window: WindowFrames, encoded: Array | None) -> Array:
        """(views, E); called in the order of the windows."""
        if encoded is not None:
            self._features |= dict(zip(window.frames, encoded, strict=True))
        clips = [
            np.mean([self._features[n] for n in clip], axis=0) for clip in window.numbers.tolist()
        ]
        self._features = {n: value for n, value in self._features.items() if n >= window.first}
        views: Array = np.concatenate(clips)
        return views


def _crops(window: WindowFrames, settings: ClipInput) -> dict[int, torch.Tensor]:
    """The crops (crops, 3, S, S) of the window's new frames, as those of a clip are."""
    views = replace(settings.views, crops=1) if settings.whole else settings.views
    return {
        number: spatial_crops(to_clip(np.stack([frame])), settings.image_size, views)[:, 0]
        for number, frame in window.frames.items()
    }
