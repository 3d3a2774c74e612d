"""Classification metrics from scores, and class probabilities from stored features.

`scores` is (N, C), higher is better, `labels` (N,) holds class indices. Between equal scores the
class with the lower index comes first, everywhere. Scores that are not numbers raise a DataError.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from vidprompt.system.errors import DataError, UserError

Mode = Literal["softmax_sum", "mean_feature"]
_MOST_THREADS = 8  # each holds a chunk
_CHUNK_NUMBERS = 1 << 22  # how many logits are held at once (16 MiB of float32)


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


def _ahead(values: NDArray[Any], truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N, C): which classes come before the true one."""
    own = np.take_along_axis(values, truth[:, None], axis=1)
    earlier = np.arange(values.shape[1])[None, :] < truth[:, None]
    return (values > own) | ((values == own) & earlier)


def _share(hits: NDArray[np.bool_]) -> float:
    if not hits.size:
        raise DataError("There is no video to score: every listed video is missing or broken.")
    return float(hits.mean())


def group_codes(group_of_class: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(C,) the number of each class's group, and (C,) how many classes are in that group."""
    _, group, sizes = np.unique(
        np.asarray(group_of_class, dtype=str), return_inverse=True, return_counts=True
    )
    return group, sizes[group]


def true_ranks(
    scores: ArrayLike, labels: ArrayLike, groups: Sequence[ArrayLike] = ()
) -> NDArray[np.int64]:
    """(1 + G, N): how many classes come before the true one (0: it is the best).

    The first row counts all classes, each further one those of the true class's group alone, for G
    ways to group the classes: arrays (C,) of group numbers.
    """
    values, truth = _checked(scores, labels)
    ahead = _ahead(values, truth)
    ranks = [ahead.sum(axis=1)]
    for numbers in groups:
        group = np.asarray(numbers)
        ranks.append((ahead & (group[None, :] == group[truth][:, None])).sum(axis=1))
    return np.stack(ranks)


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


def top_k_hits(scores: ArrayLike, labels: ArrayLike, k: int) -> NDArray[np.bool_]:
    """(N,): is the true class among the k best? Ties: the lower class index comes first."""
    if k < 1:
        raise ValueError(f"k is {k}, less than 1")
    hits: NDArray[np.bool_] = true_ranks(scores, labels)[0] < k
    return hits


def top1(scores: ArrayLike, labels: ArrayLike) -> float:
    """Share of videos whose true class is the best."""
    return _share(top_k_hits(scores, labels, 1))


def top5(scores: ArrayLike, labels: ArrayLike) -> float:
    """Share of videos whose true class is among the five best (1 with five classes or fewer)."""
    return _share(top_k_hits(scores, labels, 5))


def confusion_matrix(scores: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """(C, C) counts: rows are true classes, columns predicted ones."""
    values, truth = _checked(scores, labels)
    count = values.shape[1]
    if not len(truth):
        return np.zeros((count, count), dtype=np.int64)
    cells = truth * count + values.argmax(axis=1)
    return np.bincount(cells, minlength=count * count).reshape(count, count)


def per_class_accuracy(scores: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """(C,): top-1 of each class; NaN for a class without videos."""
    matrix = confusion_matrix(scores, labels)
    videos = matrix.sum(axis=1)
    shares = np.full(len(matrix), np.nan)
    np.divide(matrix.diagonal(), videos, out=shares, where=videos > 0)
    return shares


def mean_class_accuracy(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean over classes of their top-1; classes without videos are left out."""
    shares = per_class_accuracy(scores, labels)
    shares = shares[~np.isnan(shares)]
    if not shares.size:
        raise DataError("There is no video to score: every listed video is missing or broken.")
    return float(shares.mean())


def harmonic_mean(base: float, novel: float) -> float:
    """2BN / (B + N); 0 when both are 0."""
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def mean_std(values: ArrayLike) -> tuple[float, float]:
    """Mean and population standard deviation (over splits or seeds)."""
    numbers = np.asarray(values, dtype=np.float64)
    if not numbers.size:
        raise ValueError("mean_std of nothing")
    return float(numbers.mean()), float(numbers.std())


def within_group_accuracy(
    scores: ArrayLike, labels: ArrayLike, group_of_class: Sequence[str]
) -> tuple[float, float]:
    """(accuracy, chance) when only the classes of the true class's group compete.

    `chance` is the mean over videos of 1 / the size of the true class's group.
    """
    values, truth = _checked(scores, labels)
    if len(group_of_class) != values.shape[1]:
        raise ValueError(f"{len(group_of_class)} groups for {values.shape[1]} classes")
    group, sizes = group_codes(group_of_class)
    accuracy = _share(true_ranks(values, truth, [group])[1] == 0)
    return accuracy, float((1 / sizes[truth]).mean())


def ensemble_mode(value: object) -> Mode:
    """`prompts.ensemble` of a configuration. Raises UserError for another value."""
    for mode in get_args(Mode):
        if value == mode:
            return cast(Mode, mode)
    raise UserError(f"prompts.ensemble is {value!r}: choose {' or '.join(get_args(Mode))}")


def class_probabilities(
    video: ArrayLike, text: ArrayLike, logit_scale: float, mode: Mode = "softmax_sum"
) -> NDArray[np.float32]:
    """(N, C) probabilities from video views (N, V, E) and class prompts (C, P, E).

    Features are L2-normalised here; `logit_scale` is the factor of the cosines (100 in CLIP, not
    its logarithm). `softmax_sum` (EZ-CLIP as released): a softmax over the classes for each prompt,
    summed over the prompts and divided by their number. `mean_feature`: one feature a class, the
    mean of its normalised prompts, normalised again. Both are averaged over the views. float32; a
    chunk of N at a time, each by one thread, so that their number changes no digit.
    """
    views, prompts = np.asarray(video, dtype=np.float32), np.asarray(text, dtype=np.float32)
    if views.ndim != 3 or prompts.ndim != 3 or views.shape[2] != prompts.shape[2]:
        shapes = f"{views.shape} and {prompts.shape}"
        raise ValueError(f"features {shapes} are not (N, V, E) and (C, P, E)")
    if 0 in views.shape[1:] or 0 in prompts.shape:
        raise ValueError("no views, classes, prompts or features")
    prompts = _unit(prompts)
    if mode == "mean_feature":
        prompts = _unit(prompts.mean(axis=1, keepdims=True))
    elif mode != "softmax_sum":
        raise ValueError(f"mode {mode!r}; use softmax_sum or mean_feature")
    classes, per_class, width = prompts.shape
    # a prompt's classes beside each other
    pairs = prompts.transpose(1, 0, 2).reshape(-1, width).T * np.float32(logit_scale)
    chunk = max(1, _CHUNK_NUMBERS // (views.shape[1] * classes * per_class))
    out = np.empty((len(views), classes), dtype=np.float32)

    def score(start: int) -> None:
        part = _unit(views[start : start + chunk])
        with np.errstate(invalid="ignore"):  # features that are not numbers are found by who counts
            shares = (part.reshape(-1, width) @ pairs).reshape(-1, per_class, classes)
            shares -= shares.max(axis=2, keepdims=True)
        np.exp(shares, out=shares)
        shares /= shares.sum(axis=2, keepdims=True)
        by_view = shares.mean(axis=1).reshape(len(part), -1, classes)
        out[start : start + chunk] = by_view.mean(axis=1)

    threads = min(_MOST_THREADS, usual_threads())
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        list(pool.map(score, range(0, len(views), chunk)))
    return out


def usual_threads() -> int:
    """As many threads as OMP_NUM_THREADS says, or cores."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(told)) if told.isdigit() else os.cpu_count() or 1


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (…, E) with L2 norm 1; a zero stays one."""
    with np.errstate(invalid="ignore"):
        norm = np.sqrt(np.einsum("...e,...e->...", features, features))[..., None]
        unit: NDArray[np.float32] = features / np.maximum(norm, np.float32(1e-12))
    return unit
