"""One set of draws for all numbers of a test, and for means over tests that share videos."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vidprompt.metrics import resampling
from vidprompt.metrics.resampling import Outcomes, draw_counts, percentiles, resampled
from vidprompt.metrics.uncertainty import bootstrap_interval


def _outcomes(n: int, seed: int, first: int = 0, classes: int = 4) -> Outcomes:
    """Hits of n videos, numbered from `first`."""
    generator = np.random.default_rng(seed)
    hits = generator.random((n, 2)) < (0.4, 0.8)
    names = np.array([f"v{i}" for i in range(first, first + n)], dtype=object)
    return Outcomes(names, hits.astype(np.float64), generator.integers(classes, size=n))


def _naive(tests: list[Outcomes], resamples: int, seed: int) -> list[NDArray[np.float64]]:
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
    test = _outcomes(83, seed=1)
    (samples,) = resampled([test], seed=5)
    for column in (0, 1):
        plain = bootstrap_interval(test.values[:, column], seed=5)
        assert percentiles(samples[:, column]) == plain


@pytest.mark.parametrize("chunk", [1 << 20, 100])
def test_is_the_loop_for_tests_that_share_videos(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "_CHUNK_DRAWS", chunk)
    tests = [_outcomes(9, seed=1), _outcomes(7, seed=2, first=5), _outcomes(1, seed=3, first=3)]
    found = resampled(tests, resamples=60, seed=4)
    naive = _naive(tests, resamples=60, seed=4)
    assert np.isnan(naive[2]).any()  # its one video is not in every draw
    for one, other in zip(found, naive, strict=True):
        np.testing.assert_allclose(one, other, equal_nan=True)
    low, high = percentiles(found[2][:, 0])
    assert low == high == tests[2].values[0, 0]


def test_a_video_in_two_lists_is_drawn_for_both_at_once() -> None:
    same, other = _outcomes(100, seed=1), _outcomes(100, seed=1, first=100)

    def width(tests: list[Outcomes]) -> float:
        low, high = percentiles(np.mean([s[:, 0] for s in resampled(tests)], axis=0))
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
        (samples,) = resampled([Outcomes(names, hits[:, None], classes)], 300, seed=trial)
        right = np.bincount(classes, hits) / sizes
        by_class = (generator.binomial(sizes, right, (300, len(sizes))) / sizes).mean(axis=1)
        for name, drawn in (("by video", samples[:, -1]), ("by class", by_class)):
            low, high = percentiles(drawn)
            inside[name] += low <= skill.mean() <= high
    assert 0.92 <= inside["by video"] / trials <= 0.99
    assert inside["by class"] / trials < 0.92  # too narrow: why videos are drawn


def test_counts_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(draw_counts(30, 50, seed=2)))
    assert whole.shape == (50, 30)
    assert (whole.sum(axis=1) == 30).all()
    monkeypatch.setattr(resampling, "_CHUNK_DRAWS", 70)
    assert (np.concatenate(list(draw_counts(30, 50, seed=2))) == whole).all()


def test_refuses_what_is_no_outcome() -> None:
    names, classes = np.array(["a", "b"]), np.array([0, 1])
    with pytest.raises(ValueError, match="for 2 videos"):
        Outcomes(names, np.ones((3, 1)), classes)
    with pytest.raises(ValueError, match="finite"):
        Outcomes(names, np.array([[1.0], [np.nan]]), classes)
    with pytest.raises(ValueError, match="at least one video"):
        Outcomes(names[:0], np.ones((0, 1)), classes[:0])
