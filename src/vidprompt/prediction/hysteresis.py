"""Join windows into spans of one class by hysteresis, as they come."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidprompt.prediction.results import Span
from vidprompt.system.errors import UserError


@dataclass(frozen=True)
class WindowScores:
    """The classes of one window: `start`, `end` in seconds, `probabilities` (C,), `cosines` (C,)."""

    start: float
    end: float
    probabilities: NDArray[np.float32]
    cosines: NDArray[np.float64]


@dataclass(frozen=True)
class SpanSettings:
    """When a span begins and ends. Raises UserError for values out of range.

    A span begins where the mean probability of a class reaches `enter`, and ends where it falls below
    `leave` or another class reaches `enter`. None: half of the way from chance (1 / C of C classes) to 1,
    and a quarter of it: no two classes can then enter at once, and undecided windows end a span. Means are
    weighted: a window counts 1, one whose middle is `smoothing` seconds away 0, and linearly between (None:
    as long as a window, so that one doubtful window among others does not decide). A span shorter than
    `min_length` seconds is left out (None: half a window). `unknown`: windows whose best mean cosine
    similarity is below show none of the classes, and are in no span (None: no such limit).
    """

    enter: float | None = None
    leave: float | None = None
    smoothing: float | None = None
    min_length: float | None = None
    unknown: float | None = None

    def __post_init__(self) -> None:
        for name in ("enter", "leave"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise UserError(f"{name}={value:g}: give a probability above 0 and at most 1")
        for name in ("smoothing", "min_length"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UserError(f"{name}={value:g}: give seconds, 0 or more")

    def thresholds(self, classes: int) -> tuple[float, float]:
        """`enter` and `leave` of so many classes. Raises UserError where `leave` is above `enter`."""
        chance = 1 / classes
        enter = chance + (1 - chance) / 2 if self.enter is None else self.enter
        leave = min(enter, chance + (1 - chance) / 4) if self.leave is None else self.leave
        if leave > enter:
            raise UserError(f"leave={leave:g} is above enter={enter:g}: a span would end at once")
        return enter, leave


def join_windows(
    windows: Iterable[WindowScores], names: tuple[str, ...], settings: SpanSettings
) -> Iterator[Span]:
    """The spans of windows in their order. Spans do not overlap, and come as soon as they end.

    Of windows that overlap each counts from the middle of its overlap with the one before to that with the
    one after; the first counts from its start, the last to its end.
    """
    label, start, end = -1, 0.0, 0.0  # of the open span
    scores: list[float] = []
    shortest = settings.min_length
    enter, leave = settings.thresholds(len(names))

    def closed() -> Iterator[Span]:
        # seconds are sums of binary fractions: 1.0 may be 0.9999999
        if label >= 0 and end - start >= (shortest or 0.0) - 1e-6:
            yield Span(start, end, names[label], float(np.mean(scores)))

    for part in _smoothed(windows, settings):
        if shortest is None:
            shortest = (part.window.end - part.window.start) / 2
        unknown = settings.unknown is not None and part.cosine < settings.unknown
        chosen = -1 if unknown else _chosen(part.probabilities, label, enter, leave)
        if chosen != label:
            yield from closed()
            label, start, scores = chosen, part.start, []
        end = part.end
        if label >= 0:
            scores.append(float(part.window.probabilities[label]))
    yield from closed()


@dataclass(frozen=True)
class _Part:
    """What a window counts for: from `start` to `end`, with the means over its neighbours."""

    start: float
    end: float
    probabilities: NDArray[np.float64]
    cosine: float  # the best
    window: WindowScores


def _chosen(probabilities: NDArray[np.float64], label: int, enter: float, leave: float) -> int:
    """The class of a window after one of class `label`; -1 for none."""
    best = int(probabilities.argmax())
    if label >= 0 and probabilities[label] >= enter:
        return label  # of two that enter, the one that is there stays
    if probabilities[best] >= enter:
        return best
    return label if label >= 0 and probabilities[label] >= leave else -1


def _smoothed(windows: Iterable[WindowScores], settings: SpanSettings) -> Iterator[_Part]:
    """Each window with the means over its neighbours, as soon as these are there."""
    around = deque[WindowScores]()  # from the first neighbour of window `here` on
    here, begin = 0, 0.0
    reach = -1.0

    def part(last: bool) -> _Part:
        nonlocal begin
        window = around[here]
        weights = np.array([1 - abs(_middle(one) - _middle(window)) / reach for one in around])
        weights = weights.clip(0) / weights.clip(0).sum()
        following = None if last else around[here + 1]
        finish = window.end
        if following is not None and following.start < window.end:
            finish = (following.start + window.end) / 2
        start, begin = begin, finish if following is None else max(finish, following.start)
        return _Part(
            start=start,
            end=finish,
            probabilities=weights @ np.stack([one.probabilities for one in around]),
            cosine=float((weights @ np.stack([one.cosines for one in around])).max()),
            window=window,
        )

    for window in windows:
        if reach < 0:
            width = window.end - window.start
            reach = (width if settings.smoothing is None else settings.smoothing) + 1e-6
            begin = window.start
        around.append(window)
        while here + 1 < len(around) and _middle(around[-1]) > _middle(around[here]) + reach:
            yield part(False)
            here += 1
            while _middle(around[0]) < _middle(around[here]) - reach:
                around.popleft()
                here -= 1
    while here < len(around):
        yield part(here + 1 == len(around))
        here += 1


def _middle(window: WindowScores) -> float:
    return (window.start + window.end) / 2
