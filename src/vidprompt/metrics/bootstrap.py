"""Seeded bootstrap of videos or persons: samples of metrics, their intervals, and paired tests.

A draw takes as many units (videos, or clusters of them such as persons) as there are, with replacement,
and every metric is computed again from the drawn ones. Of several tests (splits, seeds, base and novel)
the videos of all are drawn together: one that is in several lists is drawn for all of them at once, so
that the interval of a mean is not narrowed as if its lists had nothing in common. Source: Efron and
Tibshirani, An Introduction to the Bootstrap, 1993 (percentile interval, section 13.3).

There are two streams of draws. `draw_counts` draws unit by unit; the intervals of metrics.json follow
from it. `resampled_sums` draws how often each *kind* of unit comes: two results that are compared differ
in few kinds, so ten thousand draws of 20,000 videos cost no more than of 20.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

RESAMPLES, LEVEL, SEED = 1000, 0.95, 0
_CHUNK_DRAWS = 1 << 20  # drawn units held at once (8 MiB of counts)
_ROUNDING = 1e-12  # a difference of means below this is rounding
Numbers = NDArray[np.float64]


def draw_counts(units: int, resamples: int = RESAMPLES, seed: int = SEED) -> Iterator[Numbers]:
    """How often each unit is drawn: arrays (r, units) with `resamples` rows in all.

    Rows are the same whatever their number at a time.
    """
    if resamples < 1:
        raise ValueError(f"resamples {resamples}")
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_DRAWS // units)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = generator.integers(0, units, size=(rows, units))
        drawn += np.arange(rows)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=rows * units)
        yield counts.reshape(rows, units).astype(np.float64)


def percentile_interval(samples: Numbers, level: float = LEVEL) -> tuple[float, float]:
    """The ends of the interval that holds the share `level` of samples (R,); NaN is left out."""
    if not 0 < level < 1:
        raise ValueError(f"level {level}")
    low, high = np.quantile(samples[~np.isnan(samples)], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled_means(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Numbers:
    """(resamples,) means of `values` (N,) over drawn videos.

    With `clusters` (N,) whole clusters are drawn (a person's tracklets), and the mean is over all their
    videos. Values that are all equal, or of one cluster, have the same mean in every draw.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not numbers.size:
        raise ValueError(f"values of shape {numbers.shape}: at least one number in one row needed")
    if not np.isfinite(numbers).all():
        raise ValueError("values are not all finite")
    names = np.arange(len(numbers)) if clusters is None else np.asarray(clusters)
    if names.shape != numbers.shape:
        raise ValueError(f"clusters {names.shape} for values {numbers.shape}")
    _, unit = np.unique(names, return_inverse=True)
    sums, sizes = np.bincount(unit, weights=numbers), np.bincount(unit)
    return np.concatenate(
        [  # not a matrix product: its rounding depends on the processor
            (counts * sums).sum(axis=1) / (counts * sizes).sum(axis=1)
            for counts in draw_counts(len(sums), resamples, seed)
        ]
    )


@dataclass(frozen=True)
class VideoValues:
    """Values of the n videos of a test, whose means are metrics."""

    videos: NDArray[Any]  # (n,) their names; the same name in another test is the same video
    values: Numbers  # (n, K) 0 or 1 in a column whose mean is a metric
    classes: NDArray[np.int64]  # (n,) true classes, by any numbers

    def __post_init__(self) -> None:
        n = len(self.videos)
        if self.values.ndim != 2 or len(self.values) != n or self.classes.shape != (n,):
            shapes = f"{self.values.shape} and {self.classes.shape}"
            raise ValueError(f"values and classes {shapes} for {n} videos")
        if not self.values.size or not np.isfinite(self.values).all():
            raise ValueError("at least one video is needed, and finite values")


class _Test:
    """The values of a test sorted by class, with the place of each video among those drawn from."""

    def __init__(self, test: VideoValues, place: NDArray[np.int64]) -> None:
        order = np.argsort(test.classes, kind="stable")
        self.place, self.values = place[order], test.values[order]
        classes = test.classes[order]
        self.starts = np.flatnonzero(np.r_[True, classes[1:] != classes[:-1]])

    def metrics(self, counts: Numbers) -> Numbers:
        """(r, K + 1) metrics of draws (r, units); NaN where no video of the test is drawn."""
        weight = counts[:, self.place]
        with np.errstate(invalid="ignore"):
            # whole numbers, so that the product is exact
            means = weight @ self.values / weight.sum(axis=1, keepdims=True)
            videos = np.add.reduceat(weight, self.starts, axis=1)
            weight *= self.values[:, 0]
            shares = np.add.reduceat(weight, self.starts, axis=1) / videos
        present = videos > 0
        total = np.where(present, shares, 0).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.column_stack([means, total / present.sum(axis=1)])


def resample_tests(
    tests: Sequence[VideoValues], resamples: int = RESAMPLES, seed: int = SEED
) -> list[Numbers]:
    """For each test (resamples, K + 1): the means of its K columns, and the first's mean over classes.

    Row i of every test is of the same draw from all the tests' videos. A class without a drawn video is
    left out of that draw's mean over classes, as a class without tested videos is (drawing as many videos
    of each class as it has gives intervals that are too narrow for classes of few videos). In a draw
    without a video of a test, that test's metrics are NaN.
    """
    names = np.concatenate([test.videos for test in tests])
    places, unique = pd.factorize(names)  # in the order of the lists
    ends = np.cumsum([len(test.videos) for test in tests])[:-1]
    placed = [_Test(test, place) for test, place in zip(tests, np.split(places, ends), strict=True)]
    parts = [
        [test.metrics(counts) for test in placed]
        for counts in draw_counts(len(unique), resamples, seed)
    ]
    return [np.concatenate(rows) for rows in zip(*parts, strict=True)]


def resampled_sums(rows: ArrayLike, *, resamples: int, seed: int) -> Numbers:
    """(resamples, K) sums of the columns of `rows` (U, K), a row a unit, over drawn units.

    U units are drawn each time; how often each different row comes is a multinomial. Any statistic of
    sums follows from them: means, differences of two paired results, a harmonic mean. The order of the
    units does not matter.
    """
    units = np.asarray(rows, dtype=np.float64)
    if units.ndim != 2 or not len(units):
        raise ValueError(f"rows of shape {units.shape}: at least one row of one unit needed")
    if not np.isfinite(units).all():
        raise ValueError("rows are not all finite")
    if resamples < 1:
        raise ValueError(f"resamples {resamples}")
    kinds, counts = np.unique(units, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_DRAWS // len(kinds))
    sums = np.empty((resamples, units.shape[1]))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = generator.multinomial(len(units), counts / len(units), size=size)
        for column, values in enumerate(kinds.T):  # no matrix product, as above
            sums[start : start + size, column] = (drawn * values).sum(axis=1)
    return sums


def paired_bootstrap(
    differences: ArrayLike, *, changed: int, level: float = LEVEL
) -> tuple[float, float, float]:
    """(low, high, p): percentile interval and two-sided p-value of a resampled difference (R,).

    p is twice the smaller share of resamples on one side of 0, those at 0 counted to both sides and
    the sample itself as one more (Davison & Hinkley 1997, 4.2): identical results have p = 1. It is
    never below 2 / 2^changed, what a sign test of the `changed` units on which the two differ could
    reach: three persons prove no more. Resamples in which a mean has no video (NaN) are left out.
    """
    draws = np.asarray(differences, dtype=np.float64)
    if draws.ndim != 1:
        raise ValueError(f"differences of shape {draws.shape}: one number a resample needed")
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        raise ValueError("no resample has a difference")
    if changed < 0:
        raise ValueError(f"changed {changed}")
    draws = np.where(np.abs(draws) < _ROUNDING, 0.0, draws)
    side = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    p = max(2 * (side + 1) / (len(draws) + 1), 2.0 ** (1 - changed))
    return *percentile_interval(draws, level), min(1.0, p)


def mcnemar_exact(first: ArrayLike, second: ArrayLike) -> float:
    """Exact two-sided McNemar p-value for two 0/1 vectors over the same videos.

    Only videos on which the two differ count; 1 when they differ on none.
    """
    from scipy.stats import binomtest

    one, two = np.asarray(first), np.asarray(second)
    if one.ndim != 1 or one.shape != two.shape:
        raise ValueError(f"hits {one.shape} and {two.shape} are not over the same videos")
    if not (np.isin(one, (0, 1)).all() and np.isin(two, (0, 1)).all()):
        raise ValueError("hits are not all 0 or 1")
    only_one = int(((one == 1) & (two == 0)).sum())
    only_two = int(((one == 0) & (two == 1)).sum())
    if only_one + only_two == 0:
        return 1.0
    return float(binomtest(only_one, only_one + only_two, 0.5).pvalue)
