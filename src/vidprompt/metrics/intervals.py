"""Intervals of metrics that hold with few videos or persons, by formula: no draws, no seed.

Videos of one unit (a person; videos cut from one film) go together, units are independent. Every metric
here is a smooth function of means over tests, and its variance is computed from what each unit adds to
it, by linearisation:

- residuals are divided by sqrt(1 − leverage), so that a class of three videos is not taken for surer than
  it is (CR2: Bell and McCaffrey, Survey Methodology 2002);
- tests of one list by several trainings have a second source of chance, the training: the variance
  between them is added, less what the videos explain (two-way clusters: Cameron, Gelbach and Miller,
  JBES 2011), and degrees of freedom are combined as Satterthwaite (1946) does;
- the interval of a value in [0, 1] is the binomial one for as many independent videos as would have
  this variance, fewer where it is known from few units (Korn and Graubard, Survey Methodology 1998). It
  counts half of the probability of the observed count in each tail (mid-P: Lancaster, JASA 1961; Berry
  and Armitage, The Statistician 1995): Clopper and Pearson's counts all of it, and holds the true value
  more often than it says.

`benchmarks/intervals.py` measures how often they hold the true value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

METHOD = "korn_graubard_mid_p"  # what metrics.json calls these intervals
LEVEL = 0.95
MIN_UNITS = 5  # with fewer, no interval holds: there is none
_VALUES_AS_HITS = 2  # a value counts at most as that many independent hits
# persons in one gallery are taken for one another: how much more means vary (measured)
_GALLERY = 1.1
_TINY = 1e-12  # a variance below this is rounding
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class UnitMean:
    """The mean of a test, and what each of its U units adds to it.

    `value` in [0, 1]. `hits_variance` is the variance that independent hits with these means would have.
    """

    value: float
    n: int  # videos
    units: NDArray[
        np.int64
    ]  # (U,) numbers of the units, ascending; a unit has one number in all tests
    influence: Numbers  # (U,) summed residuals; the sum of their squares is the variance
    share: Numbers  # (U,) of the weight, sum 1
    leverage: Numbers  # (U,) in [0, 1)
    hits_variance: float

    @property
    def effective_units(self) -> float:
        """How many units of equal size would be as many (Kish)."""
        return float(1 / np.square(self.share).sum())


def mean_of_test(values: ArrayLike, units: ArrayLike, classes: ArrayLike | None = None) -> UnitMean:
    """The mean of `values` (N,) in [0, 1], or with `classes` (N,) the mean over classes of their means.

    `units` (N,) are the numbers of the units, from 0. ValueError for shapes that differ, no video, or a
    value outside [0, 1].
    """
    value, unit = np.asarray(values, np.float64), np.asarray(units, np.int64)
    if value.ndim != 1 or not value.size or value.shape != unit.shape:
        raise ValueError(f"values {value.shape} and units {unit.shape} are not both (N,), N > 0")
    if not (value.min() >= 0 and value.max() <= 1):
        raise ValueError(f"values from {value.min()} to {value.max()} are outside [0, 1]")
    stratum = np.zeros(len(value), np.int64)
    if classes is not None:
        stratum = np.unique(np.asarray(classes), return_inverse=True)[1]
    names, unit = np.unique(unit, return_inverse=True)
    size = np.bincount(stratum).astype(np.float64)
    means = np.bincount(stratum, weights=value) / size
    mean = float(means.mean())
    pairs, pair = np.unique(stratum * len(names) + unit, return_inverse=True)  # of class and unit
    of_class, of_unit = np.divmod(pairs, len(names))
    n_pair = np.bincount(pair).astype(np.float64)
    share = n_pair / (size[of_class] * len(size))
    leverage = n_pair / size[of_class]
    only = leverage == 1  # a class of one unit has no spread: take it from the other classes
    centre = np.where(only, mean, means[of_class])
    leverage[only] = 0
    residual = np.bincount(pair, weights=value) - n_pair * centre
    residual *= share / n_pair / np.sqrt(1 - leverage)
    weight = _sums(of_unit, share)
    free = np.where(size > 1, 1 - 1 / np.maximum(size, 2), 1)
    spread = np.where(size > 1, means * (1 - means), mean * (1 - mean)) / size / free
    return UnitMean(
        value=mean,
        n=len(value),
        units=names,
        influence=_sums(of_unit, residual),
        share=weight,
        leverage=_sums(of_unit, share * leverage) / weight,
        hits_variance=float(spread.sum() / len(size) ** 2),
    )


def _sums(place: NDArray[np.int64], values: Numbers) -> Numbers:
    """The sum of the values at each place, from 0; in the order of the values."""
    return np.bincount(place, weights=values).astype(np.float64)


@dataclass(frozen=True)
class Statistic:
    """A function of means, with its variance and that variance's degrees of freedom."""

    value: float
    variance: float
    df: float
    n: int  # videos
    units: int
    effective_units: float
    hits_variance: float
    unseen_variance: float  # of means that are 0 or 1, whose own spread is not seen


def combine(
    value: float,
    means: Sequence[UnitMean],
    gradient: Sequence[float],
    trainings: Sequence[int] | None = None,
) -> Statistic:
    """The statistic whose derivative by each of the `means` is `gradient`.

    `trainings`: where equal lists were tested by several trainings, the training of each mean, from 0;
    they are then a second sample, and its chance is part of the variance.
    """
    size = 1 + max(int(mean.units[-1]) for mean in means)
    numbers = range(len(means)) if trainings is None else trainings
    by_training = np.zeros((1 + max(numbers), size))
    weight, lever = np.zeros(size), np.zeros(size)
    unseen = 0.0
    for mean, slope, training in zip(means, gradient, numbers, strict=True):
        by_training[training, mean.units] += slope * mean.influence
        weight[mean.units] += abs(slope) * mean.share
        lever[mean.units] += abs(slope) * mean.share * mean.leverage
        if mean.value in (0.0, 1.0):
            unseen += slope**2 * _variance_of_all(mean)
    total = weight.sum()
    effective = float(total**2 / np.square(weight).sum()) if total else 1.0
    df = max(effective * (1 - float(lever.sum() / total)), 1e-3) if total else 1.0
    variance = float(np.square(by_training.sum(axis=0)).sum())
    if trainings is not None and len(by_training) > 1:
        variance, df = _with_trainings(means, gradient, trainings, by_training, variance, df)
    hits = sum(s * s * mean.hits_variance for s, mean in zip(gradient, means, strict=True))
    return Statistic(
        value=value,
        variance=variance,
        df=df,
        n=sum(mean.n for mean in means) // (1 if trainings is None else len(by_training)),
        units=int((weight > 0).sum()),
        effective_units=effective,
        hits_variance=hits,
        unseen_variance=unseen if len(means) > 1 else 0.0,
    )


def _with_trainings(
    means: Sequence[UnitMean],
    gradient: Sequence[float],
    trainings: Sequence[int],
    influence: Numbers,
    variance: float,
    df: float,
) -> tuple[float, float]:
    """Variance and degrees of freedom with the chance of S trainings; `influence` (S, units) by training."""
    s = len(influence)
    values = np.zeros(s)
    for mean, slope, training in zip(means, gradient, trainings, strict=True):
        values[training] += s * slope * mean.value
    between = float(np.square(values - values.mean()).sum()) / (s * (s - 1))
    by_videos = float(np.square(influence).sum())  # what `between` would be without that chance
    total = variance + max(0.0, between - by_videos)
    spread = variance**2 / df + between**2 / (s - 1)
    return total, (total**2 / spread if spread else df)


def _variance_of_all(mean: UnitMean) -> float:
    """A variance for a test in which all are right, or all wrong, so that its spread is not seen.

    That with which the t interval reaches as far as the binomial one.
    """
    units = mean.effective_units
    reach = 1 - _binomial(1.0, units)[0]
    return (reach / _t(max(units - 1, 1e-3))) ** 2


def interval(
    one: Statistic, level: float = LEVEL, *, gallery: bool = False
) -> tuple[float, float] | None:
    """The interval of a value in [0, 1]; None with fewer than `MIN_UNITS` units.

    Of a value that is 0 or 1, the binomial interval for as many videos as there are units. In one
    `gallery`, persons are taken for one another, so that they are not quite independent.
    """
    if one.units < MIN_UNITS:
        return None
    if one.value in (0.0, 1.0):
        return _binomial(one.value, one.effective_units, level)
    spread = one.value * (1 - one.value) * one.n / max(one.n - 1, 1)
    units = max(one.effective_units, 1 + _TINY)
    few = (1 - 1 / units) / (1 - 1 / max(one.n, 2))  # 1 for independent videos
    few *= (_t(one.n - 1, level) / _t(one.df, level)) ** 2
    least = few * spread / (_VALUES_AS_HITS * one.n)  # the cap below, for a variance that is 0
    variance = (one.variance + one.unseen_variance) * (_GALLERY if gallery else 1)
    videos = few * spread / max(variance, least)
    if one.hits_variance:
        videos = min(videos, _VALUES_AS_HITS * spread / one.hits_variance)
    return _binomial(one.value, videos, level)


def difference_interval(
    one: Statistic, *, n: int, hits: bool, gallery: bool = False, level: float = LEVEL
) -> tuple[float, float, float]:
    """(low, high, p) of a difference of two results, by Student's t; two-sided p of no difference.

    `n` videos were compared. Of `hits`, half a video won and half a video lost are added to the spread
    (Agresti and Min, Statistics in Medicine 2005): results that differ on no video are equal as far as so
    many videos can tell.
    `gallery` as in `interval`.
    """
    from scipy.special import stdtr

    units = max(one.effective_units, 1 + _TINY)
    variance = one.variance * units / (units - 1) * (_GALLERY if gallery else 1)
    error = (variance + hits / (n + 2) ** 2) ** 0.5
    if error < _TINY:
        return (one.value, one.value, float(abs(one.value) < _TINY))
    reach = _t(one.df, level) * error
    p = 2 * float(stdtr(one.df, -abs(one.value) / error))
    return max(one.value - reach, -1.0), min(one.value + reach, 1.0), min(p, 1.0)


def student_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Student's interval of the mean of two numbers or more; it is not cut at 0 and 1."""
    numbers = np.asarray(values, np.float64)
    mean, reach = numbers.mean(), _t(len(numbers) - 1, level) * numbers.std(ddof=1)
    reach /= len(numbers) ** 0.5
    return float(mean - reach), float(mean + reach)


def seed_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """`student_interval` of numbers in [0, 1] from trainings with S seeds, cut there; None of one seed."""
    if len(values) < 2:
        return None
    low, high = student_interval(values, level)
    return max(0.0, low), min(1.0, high)


def _binomial(share: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """The mid-P interval of a share of n, which need not be whole numbers."""
    right, tail = share * n, (1 - level) / 2
    low = _share_with_tail(right, n - right, tail) if share > 0 else 0.0
    high = 1 - _share_with_tail(n - right, right, tail) if share < 1 else 1.0
    return low, high


def _share_with_tail(right: float, wrong: float, tail: float) -> float:
    """The true share with which `right` or more, of which `right` itself counts half, have chance `tail`."""
    from scipy.optimize import brentq
    from scipy.special import betainc, betaincinv

    def excess(share: float) -> float:
        as_many = betainc(right, wrong + 1, share)
        more = betainc(right + 1, wrong, share) if wrong > 0 else 0.0
        return float((as_many + more) / 2 - tail)

    high = float(betaincinv(right, wrong + 1, 2 * tail))  # it, if `more` were 0
    return float(brentq(excess, 0.0, high, xtol=_TINY)) if excess(high) > 0 else high


def _t(df: float, level: float = LEVEL) -> float:
    """The quantile of Student's t that leaves (1 − level) / 2 above it."""
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + level) / 2))


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
