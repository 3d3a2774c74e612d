"""The rows of a matrix that are most similar to a query, exactly, from float16 scores and float32 features.

All rows are scored in float16, which is half the memory and time. The error of such a score has a bound, so
that the rows that can be among the best are known, and only these are scored again in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

_RESCORED = 1 << 12  # rows whose float32 features are in memory at once
# float16 keeps 11 bits: of a row, of the query and of their product at most 2^-11 is lost, and as much
# again is allowed for the sums in float32
_ERROR = 4 * 2.0**-11
_TINY = 1e-6  # what numbers below float16's range add

GetFeatures = Callable[[NDArray[np.int64]], NDArray[np.float32]]


class Scores(NamedTuple):
    """Rows in no order, (n,), and their similarities to the query, float64 (n,)."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]


def best_rows(
    matrix: NDArray[np.float16], query: NDArray[np.float32], top: int, features: GetFeatures
) -> Scores:
    """The `top` rows of (N, E) with the largest dot products with the query (E,), and those that are equal.

    Rows and query are of unit length. `features`: the float32 features (n, E) of rows, of which the matrix
    is the float16 copy.
    """
    count = min(top, len(matrix))
    if count < 1:
        return Scores(np.empty(0, np.int64), np.empty(0))
    scores = half_scores(matrix, query)
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    candidates = np.flatnonzero(scores >= threshold - 2 * (_ERROR + _TINY))
    exact = exact_scores(candidates, query, features)
    last = np.partition(exact, len(exact) - count)[len(exact) - count]
    chosen = exact >= last
    return Scores(candidates[chosen], exact[chosen])


def half_scores(matrix: NDArray[np.float16], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """The dot products of all rows (N, E) with a query (E,), with an error of at most 2^-9."""
    scores = torch.mv(torch.from_numpy(matrix), torch.from_numpy(query).half())
    result: NDArray[np.float32] = scores.float().numpy()
    return result


def exact_scores(
    rows: NDArray[np.int64], query: NDArray[np.float32], features: GetFeatures
) -> NDArray[np.float64]:
    """The dot products of some rows' features with a query, in float64.

    Each row is summed by itself, so that equal features have equal scores.
    """
    parts = [
        (features(rows[begin : begin + _RESCORED]).astype(np.float64) * query).sum(axis=1)
        for begin in range(0, len(rows), _RESCORED)
    ]
    return np.concatenate([np.empty(0), *parts])
