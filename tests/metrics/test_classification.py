"""Metrics against hand-made cases and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from vidprompt.metrics import classification as metrics
from vidprompt.system.errors import DataError, UserError

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
    assert metrics.top_k_hits(SCORES, LABELS, 1).tolist() == [True, True, False, True, False]
    assert metrics.top_k_hits(SCORES, LABELS, 2).tolist() == [True, True, True, True, False]
    assert metrics.top_k_hits(SCORES, LABELS, 9).all()
    assert metrics.top1(SCORES, LABELS) == pytest.approx(3 / 5)
    assert metrics.top5(SCORES, LABELS) == 1
    assert metrics.confusion_matrix(SCORES, LABELS).tolist() == [[2, 0, 0], [1, 0, 0], [1, 0, 1]]
    assert metrics.per_class_accuracy(SCORES, LABELS).tolist() == [1, 0, 0.5]
    assert metrics.mean_class_accuracy(SCORES, LABELS) == pytest.approx(0.5)


def test_class_without_videos_is_left_out() -> None:
    scores, labels = SCORES[:2], LABELS[:2]
    shares = metrics.per_class_accuracy(scores, labels)
    assert shares[0] == 1
    assert np.isnan(shares[1:]).all()
    assert metrics.mean_class_accuracy(scores, labels) == 1


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_the_stable_sort(k: int) -> None:
    scores, labels = _random(300, 7, seed=k)
    order = np.argsort(-scores, axis=1, kind="stable")
    naive = [labels[i] in order[i, :k] for i in range(len(labels))]
    assert metrics.top_k_hits(scores, labels, k).tolist() == naive


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


def test_confusion_matrix_is_the_loop_and_agrees_with_top1() -> None:
    scores, labels = _random(400, 6, seed=3)
    naive = np.zeros((6, 6), dtype=int)
    for row, label in zip(scores, labels, strict=True):
        naive[label, int(np.argmax(row))] += 1
    matrix = metrics.confusion_matrix(scores, labels)
    assert (matrix == naive).all()
    assert matrix.trace() / 400 == pytest.approx(metrics.top1(scores, labels))


def test_infinite_scores_are_ordered_and_nan_raises() -> None:
    assert metrics.top_k_hits([[np.inf, 1.0], [-np.inf, -np.inf]], [0, 1], 1).tolist() == [
        True,
        False,
    ]
    bad = SCORES.copy()
    bad[3, 1] = np.nan
    for function in (metrics.top1, metrics.top5, metrics.confusion_matrix):
        with pytest.raises(DataError, match=r"1 of 5 videos.*row 3"):
            function(bad, LABELS)
    with pytest.raises(DataError, match="not numbers"):
        metrics.within_group_accuracy(bad, LABELS, ["a", "a", "b"])


def test_nothing_to_score_raises_and_counts_nothing() -> None:
    none = np.zeros((0, 3)), np.zeros(0, dtype=int)
    for function in (metrics.top1, metrics.top5, metrics.mean_class_accuracy):
        with pytest.raises(DataError, match="no video to score"):
            function(*none)
    assert metrics.confusion_matrix(*none).tolist() == [[0] * 3] * 3
    assert metrics.top_k_hits(*none, 1).shape == (0,)


def test_wrong_shapes_and_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"not \(N, C\)"):
        metrics.top1(SCORES, LABELS[:-1])
    with pytest.raises(ValueError, match="not integers"):
        metrics.top1(SCORES, LABELS.astype(float))
    for label in (-1, 3):
        with pytest.raises(ValueError, match="for 3 classes"):
            metrics.top1(SCORES[:1], [label])
    with pytest.raises(ValueError, match="less than 1"):
        metrics.top_k_hits(SCORES, LABELS, 0)


def test_means() -> None:
    assert metrics.harmonic_mean(0.8, 0.4) == pytest.approx(2 * 0.32 / 1.2)
    assert metrics.harmonic_mean(0.7, 0.7) == pytest.approx(0.7)
    assert metrics.harmonic_mean(0, 0) == 0
    assert metrics.harmonic_mean(1, 0) == 0
    assert metrics.mean_std([1, 2, 3]) == pytest.approx((2, (2 / 3) ** 0.5))
    assert metrics.mean_std([4]) == (4, 0)
    with pytest.raises(ValueError, match="nothing"):
        metrics.mean_std([])


def test_within_group_hand_computed() -> None:
    groups = ["a", "a", "b"]
    # row 2 loses the tie inside a; rows 3 and 4 are alone in b
    accuracy, chance = metrics.within_group_accuracy(SCORES, LABELS, groups)
    assert accuracy == pytest.approx(4 / 5)
    assert chance == pytest.approx((3 * 0.5 + 2 * 1) / 5)
    assert metrics.within_group_accuracy(SCORES, LABELS, list("aaa")) == pytest.approx((0.6, 1 / 3))
    with pytest.raises(ValueError, match="2 groups for 3 classes"):
        metrics.within_group_accuracy(SCORES, LABELS, ["a", "b"])


def test_within_group_is_the_loop() -> None:
    scores, labels = _random(300, 8, seed=11)
    groups = list("xyxzyxxz")
    hits, chances = [], []
    for row, label in zip(scores, labels, strict=True):
        rivals = [c for c in range(8) if groups[c] == groups[label]]
        hits.append(rivals[int(np.argmax(row[rivals]))] == label)
        chances.append(1 / len(rivals))
    found = metrics.within_group_accuracy(scores, labels, groups)
    assert found == pytest.approx((np.mean(hits), np.mean(chances)))


def _unit(row: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(row / np.linalg.norm(row))


def _naive(
    video: NDArray[np.float64], text: NDArray[np.float64], scale: float, mode: str
) -> NDArray[np.float64]:
    """Loops over videos, views, classes and prompts, in float64."""
    if mode == "mean_feature":
        text = np.stack([np.mean([_unit(p) for p in prompts], axis=0)[None] for prompts in text])
    out = np.zeros((len(video), len(text)))
    for n, views in enumerate(video):
        for view in views:
            powers = np.array(
                [[np.exp(scale * (_unit(view) @ _unit(p))) for p in prompts] for prompts in text]
            )
            for prompt in range(text.shape[1]):
                out[n] += powers[:, prompt] / powers[:, prompt].sum() / text.shape[1] / len(views)
    return out


@pytest.mark.parametrize("mode", ["softmax_sum", "mean_feature"])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_class_probabilities_are_the_loop_whatever_the_chunk(
    mode: metrics.Mode, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    video, text = generator.normal(size=(7, 3, 5)), generator.normal(size=(4, 6, 5))
    found = metrics.class_probabilities(video, text, scale, mode)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _naive(video, text, scale, mode), atol=2e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    monkeypatch.setattr(metrics, "_CHUNK_NUMBERS", 2 * 3 * 4 * 6)
    chunked = metrics.class_probabilities(video, text, scale, mode)
    np.testing.assert_allclose(chunked, found, atol=1e-6)
    scaled = metrics.class_probabilities(3 * video, 5 * text, scale, mode)
    np.testing.assert_allclose(scaled, found, atol=1e-4)


def test_the_number_of_threads_changes_no_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    video, text = generator.normal(size=(700, 1, 512)), generator.normal(size=(60, 4, 512))
    monkeypatch.setattr(metrics, "_CHUNK_NUMBERS", 100 * 240)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        with threadpool_limits(threads):
            found.append(metrics.class_probabilities(video, text, 20.0))
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


def test_modes_are_one_with_one_prompt_and_differ_with_more() -> None:
    generator = np.random.default_rng(1)
    video, text = generator.normal(size=(5, 2, 4)), generator.normal(size=(3, 2, 4))
    one = [metrics.class_probabilities(video, text[:, :1], 10, mode) for mode in _modes()]
    np.testing.assert_allclose(one[0], one[1], atol=1e-6)
    two = [metrics.class_probabilities(video, text, 10, mode) for mode in _modes()]
    assert np.abs(two[0] - two[1]).max() > 0.01


def _modes() -> tuple[metrics.Mode, metrics.Mode]:
    return "softmax_sum", "mean_feature"


def test_class_probabilities_hand_computed_and_bad_input() -> None:
    video = np.array([[[2.0, 0.0]]])
    text = np.array([[[3.0, 0.0], [0.0, 1.0]], [[0.0, 5.0], [0.0, 2.0]]])
    found = metrics.class_probabilities(video, text, np.log(3))  # e^logit: 3, 1 | 1, 1
    np.testing.assert_allclose(found, [[(3 / 4 + 1 / 2) / 2, (1 / 4 + 1 / 2) / 2]], rtol=1e-6)
    assert metrics.class_probabilities(video[:0], text, 1).shape == (0, 2)
    with pytest.raises(ValueError, match=r"not \(N, V, E\)"):
        metrics.class_probabilities(video, text[..., :1], 1)
    with pytest.raises(ValueError, match="no views"):
        metrics.class_probabilities(video[:, :0], text, 1)
    with pytest.raises(ValueError, match="use softmax_sum"):
        metrics.class_probabilities(video, text, 1, "sum")  # type: ignore[arg-type]
    for mode in _modes():
        assert metrics.ensemble_mode(mode) == mode
    for wrong in ("sum", None):
        with pytest.raises(UserError, match="choose softmax_sum or mean_feature"):
            metrics.ensemble_mode(wrong)
    lost = metrics.class_probabilities(video * np.nan, text, 1)
    with pytest.raises(DataError, match="not numbers"):
        metrics.top1(lost, [0])
