"""Ranks and accuracies, against hand-made cases and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.reference.accuracy import within_group_accuracy

from vidprompt.metrics import classification as metrics
from vidprompt.system.errors import DataError

SCORES = np.array(
    [
        [0.7, 0.2, 0.1],  # 0 is right
        [0.4, 0.4, 0.2],  # a tie of 0 and 1: 0 comes first
        [0.4, 0.4, 0.2],
        [0.1, 0.3, 0.6],  # 2 is right
        [0.5, 0.3, 0.2],
    ]
)
LABELS = np.array([0, 0, 1, 2, 2])


def _random(rows: int, classes: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 6, size=(rows, classes)) / 5  # many ties
    return scores, generator.integers(0, classes, size=rows)


def test_hand_computed() -> None:
    assert metrics.true_ranks(SCORES, LABELS)[0].tolist() == [0, 0, 1, 0, 2]
    assert metrics.top_k_accuracy(SCORES, LABELS) == pytest.approx(3 / 5)
    assert metrics.top_k_accuracy(SCORES, LABELS, 2) == pytest.approx(4 / 5)
    assert metrics.top_k_accuracy(SCORES, LABELS, 9) == 1


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_the_stable_sort(k: int) -> None:
    scores, labels = _random(300, 7, seed=k)
    order = np.argsort(-scores, axis=1, kind="stable")
    naive = [labels[i] in order[i, :k] for i in range(len(labels))]
    assert (metrics.true_ranks(scores, labels)[0] < k).tolist() == naive
    assert metrics.top_k_accuracy(scores, labels, k) == np.mean(naive)


def test_ranks_and_best_classes_are_the_stable_sort() -> None:
    scores, labels = _random(300, 9, seed=4)
    groups = np.array([0, 0, 1, 2, 1, 0, 2, 2, 2])
    order = np.argsort(-scores, axis=1, kind="stable")
    for k in (1, 5, 20):
        assert metrics.best_classes(scores, k).tolist() == order[:, :k].tolist()
    ranks = metrics.true_ranks(scores, labels, [groups])
    for i, label in enumerate(labels):
        row = order[i].tolist()
        assert ranks[0, i] == row.index(label)
        assert ranks[1, i] == [k for k in row if groups[k] == groups[label]].index(label)


def test_infinite_scores_are_ordered_and_nan_raises() -> None:
    ranks = metrics.true_ranks([[np.inf, 1.0], [-np.inf, -np.inf]], [0, 1])
    assert ranks[0].tolist() == [0, 1]
    bad = SCORES.copy()
    bad[3, 1] = np.nan
    for function in (metrics.top_k_accuracy, metrics.true_ranks):
        with pytest.raises(DataError, match=r"1 of 5 videos.*row 3"):
            function(bad, LABELS)


def test_nothing_to_score_raises_and_has_no_ranks() -> None:
    none = np.zeros((0, 3)), np.zeros(0, dtype=int)
    with pytest.raises(DataError, match="no video to score"):
        metrics.top_k_accuracy(*none)
    assert metrics.true_ranks(*none).shape == (1, 0)


def test_wrong_shapes_and_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"not \(N, C\)"):
        metrics.top_k_accuracy(SCORES, LABELS[:-1])
    with pytest.raises(ValueError, match="not integers"):
        metrics.top_k_accuracy(SCORES, LABELS.astype(float))
    for label in (-1, 3):
        with pytest.raises(ValueError, match="for 3 classes"):
            metrics.top_k_accuracy(SCORES[:1], [label])
    with pytest.raises(ValueError, match="less than 1"):
        metrics.top_k_accuracy(SCORES, LABELS, 0)


def test_means() -> None:
    assert metrics.harmonic_mean(0.8, 0.4) == pytest.approx(2 * 0.32 / 1.2)
    assert metrics.harmonic_mean(0.7, 0.7) == pytest.approx(0.7)
    assert metrics.harmonic_mean(0, 0) == 0
    assert metrics.harmonic_mean(1, 0) == 0
    assert metrics.mean_std([1, 2, 3]) == pytest.approx((2, (2 / 3) ** 0.5))
    assert metrics.mean_std([4]) == (4, 0)
    with pytest.raises(ValueError, match="nothing"):
        metrics.mean_std([])


def test_ranks_within_a_group_hand_computed() -> None:
    # row 2 loses the tie inside a; rows 3 and 4 are alone in b
    codes, sizes = metrics.group_codes(["a", "a", "b"])
    assert sizes.tolist() == [2, 2, 1]
    ranks = metrics.true_ranks(SCORES, LABELS, [codes])
    assert ranks[1].tolist() == [0, 0, 1, 0, 0]


def test_ranks_within_a_group_are_the_loop() -> None:
    scores, labels = _random(300, 8, seed=11)
    groups = list("xyxzyxxz")
    codes, sizes = metrics.group_codes(groups)
    found = metrics.true_ranks(scores, labels, [codes])[1] == 0
    expected = within_group_accuracy(scores, labels, groups)
    assert (found.mean(), (1 / sizes[labels]).mean()) == pytest.approx(expected)
