"""Scores of a model while it is trained, compared with plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from vidprompt.pipeline.validator import retrieval_map


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
