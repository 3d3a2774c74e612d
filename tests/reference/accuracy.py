"""Accuracies straight from scores (N, C), by loops: what metrics from kept ranks are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def per_class_accuracy(scores: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """(C,): top-1 of each class; NaN for a class without videos."""
    values, truth = np.asarray(scores), np.asarray(labels)
    right = values.argmax(axis=1) == truth
    shares = [
        right[truth == c].mean() if (truth == c).any() else np.nan for c in range(len(values.T))
    ]
    return np.array(shares)


def mean_class_accuracy(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean over the classes with videos of their top-1."""
    return float(np.nanmean(per_class_accuracy(scores, labels)))


def within_group_accuracy(
    scores: ArrayLike, labels: ArrayLike, group_of_class: Sequence[str]
) -> tuple[float, float]:
    """(accuracy, chance) when only the classes of the true class's group compete.

    `chance` is the mean over videos of 1 / the size of the true class's group.
    """
    hits, chances = [], []
    for row, label in zip(np.asarray(scores), np.asarray(labels), strict=True):
        rivals = [c for c, group in enumerate(group_of_class) if group == group_of_class[label]]
        hits.append(rivals[int(np.argmax(row[rivals]))] == label)
        chances.append(1 / len(rivals))
    return float(np.mean(hits)), float(np.mean(chances))
