"""Ranks, top-k hits and means of class scores.

`scores` is (N, C), higher is better; `labels` (N,) holds class indices. Of equal scores the class with
the lower index comes first, everywhere. Scores that are not numbers raise a DataError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidprompt.system.errors import DataError


def true_ranks(
    scores: ArrayLike, labels: ArrayLike, groups: Sequence[ArrayLike] = ()
) -> NDArray[np.int64]:
    """(1 + G, N): how many classes come before the true one (0: it is the best).

    The first row counts all classes, each further one those of the true class's group alone, for G
    ways to group the classes: arrays (C,) of group numbers.
    """
    values, truth = _checked(scores, labels)
    own = np.take_along_axis(values, truth[:, None], axis=1)
    earlier = np.arange(values.shape[1])[None, :] < truth[:, None]
    ahead = (values > own) | ((values == own) & earlier)
    ranks = [ahead.sum(axis=1)]
    for numbers in groups:
        group = np.asarray(numbers)
        ranks.append((ahead & (group[None, :] == group[truth][:, None])).sum(axis=1))
    return np.stack(ranks)


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Both as arrays of fitting shapes, with labels in range and no NaN."""
    values, truth = np.asarray(scores), np.asarray(labels)
    if values.ndim != 2 or truth.shape != values.shape[:1]:
        raise ValueError(f"scores {values.shape} and labels {truth.shape} are not (N, C) and (N,)")
    if truth.size and not np.issubdtype(truth.dtype, np.integer):
        raise ValueError(f"labels are {truth.dtype}, not integers")
    if truth.size and not (truth.min() >= 0 and truth.max() < values.shape[1]):
        raise ValueError(f"labels {truth.min()}..{truth.max()} for {values.shape[1]} classes")
    bad = np.isnan(values).any(axis=1)
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} of {len(values)} videos have scores that are not numbers "
            f"(first: row {int(bad.argmax())}); the features or the training diverged."
        )
    return values, truth.astype(np.int64)


def best_classes(scores: ArrayLike, k: int) -> NDArray[np.int64]:
    """(N, min(k, C)) class indices, best first; equal scores: the lower index first.

    By k searches for the largest: for small k a tenth of the time of sorting. Scores are finite.
    """
    left = np.array(scores, copy=True)
    rows = np.arange(len(left))
    best = np.empty((len(left), min(k, left.shape[1])), dtype=np.int64)
    for place in range(best.shape[1]):
        best[:, place] = left.argmax(axis=1)
        left[rows, best[:, place]] = -np.inf
    return best


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, k: int = 1) -> float:
    """Share in [0, 1] of videos whose true class is among the k best."""
    if k < 1:
        raise ValueError(f"k is {k}, less than 1")
    hits = true_ranks(scores, labels)[0] < k
    if not hits.size:
        raise DataError("There is no video to score: every listed video is missing or broken.")
    return float(hits.mean())


def group_codes(group_of_class: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(C,) the number of each class's group, and (C,) how many classes are in that group."""
    _, group, sizes = np.unique(
        np.asarray(group_of_class, dtype=str), return_inverse=True, return_counts=True
    )
    return group, sizes[group]


def harmonic_mean(base: float, novel: float) -> float:
    """2BN / (B + N); 0 when both are 0."""
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def harmonic_slopes(base: float, novel: float) -> tuple[float, float]:
    """The derivatives of the harmonic mean by B and by N; 1, 1 when both are 0."""
    if base + novel == 0:
        return 1.0, 1.0
    return 2 * (novel / (base + novel)) ** 2, 2 * (base / (base + novel)) ** 2


def mean_std(values: ArrayLike) -> tuple[float, float]:
    """Mean and population standard deviation (over splits or seeds)."""
    numbers = np.asarray(values, dtype=np.float64)
    if not numbers.size:
        raise ValueError("mean_std of nothing")
    return float(numbers.mean()), float(numbers.std())
