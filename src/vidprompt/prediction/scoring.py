"""The predictions that follow from videos' features; without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidprompt.metrics.scores import class_probabilities
from vidprompt.metrics.unknown import UnknownThreshold, class_cosines
from vidprompt.prediction.classes import ClassTexts
from vidprompt.prediction.decode_many import Video
from vidprompt.prediction.results import Failure, Prediction, Predictions
from vidprompt.system.errors import DataError


class Decoded(Protocol):
    """What is said of a decoded video in its prediction (`VideoClips`, `DecodedVideo`)."""

    @property
    def duration(self) -> float:
        """In seconds."""

    @property
    def note(self) -> str:
        """A sentence on damage, or ""."""


# Videos → each as decoded with the features of its views (views, E), or the failure; in order
FeaturesOf = Callable[[Sequence[Video]], Iterable[tuple[Decoded, NDArray[np.float32]] | Failure]]


def predict_videos(
    videos: Video | Sequence[Video],
    features_of: FeaturesOf,
    texts: ClassTexts,
    threshold: UnknownThreshold | None,
) -> Prediction | Predictions:
    """The prediction of one video, or of each of several.

    Raises DataError where a single video cannot be used; of several, it is a Failure.
    """
    listed: Sequence[Video] = [videos] if isinstance(videos, str | Path) else list(videos)
    results = [
        one if isinstance(one, Failure) else score_video(video, *one, texts, threshold)
        for video, one in zip(listed, features_of(listed), strict=True)
    ]
    if not isinstance(videos, str | Path):
        return Predictions(tuple(results))
    if isinstance(results[0], Failure):
        raise DataError(results[0].reason)
    return results[0]


def score_video(
    video: Video,
    decoded: Decoded,
    features: NDArray[np.float32],
    texts: ClassTexts,
    threshold: UnknownThreshold | None = None,
) -> Prediction:
    """The prediction that follows from a video's features (views, E), as in evaluation.

    `threshold`: also judge whether it shows none of the classes.
    """
    cosines = class_cosines(features[None], texts.features)[0]
    (probabilities,) = class_probabilities(
        features[None], texts.features, texts.logit_scale, texts.ensemble
    )
    return Prediction(
        video=str(video),
        classes=texts.names,
        probabilities=probabilities,
        cosines=cosines,
        text=texts.source,
        unknown=None if threshold is None else bool(cosines.max() < threshold.cosine),
        duration=decoded.duration,
        note=decoded.note,
    )
