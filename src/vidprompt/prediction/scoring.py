"""The prediction that follows from a video's features; without torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidprompt.metrics.scores import class_probabilities
from vidprompt.metrics.unknown import UnknownThreshold, class_cosines
from vidprompt.prediction.classes import ClassTexts
from vidprompt.prediction.results import Prediction


def score_video(
    video: str,
    features: NDArray[np.float32],
    texts: ClassTexts,
    threshold: UnknownThreshold | None = None,
    *,
    duration: float = 0.0,
    note: str = "",
) -> Prediction:
    """The prediction of a video with features (views, E), computed as in evaluation.

    `threshold`: also judge whether it shows none of the classes. `duration` (seconds) and `note` are of the
    video.
    """
    cosines = class_cosines(features[None], texts.features)[0]
    (probabilities,) = class_probabilities(
        features[None], texts.features, texts.logit_scale, texts.ensemble
    )
    return Prediction(
        video=video,
        classes=texts.names,
        probabilities=probabilities,
        cosines=cosines,
        text=texts.source,
        unknown=None if threshold is None else bool(cosines.max() < threshold.cosine),
        duration=duration,
        note=note,
    )
