"""Bootstrap draws that the numbers of one or several tests share: by video, seeded.

A draw takes as many videos as there are, with replacement, and every number is computed again from them.
Of several tests (splits, seeds, base and novel) the videos of all are drawn together: one that is in
several lists is drawn for all of them at once, so that the interval of a mean is not narrowed as if its
lists had nothing in common. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (percentile
interval, section 13.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

RESAMPLES, LEVEL, SEED = 1000, 0.95, 0
_CHUNK_DRAWS = 1 << 20  # how many drawn videos are held at once (8 MiB of counts)
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """What came out for the n videos of a test."""

    videos: NDArray[Any]  # (n,) their names; the same name in another test is the same video
    values: Numbers  # (n, K) each column's mean is a number of the test
    classes: NDArray[np.int64]  # (n,) true classes, by any numbers

    def __post_init__(self) -> None:
        n = len(self.videos)
        if self.values.ndim != 2 or len(self.values) != n or self.classes.shape != (n,):
            shapes = f"{self.values.shape} and {self.classes.shape}"
            raise ValueError(f"values and classes {shapes} for {n} videos")
        if not self.values.size or not np.isfinite(self.values).all():
            raise ValueError("at least one video is needed, and finite values")


def draw_counts(units: int, resamples: int = RESAMPLES, seed: int = SEED) -> Iterator[Numbers]:
    """How often each unit is drawn: (some, units) at a time, `resamples` rows in all.

    Rows are the same however many come at a time.
    """
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_DRAWS // units)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = generator.integers(0, units, size=(rows, units))
        drawn += np.arange(rows)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=rows * units)
        yield counts.reshape(rows, units).astype(np.float64)


class _Test:
    """The outcomes of a test, sorted by class, with the place of each video among those drawn from."""

    def __init__(self, outcomes: Outcomes, place: NDArray[np.int64]) -> None:
        order = np.argsort(outcomes.classes, kind="stable")
        self.place, self.values = place[order], outcomes.values[order]
        classes = outcomes.classes[order]
        self.starts = np.flatnonzero(np.r_[True, classes[1:] != classes[:-1]])

    def numbers(self, counts: Numbers) -> Numbers:
        """(rows, K + 1) numbers of draws (rows, units); NaN where no video of the test is drawn."""
        weight = counts[:, self.place]
        with np.errstate(invalid="ignore"):
            means = weight @ self.values / weight.sum(axis=1, keepdims=True)
            videos = np.add.reduceat(weight, self.starts, axis=1)
            weight *= self.values[:, 0]
            shares = np.add.reduceat(weight, self.starts, axis=1) / videos
        present = videos > 0
        total = np.where(present, shares, 0).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.column_stack([means, total / present.sum(axis=1)])


def resampled(
    tests: Sequence[Outcomes], resamples: int = RESAMPLES, seed: int = SEED
) -> list[Numbers]:
    """A test: (resamples, K + 1), the means of its K columns and the mean over classes of the first's.

    Row i of every test is of the same draw from all the tests' videos. A class without a drawn video is
    left out of that draw's mean over classes, as a class without tested videos is (drawing as many videos
    of each class as it has gives intervals that are too narrow for classes of few videos). In a draw
    without a video of a test, that test's numbers are NaN.
    """
    names = np.concatenate([test.videos for test in tests])
    places, unique = pd.factorize(names)  # in the order of the lists
    ends = np.cumsum([len(test.videos) for test in tests])[:-1]
    placed = [_Test(test, place) for test, place in zip(tests, np.split(places, ends), strict=True)]
    parts = [
        [test.numbers(counts) for test in placed]
        for counts in draw_counts(len(unique), resamples, seed)
    ]
    return [np.concatenate(rows) for rows in zip(*parts, strict=True)]


def percentiles(samples: Numbers, level: float = LEVEL) -> tuple[float, float]:
    """The interval that holds the share `level` of samples (N,), those that are NaN left out."""
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(samples[~np.isnan(samples)], ends)
    return float(low), float(high)
