"""Calibration: does a method's confidence say how often it is right?

The confidence of a prediction is the probability of the predicted class, as the scores of the protocol
have it: after the softmax, the ensemble of prompts and the mean over views.
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
        held = self.n > 0
        gaps = np.abs(self.accuracy[held] - self.confidence[held])
        return float((self.n[held] * gaps).sum() / self.n.sum())


def reliability(confidence: ArrayLike, hits: ArrayLike, bins: int = BINS) -> Reliability:
    """Bins of predictions with a confidence (N,) in [0, 1], of which `hits` (N,) are right.

    A confidence above 1 by rounding counts into the last bin. Raises DataError without a prediction, and
    ValueError for shapes that differ or a confidence that is no probability.
    """
    sure, right = np.asarray(confidence, np.float64), np.asarray(hits, np.float64)
    if sure.ndim != 1 or sure.shape != right.shape:
        raise ValueError(f"confidence {sure.shape} and hits {right.shape} are not both (N,)")
    if not sure.size:
        raise DataError("There is no video to score: every listed video is missing or broken.")
    if not (sure.min() >= 0 and sure.max() <= 1 + 1e-4):
        raise ValueError(f"confidence from {sure.min()} to {sure.max()} is no probability")
    edges = np.arange(bins + 1) / bins
    place = np.searchsorted(edges[1:-1], sure, side="left")
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, weights=x, minlength=bins) / counts for x in (sure, right)]
    return Reliability(edges[:-1], edges[1:], counts, *means)
