"""How far a number can be trusted: bootstrap intervals and paired tests, all seeded or exact."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_CHUNK_DRAWS = 1 << 20  # how many draws are held at once (8 MiB of int64)
_NOTHING = 1e-12  # a difference of means below this is rounding


def bootstrap_interval(
    values: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` (N,).

    Videos are drawn with replacement; with `clusters` (N,), whole clusters are (a person's
    tracklets, a group's clips), and the mean is over all their videos. When all values are equal,
    or with one cluster, the interval is a point: the bootstrap then says nothing.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not numbers.size:
        raise ValueError(f"values of shape {numbers.shape}: at least one number in one row needed")
    if not np.isfinite(numbers).all():
        raise ValueError("values are not all finite")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples {resamples}, level {level}")
    sums, sizes = _units(numbers, clusters)
    means = _resampled_means(sums, sizes, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _units(
    numbers: NDArray[np.float64], clusters: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """What is drawn: the sum of each unit, and its size (None: every unit is one video)."""
    if clusters is None:
        return numbers, None
    names = np.asarray(clusters)
    if names.shape != numbers.shape:
        raise ValueError(f"clusters {names.shape} for values {numbers.shape}")
    _, unit = np.unique(names, return_inverse=True)
    sums = np.bincount(unit, weights=numbers).astype(np.float64)
    return sums, np.bincount(unit).astype(np.float64)


def _resampled_means(
    sums: NDArray[np.float64],
    sizes: NDArray[np.float64] | None,
    resamples: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """(resamples,) means, some resamples at a time: memory does not grow with their number."""
    units = len(sums)
    chunk = max(1, _CHUNK_DRAWS // units)
    means = np.empty(resamples)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = generator.integers(0, units, size=(rows, units))
        total = sums[drawn].sum(axis=1)
        count = units if sizes is None else sizes[drawn].sum(axis=1)
        means[start : start + rows] = total / count
    return means


def resampled_sums(rows: ArrayLike, *, resamples: int, seed: int) -> NDArray[np.float64]:
    """Sums of the columns of `rows` (U, K), a row a unit (a video, a person), over bootstrap samples.

    Returns (resamples, K): U units drawn with replacement each time. Any statistic of sums follows
    from it: means, differences of two paired results, a harmonic mean. How often each *kind* of row
    is drawn is a multinomial; hits have few kinds, so 20,000 videos cost no more than 20. The order
    of the units does not matter.
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
        sums[start : start + size] = drawn.astype(np.float64) @ kinds
    return sums


def paired_bootstrap(
    differences: ArrayLike, *, changed: int, level: float = 0.95
) -> tuple[float, float, float]:
    """(low, high, p): percentile interval and two-sided p-value of a resampled difference (R,).

    p is twice the smaller share of resamples on one side of 0, those at 0 counted to both sides and
    the sample itself as one more (Davison & Hinkley 1997, 4.2): identical results have p = 1. It is
    never below 2 / 2^changed, what a sign test of the `changed` units on which the two differ could
    reach: of three persons, no bootstrap learns more. Resamples in which a mean has no video (NaN)
    are left out.
    """
    draws = np.asarray(differences, dtype=np.float64)
    if draws.ndim != 1:
        raise ValueError(f"differences of shape {draws.shape}: one number a resample needed")
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        raise ValueError("no resample has a difference")
    if changed < 0 or not 0 < level < 1:
        raise ValueError(f"changed {changed}, level {level}")
    draws = np.where(np.abs(draws) < _NOTHING, 0.0, draws)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    side = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    p = max(2 * (side + 1) / (len(draws) + 1), 2.0 ** (1 - changed))
    return float(low), float(high), min(1.0, p)


def mcnemar_exact(first: ArrayLike, second: ArrayLike) -> float:
    """Exact two-sided McNemar p-value for two 0/1 vectors over the same videos.

    Only videos on which the two differ count; with none, 1.
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
