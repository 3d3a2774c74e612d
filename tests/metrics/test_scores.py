"""Class probabilities against loops and torch's logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from vidprompt.metrics import scores
from vidprompt.metrics.classification import top_k_accuracy
from vidprompt.models.methods.video_clip import logits
from vidprompt.system.errors import DataError


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
    mode: scores.Ensemble, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    video, text = generator.normal(size=(7, 3, 5)), generator.normal(size=(4, 6, 5))
    found = scores.class_probabilities(video, text, scale, mode)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _naive(video, text, scale, mode), atol=2e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    monkeypatch.setattr(scores, "_CHUNK_NUMBERS", 2 * 3 * 4 * 6)
    chunked = scores.class_probabilities(video, text, scale, mode)
    np.testing.assert_allclose(chunked, found, atol=1e-6)
    scaled = scores.class_probabilities(3 * video, 5 * text, scale, mode)
    np.testing.assert_allclose(scaled, found, atol=1e-4)


@pytest.mark.parametrize("prompts", [1, 3])
def test_they_are_the_softmax_of_the_logits_that_models_are_trained_with(prompts: int) -> None:
    generator = np.random.default_rng(2)
    video, text = generator.normal(size=(40, 1, 512)), generator.normal(size=(30, prompts, 512))
    video[:20, 0] += text[:20, 0]  # confident ones too
    scale = 100.0
    found = scores.class_probabilities(video, text, scale, "mean_feature")
    features, classes = torch.from_numpy(video[:, 0]).float(), torch.from_numpy(text).float()
    expected = logits(features, classes, scale).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-12)
    found = scores.class_probabilities(video, text, scale, "softmax_sum")
    each = [logits(features, classes[:, p], scale).softmax(dim=1) for p in range(prompts)]
    np.testing.assert_allclose(found, torch.stack(each).mean(0).numpy(), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("width", [1, 3, 512, 4096])
def test_dot_products_of_unit_vectors_are_exact(width: int) -> None:
    generator = np.random.default_rng(width)
    left = generator.normal(size=(20, width)) * generator.choice([1e-30, 1, 1e30], (20, 1))
    left, right = (scores.unit_vectors(x) for x in (left, np.sign(left) + (left == 0)))
    products = [
        sum(int(a * 2**26) * int(b * 2**26) for a, b in zip(u, v, strict=True))
        for u, v in zip(left, right, strict=True)
    ]
    exact = np.array(products, dtype=np.float64) / 2.0**52
    assert ((left @ right.T).diagonal() == exact).all()
    assert np.abs(np.linalg.norm(left, axis=1) - 1).max() < width**0.5 * 2**-26
    assert (left * 2**26 == np.rint(left * 2**26)).all()
    assert (scores.unit_vectors(np.zeros((2, width))) == 0).all()


def test_exp_is_close_and_ends_where_float32_does() -> None:
    x = -np.linspace(0, 120, 100_001)
    found, expected = scores._exp(x.copy()), np.exp(x)
    np.testing.assert_allclose(found[x > -103], expected[x > -103], rtol=2e-10)
    assert (found.astype(np.float32)[x < -104.1] == 0).all()
    with np.errstate(invalid="ignore"):
        assert np.isnan(scores._exp(np.array([np.nan]))).all()


def test_the_number_of_threads_changes_no_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    video, text = generator.normal(size=(700, 1, 512)), generator.normal(size=(60, 4, 512))
    monkeypatch.setattr(scores, "_CHUNK_NUMBERS", 100 * 240)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        with threadpool_limits(threads):
            found.append(scores.class_probabilities(video, text, 20.0))
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


def test_modes_are_one_with_one_prompt_and_differ_with_more() -> None:
    generator = np.random.default_rng(1)
    video, text = generator.normal(size=(5, 2, 4)), generator.normal(size=(3, 2, 4))
    one = [scores.class_probabilities(video, text[:, :1], 10, mode) for mode in _modes()]
    np.testing.assert_allclose(one[0], one[1], atol=1e-6)
    two = [scores.class_probabilities(video, text, 10, mode) for mode in _modes()]
    assert np.abs(two[0] - two[1]).max() > 0.01


def _modes() -> tuple[scores.Ensemble, scores.Ensemble]:
    return "softmax_sum", "mean_feature"


def test_class_probabilities_hand_computed_and_bad_input() -> None:
    video = np.array([[[2.0, 0.0]]])
    text = np.array([[[3.0, 0.0], [0.0, 1.0]], [[0.0, 5.0], [0.0, 2.0]]])
    found = scores.class_probabilities(video, text, np.log(3))  # e^logit: 3, 1 | 1, 1
    np.testing.assert_allclose(found, [[(3 / 4 + 1 / 2) / 2, (1 / 4 + 1 / 2) / 2]], rtol=1e-6)
    assert scores.class_probabilities(video[:0], text, 1).shape == (0, 2)
    with pytest.raises(ValueError, match=r"not \(N, V, E\)"):
        scores.class_probabilities(video, text[..., :1], 1)
    with pytest.raises(ValueError, match="no views"):
        scores.class_probabilities(video[:, :0], text, 1)
    with pytest.raises(ValueError, match="use softmax_sum"):
        scores.class_probabilities(video, text, 1, "sum")  # type: ignore[arg-type]
    lost = scores.class_probabilities(video * np.nan, text, 1)
    with pytest.raises(DataError, match="not numbers"):
        top_k_accuracy(lost, [0])
