"""The threshold for "none of the classes": what it maximises, and when there is none."""

from __future__ import annotations

import numpy as np
import pytest

from vidprompt.metrics.unknown import MIN_VIDEOS, UnknownThreshold, calibrate, class_cosines
from vidprompt.system.errors import UserError


def shares(cosines: np.ndarray, labels: np.ndarray, threshold: float) -> tuple[float, float]:
    """Videos kept with their class among the classes, and refused without it, one by one."""
    kept = [max(row) >= threshold for row in cosines]
    without = [np.delete(row, label) for row, label in zip(cosines, labels, strict=True)]
    refused = [max(row) < threshold for row in without]
    return float(np.mean(kept)), float(np.mean(refused))


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_is_better_on_the_held_out_videos(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=30)
    cosines = rng.normal(0.2, 0.05, (30, 4))
    cosines[np.arange(30), labels] += 0.1 * rng.random(30)
    found = calibrate(cosines, labels)
    assert found is not None
    assert found.videos == 30
    own = shares(cosines, labels, found.cosine)
    assert own == pytest.approx((found.known_kept, found.unknown_refused), abs=1e-4)
    tried = [sum(shares(cosines, labels, t)) for t in np.linspace(-0.1, 0.6, 701)]
    assert sum(own) >= max(tried) - 1e-9


def test_it_parts_what_can_be_parted() -> None:
    labels = np.arange(12) % 3
    cosines = np.full((12, 3), 0.1)
    cosines[np.arange(12), labels] = 0.3
    found = calibrate(cosines, labels)
    assert found == UnknownThreshold(0.2, 1.0, 1.0, 12)
    assert UnknownThreshold.of(found.to_dict()) == found


def test_too_few_videos_or_one_class_give_none() -> None:
    cosines, labels = np.random.default_rng(0).random((MIN_VIDEOS, 2)), np.arange(MIN_VIDEOS) % 2
    assert calibrate(cosines, labels) is not None
    assert calibrate(cosines[1:], labels[1:]) is None
    assert calibrate(cosines[:, :1], 0 * labels) is None
    same = calibrate(np.full((20, 2), 0.5), labels.repeat(2))  # nothing tells them apart
    assert same is not None
    assert 0 <= same.known_kept + same.unknown_refused <= 1


def test_cosines_are_means_over_views_and_of_normalised_prompts() -> None:
    rng = np.random.default_rng(1)
    video, text = rng.normal(size=(2, 3, 8)), rng.normal(size=(4, 5, 8))

    def unit(values: np.ndarray) -> np.ndarray:
        return values / np.linalg.norm(values, axis=-1, keepdims=True)

    classes = unit(unit(text).mean(axis=1))
    expected = np.mean([unit(video[:, view]) @ classes.T for view in range(3)], axis=0)
    np.testing.assert_allclose(class_cosines(video, text), expected, atol=1e-6)


def test_a_threshold_of_another_version_is_a_sentence() -> None:
    with pytest.raises(UserError, match="the threshold for unknown classes is not one"):
        UnknownThreshold.of({"logit": 1})
