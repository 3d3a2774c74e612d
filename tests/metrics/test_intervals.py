"""Intervals hold the true value as often as they say, also of few videos or persons."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy.stats import binom, binomtest

from vidprompt.metrics.intervals import (
    Statistic,
    combine,
    difference_interval,
    interval,
    mcnemar_exact,
    mean_of_test,
    seed_interval,
)


def statistic(
    values: ArrayLike, units: ArrayLike | None = None, classes: ArrayLike | None = None
) -> Statistic:
    units = np.arange(len(np.asarray(values))) if units is None else units
    mean = mean_of_test(values, units, classes)
    return combine(mean.value, [mean], [1.0])


@pytest.mark.parametrize(("right", "n"), [(0, 10), (7, 10), (19, 20), (20, 20), (950, 1000)])
def test_of_independent_videos_half_of_the_observed_count_is_in_each_tail(
    right: int, n: int
) -> None:
    low, high = interval(statistic([1] * right + [0] * (n - right))) or (0, 0)
    for end, tail in ((low, binom.sf(right - 1, n, low)), (high, binom.cdf(right, n, high))):
        if 0 < end < 1:
            assert tail - binom.pmf(right, n, end) / 2 == pytest.approx(0.025, abs=1e-9)
    assert (low == 0, high == 1) == (right == 0, right == n)
    exact = binomtest(right, n).proportion_ci()  # Clopper and Pearson's: wider
    assert exact.low <= low <= right / n <= high <= exact.high


@pytest.mark.parametrize("p", [0.5, 0.8, 0.95])
def test_of_independent_videos_it_holds_as_often_as_it_says(p: float) -> None:
    n = 100
    ends = [interval(statistic(np.arange(n) < right)) or (0, 0) for right in range(n + 1)]
    inside = [low <= p <= high for low, high in ends]
    assert 0.93 <= binom.pmf(np.arange(n + 1), n, p)[inside].sum() <= 0.97


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9, 0.3])
@pytest.mark.parametrize("n", [5, 7.3, 240_000])
def test_the_interval_of_any_share_is_found(share: float, n: float) -> None:
    one = statistic([0, 1] * 5)
    ends = interval(replace(one, value=share, n=int(n), variance=share * (1 - share) / n))
    assert ends is not None
    assert 0 <= ends[0] <= share <= ends[1] <= 1


def test_an_interval_of_persons_covers() -> None:
    generator = np.random.default_rng(6)
    for people, least in ((5, 0.93), (10, 0.93), (40, 0.92)):
        person = np.repeat(np.arange(people), 8)
        inside, by_video = 0, 0
        for _ in range(400):
            skill = generator.beta(1.5, 1, people)  # mean 0.6
            hits = generator.random(len(person)) < skill[person]
            for units in (person, None):
                ends = interval(statistic(hits, units))
                assert ends is not None
                inside += units is not None and ends[0] <= 0.6 <= ends[1]
                by_video += units is None and ends[0] <= 0.6 <= ends[1]
        assert least <= inside / 400
        assert by_video / 400 < 0.87  # too narrow: why persons are units


def test_the_mean_over_classes_of_three_videos_covers() -> None:
    generator = np.random.default_rng(1)
    accuracy = generator.beta(6, 2, 12)
    classes = np.repeat(np.arange(12), 3)
    inside = 0
    for _ in range(500):
        ends = interval(statistic(generator.random(36) < accuracy[classes], None, classes))
        assert ends is not None
        inside += ends[0] <= accuracy.mean() <= ends[1]
    assert inside / 500 >= 0.93


def test_fewer_than_five_units_have_no_interval() -> None:
    assert interval(statistic([1, 0, 1, 0])) is None
    assert interval(statistic([1, 0] * 20, np.arange(40) // 10)) is None
    assert interval(statistic([1, 0] * 20, np.arange(40) // 8)) is not None


def test_all_right_is_not_certain() -> None:
    low, high = interval(statistic(np.ones(40), np.arange(40) // 5)) or (0, 0)
    assert low == pytest.approx(0.05 ** (1 / 8))  # as sure as eight persons can make it
    assert high == 1


def test_unequal_units_and_order() -> None:
    generator = np.random.default_rng(0)
    values, units = generator.random(60), generator.integers(0, 9, 60)
    order = generator.permutation(60)
    one, two = statistic(values, units), statistic(values[order], 8 - units[order])
    assert interval(one) == pytest.approx(interval(two))
    assert one.effective_units < one.units == 9
    assert one.df < 8


def test_a_test_that_is_all_right_leaves_its_mean_uncertain() -> None:
    """The mean over two lists, one of six videos all right: not as sure as if it were known."""
    few, many = (
        mean_of_test(np.ones(6), np.arange(6)),
        mean_of_test([1, 0] * 300, np.arange(6, 606)),
    )
    low, _ = interval(combine(0.75, [few, many], [0.5, 0.5])) or (1, 1)
    assert low < 0.65


def test_trainings_are_a_sample_too() -> None:
    generator = np.random.default_rng(3)
    with_seeds, without = 0, 0
    for _ in range(300):
        skill = generator.beta(4, 4, 200)
        shift = generator.normal(0, 0.05, 3)
        means = [
            mean_of_test(generator.random(200) < np.clip(skill + one, 0, 1), np.arange(200))
            for one in shift
        ]
        value = float(np.mean([mean.value for mean in means]))
        for trainings in (range(3), None):
            low, high = interval(combine(value, means, [1 / 3] * 3, trainings)) or (0, 0)
            with_seeds += trainings is not None and low <= 0.5 <= high
            without += trainings is None and low <= 0.5 <= high
    assert with_seeds / 300 >= 0.92
    assert without / 300 < 0.85


def test_no_difference_is_rarely_called_one() -> None:
    generator = np.random.default_rng(8)
    for people in (6, 10, 30):
        person, rejected = np.repeat(np.arange(people), 5), 0
        for _ in range(400):
            gain = np.repeat(generator.normal(0, 0.1, people), 5)
            gain += generator.normal(0, 0.1, len(person))
            mean = mean_of_test((np.clip(gain, -1, 1) + 1) / 2, person)
            one = combine(float(2 * mean.value - 1), [mean], [2.0])
            rejected += difference_interval(one, n=len(person), hits=False)[2] < 0.05
        assert rejected / 400 <= 0.075


def test_a_difference_by_hand() -> None:
    gain = np.array([0.1, 0.3, 0.2, 0.0, 0.4, 0.2])
    mean = mean_of_test((gain + 1) / 2, np.arange(6))
    low, high, p = difference_interval(combine(0.2, [mean], [2.0]), n=6, hits=False)
    error = (gain.var(ddof=1) / 6 * 6 / 5) ** 0.5
    assert (low + high) / 2 == pytest.approx(0.2)
    assert high - 0.2 == pytest.approx(2.570582 * error, rel=1e-5)
    assert p < 0.05
    zero = combine(0.0, [mean_of_test(np.full(50, 0.5), np.arange(50))], [2.0])
    assert difference_interval(zero, n=50, hits=False) == (0, 0, 1)
    low, high, p = difference_interval(zero, n=50, hits=True)
    assert (-0.05 < low < 0 < high < 0.05, p) == (True, 1)


def test_over_seeds_it_is_students() -> None:
    low, high = seed_interval([0.50, 0.52, 0.54]) or (0, 0)
    assert (low, high) == pytest.approx((0.52 - 4.302653 * 0.02 / 3**0.5, 0.5696827), abs=1e-6)
    assert seed_interval([0.5]) is None


def test_what_is_no_test_is_refused() -> None:
    for values, units in (([], []), ([1, 0], [0]), ([[1.0]], [[0]])):
        with pytest.raises(ValueError, match="not both"):
            mean_of_test(values, units)
    for value in (np.nan, 1.5):
        with pytest.raises(ValueError, match="outside"):
            mean_of_test([1.0, value], [0, 1])


def test_many_videos_take_little_time() -> None:
    generator = np.random.default_rng(0)
    hits, classes = generator.random(100_000) < 0.5, generator.integers(0, 400, 100_000)
    low, high = interval(statistic(hits, np.arange(100_000) // 3, classes)) or (0, 0)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 100_000**0.5, rel=0.1)


def test_mcnemar_by_hand() -> None:
    first = np.array([1] * 9 + [0] * 2 + [1] * 50 + [0] * 20)
    second = np.array([0] * 9 + [1] * 2 + [1] * 50 + [0] * 20)
    tail = sum(comb(11, i) for i in range(3)) / 2**11
    assert mcnemar_exact(first, second) == pytest.approx(2 * tail)
    assert mcnemar_exact(second, first) == pytest.approx(2 * tail)
    assert mcnemar_exact(first.astype(bool), second) == pytest.approx(2 * tail)
    assert mcnemar_exact([1, 0, 1], [1, 0, 1]) == 1
    assert mcnemar_exact([1, 0], [0, 1]) == 1
    assert mcnemar_exact([], []) == 1


def test_mcnemar_refuses_what_is_not_paired_hits() -> None:
    with pytest.raises(ValueError, match="same videos"):
        mcnemar_exact([1, 0], [1])
    with pytest.raises(ValueError, match="0 or 1"):
        mcnemar_exact([0.5, 1], [1, 0])
