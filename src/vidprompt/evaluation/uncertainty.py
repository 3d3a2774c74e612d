"""How far a number can be trusted: bootstrap intervals and a paired test, both seeded or exact."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_CHUNK_DRAWS = 1 << 20  # how many draws are held at once (8 MiB of int64)


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
