"""Intervals cover what they should, tests share draws, and paired tests are sums of binomials."""

from __future__ import annotations

import itertools
import tracemalloc
from math import comb

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from vidprompt.metrics import bootstrap
from vidprompt.metrics.bootstrap import (
    RESAMPLES,
    VideoValues,
    draw_counts,
    mcnemar_exact,
    paired_bootstrap,
    percentile_interval,
    resample_tests,
    resampled_means,
    resampled_sums,
)


def bootstrap_interval(
    values: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int,
    level: float = 0.95,
) -> tuple[float, float]:
    return percentile_interval(resampled_means(values, clusters, resamples, seed), level)


def test_seeded_and_around_the_mean() -> None:
    hits = np.array([1] * 70 + [0] * 30)
    low, high = bootstrap_interval(hits, seed=1)
    assert (low, high) == bootstrap_interval(hits.astype(bool), seed=1)
    assert (low, high) != bootstrap_interval(hits, seed=2)
    assert low == pytest.approx(0.7 - 1.96 * (0.21 / 100) ** 0.5, abs=0.02)
    assert high == pytest.approx(0.7 + 1.96 * (0.21 / 100) ** 0.5, abs=0.02)
    narrow = bootstrap_interval(hits, seed=1, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_is_the_plain_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=40)
    people = np.repeat(np.array(["d", "b", "a", "c"]), [4, 6, 10, 20])
    generator = np.random.default_rng(7)
    means = []
    for _ in range(200):  # clusters in the order of their names
        drawn = generator.integers(0, 4, size=4)
        rows = [values[people == "abcd"[unit]] for unit in drawn]
        means.append(np.concatenate(rows).mean())
    low, high = np.quantile(means, [0.025, 0.975])
    monkeypatch.setattr(bootstrap, "_CHUNK_DRAWS", 200 * 4)
    found = bootstrap_interval(values, clusters=people, resamples=200, seed=7)
    assert found == pytest.approx((low, high))


def test_one_video_a_cluster_is_the_same_as_no_clusters() -> None:
    values = np.random.default_rng(0).random(50)
    alone = bootstrap_interval(values, clusters=np.arange(50), seed=3)
    assert alone == pytest.approx(bootstrap_interval(values, seed=3))


def test_coverage_by_video() -> None:
    generator = np.random.default_rng(5)
    trials = 300
    inside = 0
    for trial in range(trials):
        low, high = bootstrap_interval(generator.random(120) < 0.6, resamples=400, seed=trial)
        inside += low <= 0.6 <= high
    assert 0.90 <= inside / trials <= 0.99


def test_coverage_by_cluster_where_videos_of_a_person_go_together() -> None:
    generator = np.random.default_rng(6)
    trials, people, each = 200, 60, 8
    inside = {"clusters": 0, "videos": 0}
    person = np.repeat(np.arange(people), each)
    for trial in range(trials):
        skill = generator.choice([0.2, 1.0], size=people)  # mean 0.6
        hits = generator.random(people * each) < np.repeat(skill, each)
        for name, clusters in (("clusters", person), ("videos", None)):
            low, high = bootstrap_interval(hits, clusters=clusters, resamples=400, seed=trial)
            inside[name] += low <= 0.6 <= high
    assert 0.89 <= inside["clusters"] / trials <= 0.99
    assert inside["videos"] / trials < 0.80  # too narrow: why clusters are there


def test_points_and_refusals() -> None:
    assert bootstrap_interval([1, 1, 1], seed=0) == (1, 1)
    assert bootstrap_interval([0.25], seed=0) == (0.25, 0.25)
    assert bootstrap_interval([0, 1], clusters=["p", "p"], seed=0) == (0.5, 0.5)
    for values in ([], [[1.0, 0.0]]):
        with pytest.raises(ValueError, match="at least one number"):
            bootstrap_interval(values, seed=0)
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval([1.0, np.nan], seed=0)
    with pytest.raises(ValueError, match="clusters"):
        bootstrap_interval([1, 0], clusters=[1], seed=0)
    with pytest.raises(ValueError, match="resamples 0"):
        bootstrap_interval([1, 0], resamples=0, seed=0)


def test_memory_stays_small_for_many_videos() -> None:
    hits = np.random.default_rng(0).random(20_000) < 0.5
    tracemalloc.start()
    low, high = bootstrap_interval(hits, resamples=200, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 20_000**0.5, rel=0.2)
    assert peak < 40e6  # all draws at once would be 32 MB of indices and 32 MB of values a 200


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


def test_resampled_sums_are_those_of_a_loop() -> None:
    """Three units: every one of the 27 samples is as likely as it should be."""
    rows = np.array([[1.0, 0.5], [0.0, 2.0], [1.0, 0.5]])
    sums = resampled_sums(rows, resamples=60_000, seed=0)
    found, counts = np.unique(sums, axis=0, return_counts=True)
    expected: dict[tuple[float, ...], float] = {}
    for draw in itertools.product(range(3), repeat=3):
        key = tuple(rows[list(draw)].sum(axis=0))
        expected[key] = expected.get(key, 0) + 1 / 27
    assert {tuple(row) for row in found} == set(expected)
    for row, count in zip(found, counts, strict=True):
        assert count / 60_000 == pytest.approx(expected[tuple(row)], abs=0.01)


def test_resampled_sums_are_seeded_and_know_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).random((30, 2))
    sums = resampled_sums(rows, resamples=50, seed=1)
    assert (sums == resampled_sums(rows[::-1], resamples=50, seed=1)).all()
    assert (sums != resampled_sums(rows, resamples=50, seed=2)).any()
    monkeypatch.setattr(bootstrap, "_CHUNK_DRAWS", 30 * 7)
    assert resampled_sums(rows, resamples=50, seed=1) == pytest.approx(sums)
    for bad in (np.zeros((0, 2)), np.zeros(3), np.full((2, 1), np.nan)):
        with pytest.raises(ValueError, match="rows"):
            resampled_sums(bad, resamples=5, seed=0)


def test_paired_bootstrap_by_hand() -> None:
    draws = np.array([-1.0] * 3 + [0.0] * 1 + [2.0] * 195)
    low, high, p = paired_bootstrap(draws, changed=100)
    assert (low, high) == (2, 2)  # the tails hold 4.95 of 199 draws each
    assert p == pytest.approx(2 * (4 + 1) / 200)
    assert paired_bootstrap(-draws, changed=100)[2] == p
    assert paired_bootstrap(np.r_[draws, [np.nan] * 50], changed=100)[2] == p
    assert paired_bootstrap(draws, changed=3)[2] == 0.25  # three signs
    assert paired_bootstrap(np.full(99, 1e-17), changed=0) == (0, 0, 1)
    with pytest.raises(ValueError, match="no resample"):
        paired_bootstrap([np.nan], changed=1)


def test_paired_bootstrap_rejects_as_often_as_it_says() -> None:
    generator = np.random.default_rng(8)
    trials, rejected = 400, 0
    for trial in range(trials):
        gain = generator.normal(0, 1, 60)
        sums = resampled_sums(gain[:, None], resamples=400, seed=trial)
        rejected += paired_bootstrap(sums[:, 0] / 60, changed=60)[2] < 0.05
    assert 0.02 <= rejected / trials <= 0.09


def _values(n: int, seed: int, first: int = 0, classes: int = 4) -> VideoValues:
    """Hits of n videos, numbered from `first`."""
    generator = np.random.default_rng(seed)
    hits = generator.random((n, 2)) < (0.4, 0.8)
    names = np.array([f"v{i}" for i in range(first, first + n)], dtype=object)
    return VideoValues(names, hits.astype(np.float64), generator.integers(classes, size=n))


def _naive(tests: list[VideoValues], resamples: int, seed: int) -> list[NDArray[np.float64]]:
    """Draw by draw, video by video; NaN where nothing is drawn."""
    names = list(dict.fromkeys(name for test in tests for name in test.videos))
    generator = np.random.default_rng(seed)
    found: list[list[list[float]]] = [[] for _ in tests]
    for _ in range(resamples):
        drawn = [names[i] for i in generator.integers(0, len(names), size=len(names))]
        for test, rows in zip(tests, found, strict=True):
            place = {name: i for i, name in enumerate(test.videos)}
            chosen = [place[name] for name in drawn if name in place]
            if not chosen:
                rows.append([np.nan] * 3)
                continue
            by_class: dict[int, list[float]] = {}
            for i in chosen:
                by_class.setdefault(int(test.classes[i]), []).append(test.values[i, 0])
            means = [float(np.mean([test.values[i, k] for i in chosen])) for k in (0, 1)]
            rows.append([*means, float(np.mean([np.mean(v) for v in by_class.values()]))])
    return [np.array(rows) for rows in found]


def test_of_one_test_they_are_the_bootstrap_by_video() -> None:
    test = _values(83, seed=1)
    (samples,) = resample_tests([test], seed=5)
    for column in (0, 1):
        plain = bootstrap_interval(test.values[:, column], seed=5)
        assert percentile_interval(samples[:, column]) == plain


@pytest.mark.parametrize("chunk", [1 << 20, 100])
def test_is_the_loop_for_tests_that_share_videos(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_CHUNK_DRAWS", chunk)
    tests = [_values(9, seed=1), _values(7, seed=2, first=5), _values(1, seed=3, first=3)]
    found = resample_tests(tests, resamples=60, seed=4)
    naive = _naive(tests, resamples=60, seed=4)
    assert np.isnan(naive[2]).any()  # its one video is not in every draw
    for one, other in zip(found, naive, strict=True):
        np.testing.assert_allclose(one, other, equal_nan=True)
    low, high = percentile_interval(found[2][:, 0])
    assert low == high == tests[2].values[0, 0]


def test_a_video_in_two_lists_is_drawn_for_both_at_once() -> None:
    same, other = _values(100, seed=1), _values(100, seed=1, first=100)

    def width(tests: list[VideoValues]) -> float:
        low, high = percentile_interval(np.mean([s[:, 0] for s in resample_tests(tests)], axis=0))
        return high - low

    alone = width([same])
    assert width([same, same]) == alone  # the mean over two seeds knows no more videos
    assert width([same, other]) == pytest.approx(alone / 2**0.5, rel=0.12)


def test_coverage_of_the_mean_over_small_classes_of_unequal_size() -> None:
    generator = np.random.default_rng(8)
    sizes, trials = np.repeat([2, 3, 6, 20], 6), 200
    skill = generator.permutation(np.linspace(0.2, 0.9, len(sizes)))
    classes = np.repeat(np.arange(len(sizes)), sizes)
    names = np.arange(len(classes))
    inside = {"by video": 0, "by class": 0}
    for trial in range(trials):
        hits = (generator.random(len(classes)) < skill[classes]).astype(np.float64)
        (samples,) = resample_tests([VideoValues(names, hits[:, None], classes)], 300, seed=trial)
        right = np.bincount(classes, hits) / sizes
        by_class = (generator.binomial(sizes, right, (300, len(sizes))) / sizes).mean(axis=1)
        for name, drawn in (("by video", samples[:, -1]), ("by class", by_class)):
            low, high = percentile_interval(drawn)
            inside[name] += low <= skill.mean() <= high
    assert 0.92 <= inside["by video"] / trials <= 0.99
    assert inside["by class"] / trials < 0.92  # too narrow: why videos are drawn


def test_counts_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(draw_counts(30, 50, seed=2)))
    assert whole.shape == (50, 30)
    assert (whole.sum(axis=1) == 30).all()
    monkeypatch.setattr(bootstrap, "_CHUNK_DRAWS", 70)
    assert (np.concatenate(list(draw_counts(30, 50, seed=2))) == whole).all()


def test_refuses_what_is_no_value() -> None:
    names, classes = np.array(["a", "b"]), np.array([0, 1])
    with pytest.raises(ValueError, match="for 2 videos"):
        VideoValues(names, np.ones((3, 1)), classes)
    with pytest.raises(ValueError, match="finite"):
        VideoValues(names, np.array([[1.0], [np.nan]]), classes)
    with pytest.raises(ValueError, match="at least one video"):
        VideoValues(names[:0], np.ones((0, 1)), classes[:0])
