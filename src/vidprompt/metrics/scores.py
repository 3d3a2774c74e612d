"""Class probabilities from stored features, with the same bytes on every processor.

A matrix product rounds differently with every BLAS kernel, and the kernel follows the processor. Here
the products are exact: features have length 1 and coordinates that are multiples of 2⁻²⁶, so that every
product of two coordinates is a multiple of 2⁻⁵², and every partial sum of a dot product, in any order, is
one of at most |u|·|v| < 2 (Cauchy–Schwarz): float64 holds all of them. Rounding a coordinate by at most
2⁻²⁷ moves a cosine by less than float32 would (about 10⁻⁸ for 512 coordinates). All else is done with
operations that IEEE 754 defines to the last bit, in a fixed order; `np.exp` is not one of them.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import ThreadpoolController

from vidprompt.system.cores import available_cores

Ensemble = Literal["softmax_sum", "mean_feature"]
Numbers = NDArray[np.float64]
_GRID = 2.0**26
_MAX_THREADS = 8  # each holds a chunk
_CHUNK_NUMBERS = 1 << 22  # logits of a matrix product (32 MiB)
_BLOCK_NUMBERS = 1 << 15  # logits of a softmax: they stay in the processor's cache
_EXP_STEPS = 64  # per unit of the table of exp
_EXP_STEP = 0.984496437005408406  # exp(-1/64)
# exp(-i/64), 0 from where float32 has no smaller number than 0
_EXP = np.append(np.cumprod(np.r_[1.0, np.full(104 * _EXP_STEPS, _EXP_STEP)]), 0.0)


def unit_vectors(features: NDArray[Any]) -> Numbers:
    """Features (…, E) divided by their L2 norm, each coordinate rounded to a multiple of 2⁻²⁶.

    Their matrix products are exact. Zero stays zero, and what is not finite becomes NaN. float64, in
    which no square of a float32 leaves the range.
    """
    values = np.asarray(features, np.float64)
    with np.errstate(invalid="ignore"):
        norm = np.sqrt(np.square(values).sum(axis=-1, keepdims=True))
        unit = values / np.maximum(norm, np.finfo(np.float32).tiny)
        unit *= _GRID
        np.rint(unit, out=unit)
    unit /= _GRID
    return unit


def class_probabilities(
    video: ArrayLike, text: ArrayLike, logit_scale: float, ensemble: Ensemble = "softmax_sum"
) -> NDArray[np.float32]:
    """(N, C) probabilities from video views (N, V, E) and class prompts (C, P, E).

    The softmax over the classes of the logits `logit_scale` · cosine, defined as in
    `models.methods.video_clip.logits`; features are L2-normalised here. `softmax_sum` (EZ-CLIP as
    released): a softmax for each prompt, then the mean over the prompts. `mean_feature`: one feature a
    class, the mean of its normalised prompts. Both are averaged over the views. Features that are not
    finite give NaN. Threads compute chunks of N; neither their number nor the processor changes a bit.
    """
    views, prompts = np.asarray(video, np.float32), np.asarray(text, np.float32)
    if views.ndim != 3 or prompts.ndim != 3 or views.shape[2] != prompts.shape[2]:
        shapes = f"{views.shape} and {prompts.shape}"
        raise ValueError(f"features {shapes} are not (N, V, E) and (C, P, E)")
    if 0 in views.shape[1:] or 0 in prompts.shape:
        raise ValueError("no views, classes, prompts or features")
    unit = unit_vectors(prompts)
    if ensemble == "mean_feature":
        unit = unit_vectors(unit.mean(axis=1, keepdims=True))
    elif ensemble != "softmax_sum":
        raise ValueError(f"ensemble {ensemble!r}; use softmax_sum or mean_feature")
    classes, per_class, width = unit.shape
    # the classes of a prompt lie beside each other
    columns = np.ascontiguousarray(unit.transpose(1, 0, 2)).reshape(-1, width).T
    chunk = max(1, _CHUNK_NUMBERS // (views.shape[1] * columns.shape[1]))
    block = max(1, _BLOCK_NUMBERS // columns.shape[1])
    out = np.empty((len(views), classes), np.float32)

    def score(start: int) -> None:
        part = unit_vectors(views[start : start + chunk])
        cosines = (part.reshape(-1, width) @ columns).reshape(-1, per_class, classes)
        by_view = np.empty((len(cosines), classes))
        for first in range(0, len(cosines), block):
            rows = slice(first, first + block)
            by_view[rows] = _softmax(cosines[rows], logit_scale).mean(axis=1)
        out[start : start + chunk] = by_view.reshape(len(part), -1, classes).mean(axis=1)

    starts = range(0, len(views), chunk)
    with _blas().limit(limits=1):
        if len(starts) == 1:
            score(0)
        else:
            with ThreadPoolExecutor(min(_MAX_THREADS, _threads())) as pool:
                list(pool.map(score, starts))
    return out


def _softmax(cosines: Numbers, scale: float) -> Numbers:
    """The softmax over the last axis of scale · cosines, in place."""
    with np.errstate(invalid="ignore"):  # NaN is reported by who has the names of the videos
        cosines -= cosines.max(axis=-1, keepdims=True)
        cosines *= scale
        shares = _exp(cosines)
    shares /= shares.sum(axis=-1, keepdims=True)
    return shares


def _exp(x: Numbers) -> Numbers:
    """exp(x) of x ≤ 0 with a relative error below 2·10⁻¹⁰; 0 where float32 would be. Overwrites x.

    exp(-i/64) from a table, times the Taylor series of the rest, which is at most 1/128.
    """
    steps = np.rint(x * -_EXP_STEPS)
    rest = x
    rest += steps / _EXP_STEPS
    series = rest * (1 / 6)
    series += 1 / 2
    series *= rest
    series += 1
    series *= rest
    series += 1
    series *= np.take(_EXP, steps.astype(np.intp), mode="clip")
    return series


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries of this process; finding them takes milliseconds."""
    return ThreadpoolController().select(user_api="blas")


def _threads() -> int:
    """As many threads as OMP_NUM_THREADS says, or cores."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(wanted)) if wanted.isdigit() else available_cores()
