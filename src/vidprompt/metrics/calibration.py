"""Calibration: how far the confidence of predictions is from their accuracy.

The confidence of a prediction is the probability of the predicted class, after the softmax, the ensemble
of prompts and the mean over views.
Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidprompt.system.errors import DataError

BINS = 15  # Guo et al.'s


@dataclass(frozen=True)
class Reliability:
    """Predictions by confidence, in B bins of equal width: bin b holds (low[b], high[b]], the first 0 too.

    `confidence` and `accuracy` are means over a bin's videos, in [0, 1]; NaN in a bin without any.
    """

    low: NDArray[np.float64]  # (B,)
    high: NDArray[np.float64]  # (B,)
    n: NDArray[np.int64]  # (B,)
    confidence: NDArray[np.float64]  # (B,)
    accuracy: NDArray[np.float64]  # (B,)

    @property
    def error(self) -> float:
        """Expected calibration error in [0, 1]: Σ n_b / N · |accuracy_b − confidence_b|."""
        filled = self.n > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float((self.n[filled] * gaps).sum() / self.n.sum())


def reliability(confidence: ArrayLike, hits: ArrayLike, bins: int = BINS) -> Reliability:
    """Bins of N predictions: their confidence (N,) in [0, 1] and whether they are right, `hits` (N,).

    A confidence above 1 by rounding counts into the last bin. Raises DataError without a prediction, and
    ValueError for shapes that differ or a confidence outside [0, 1].
    """
    probability, right = np.asarray(confidence, np.float64), np.asarray(hits, np.float64)
    if probability.ndim != 1 or probability.shape != right.shape:
        raise ValueError(f"confidence {probability.shape} and hits {right.shape} are not both (N,)")
    if not probability.size:
        raise DataError("There is no video to score: every listed video is missing or broken.")
    if not (probability.min() >= 0 and probability.max() <= 1 + 1e-4):
        raise ValueError(
            f"confidence from {probability.min()} to {probability.max()} is outside [0, 1]"
        )
    edges = np.arange(bins + 1) / bins
    place = np.searchsorted(edges[1:-1], probability, side="left")
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [
            np.bincount(place, weights=x, minlength=bins) / counts for x in (probability, right)
        ]
    return Reliability(edges[:-1], edges[1:], counts, *means)
