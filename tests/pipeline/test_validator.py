"""Scores of a model while it is trained, compared with plain loops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vidprompt.inference.encoding import MIN_CLIPS_FOR_WORKERS
from vidprompt.models.text.prompts import PromptSet
from vidprompt.pipeline import validator
from vidprompt.pipeline.validator import Validator, retrieval_map


@pytest.mark.parametrize(
    ("clips", "workers"), [(MIN_CLIPS_FOR_WORKERS - 1, 0), (MIN_CLIPS_FOR_WORKERS, 3)]
)
def test_many_clips_are_loaded_by_workers(
    monkeypatch: pytest.MonkeyPatch, clips: int, workers: int
) -> None:
    seen: dict[str, Any] = {}

    def encode(*_: Any, **options: Any) -> np.ndarray:
        seen.update(options)
        return np.eye(2, dtype=np.float32)[:, None]

    monkeypatch.setattr(validator, "encode_videos", encode)
    model: Any = SimpleNamespace(eval=lambda: None, device=torch.device("cpu"))
    listed: Any = lambda _: range(clips)  # noqa: E731
    measured = Validator(
        model,
        listed,
        ["a", "b"],
        [0, 0],
        classes=None,
        prompts=PromptSet(("{}",)),
        ensemble="softmax_sum",
        workers=3,
    )
    assert measured.evaluate() == 1.0
    assert seen["workers"] == workers


def test_retrieval_map_is_the_loop() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(30, 2, 8)).astype(np.float32)
    labels = np.r_[generator.integers(0, 6, size=29), 99]  # the last person has one tracklet
    unit = features.mean(1) / np.linalg.norm(features.mean(1), axis=1, keepdims=True)
    precisions = []
    for i, similarity in enumerate(unit @ unit.T):
        order = [j for j in np.argsort(-similarity, kind="stable") if j != i]
        hits = [labels[j] == labels[i] for j in order]
        positives = [sum(hits[: k + 1]) / (k + 1) for k, hit in enumerate(hits) if hit]
        if positives:
            precisions.append(np.mean(positives))
    assert len(precisions) == 29
    assert retrieval_map(features, labels) == pytest.approx(np.mean(precisions))
    assert retrieval_map(features, np.arange(30)) == 0
