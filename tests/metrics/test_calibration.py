"""Expected calibration error and reliability, against hand-made cases and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from vidprompt.metrics.calibration import BINS, reliability
from vidprompt.system.errors import DataError


def test_hand_computed() -> None:
    # (0, 0.25]: 0.2 and 0.25, one right; (0.5, 0.75]: 0.6, wrong; (0.75, 1]: 1.0, right
    bins = reliability([0.2, 0.6, 0.25, 1.0], [1, 0, 0, 1], bins=4)
    assert bins.n.tolist() == [2, 0, 1, 1]
    assert bins.confidence[[0, 2, 3]] == pytest.approx([0.225, 0.6, 1])
    assert bins.accuracy[[0, 2, 3]].tolist() == [0.5, 0, 1]
    assert np.isnan([bins.confidence[1], bins.accuracy[1]]).all()
    assert bins.error == pytest.approx((2 * 0.275 + 0.6 + 0) / 4)
    assert (bins.low.tolist(), bins.high[-1]) == ([0, 0.25, 0.5, 0.75], 1)


def test_is_the_loop() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.random(500).astype(np.float32)
    hits = generator.random(500) < confidence**2
    error = 0.0
    for b in range(BINS):
        held = [i for i in range(500) if b / BINS < confidence[i] <= (b + 1) / BINS]
        if held:
            gap = np.mean(hits[held]) - np.mean(confidence[held], dtype=np.float64)
            error += len(held) / 500 * abs(gap)
    assert reliability(confidence, hits).error == pytest.approx(error)
    assert error > 0.1  # it is too sure


def test_as_often_right_as_sure_is_no_error() -> None:
    confidence = np.repeat([0.1, 0.5, 0.9], 10)
    hits = np.concatenate([np.arange(10) < k for k in (1, 5, 9)])
    assert reliability(confidence, hits).error == pytest.approx(0)
    assert reliability(confidence, ~hits).error == pytest.approx((0.8 + 0 + 0.8) / 3)


def test_the_ends_are_counted() -> None:
    bins = reliability(np.array([0, 1, 1 + 1e-6], np.float32), [0, 1, 1])
    assert (bins.n[0], bins.n[-1], bins.n.sum()) == (1, 2, 3)


def test_refusals() -> None:
    with pytest.raises(DataError, match="no video"):
        reliability([], [])
    with pytest.raises(ValueError, match="not both"):
        reliability([0.5], [1, 0])
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="is outside"):
            reliability([0.5, wrong], [1, 0])
