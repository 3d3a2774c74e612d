"""Predict with an ONNX file of `vidprompt export`: without torch and without the model's code."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprompt.data.annotations.class_names import class_key
from vidprompt.data.frames.sampling import Views
from vidprompt.data.probe.result import Limits
from vidprompt.data.shards.plan import FrameSettings
from vidprompt.export.cropping import crop_frames
from vidprompt.export.onnx_encoder import OnnxEncoder
from vidprompt.metrics.unknown import UnknownThreshold
from vidprompt.prediction.classes import ClassTexts, class_names
from vidprompt.prediction.clip_input import ClipInput
from vidprompt.prediction.decode_many import Video, decode_videos
from vidprompt.prediction.decoding import DecodedVideo, stack_clips
from vidprompt.prediction.results import Failure, Prediction, Predictions
from vidprompt.prediction.scoring import predict_videos, score_video
from vidprompt.system.errors import UserError

_CLIPS_AT_ONCE = 8  # of a tracklet there may be hundreds


class OnnxModel:
    """An exported model that predicts videos, as `prediction.model.Model` does.

    Args:
        path: an ONNX file; one above 2 GB has its weights in a file beside it.
        providers: ONNX Runtime's, best first. None: a CUDA GPU where its build has it, and the CPU.

    Its classes are those of the file. Raises UserError as `OnnxEncoder` does.
    """

    def __init__(self, path: Path | str, providers: Sequence[str] | None = None) -> None:
        self.encoder = OnnxEncoder(path, providers)
        self.metadata = self.encoder.metadata
        self.name = str(path)
        self.input = clip_input(self.metadata.input, self.name)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the file; () in one without."""
        return self.metadata.class_names

    def texts(self, classes: Sequence[str] | None = None) -> ClassTexts:
        """The features of `classes` (None: all of the file), however they are spelled ("RideBike").

        Raises UserError for one that the file does not have, and for a file without classes.
        """
        names = self.class_names if classes is None else class_names(classes)
        rows = [self._row(name) for name in names]
        for number, row in enumerate(rows):
            if row in rows[:number]:
                raise UserError(f"{names[rows.index(row)]!r} and {names[number]!r} are one class")
        return ClassTexts(
            names=names,
            features=self.encoder.text_features()[rows],
            source=self.metadata.text_source,
            ensemble=self.metadata.ensemble,
            logit_scale=self.metadata.logit_scale,
        )

    def _row(self, name: str) -> int:
        if name in self.class_names:
            return self.class_names.index(name)
        keys = [class_key(one) for one in self.class_names]
        if keys.count(class_key(name)) == 1:
            return keys.index(class_key(name))
        near = difflib.get_close_matches(name, self.class_names, n=1)
        raise UserError(
            f"{self.name} has no class {name!r}"
            + (f" (did you mean {near[0]!r}?)" if near else "")
            + f", and an exported model cannot encode its text: take some of its {len(self.class_names)} "
            "classes, or export it again with --classes"
        )

    def require_threshold(self) -> UnknownThreshold:
        """The threshold for unknown classes. Raises UserError where the file has none."""
        if not self.metadata.unknown:
            raise UserError(
                f"{self.name} has no threshold for unknown classes: the model that it was exported from had "
                "none"
            )
        return UnknownThreshold.of(self.metadata.unknown)

    def features(
        self,
        videos: Sequence[Video],
        *,
        workers: int = 0,
        limits: Limits | None = None,
        on_result: Callable[[], None] | None = None,
    ) -> Iterator[tuple[DecodedVideo, NDArray[np.float32]] | Failure]:
        """Each video as decoded with the features of its views (views, E), or the failure; in order.

        `workers`: processes that decode, each video within `limits`; 0 decodes here. `on_result` is called
        after each.
        """
        for video, decoded in decode_videos(self.input, videos, workers, limits):
            yield self._encode(video, decoded)
            if on_result is not None:
                on_result()

    def _encode(
        self, video: Video, decoded: DecodedVideo | Failure
    ) -> tuple[DecodedVideo, NDArray[np.float32]] | Failure:
        if isinstance(decoded, Failure):
            return decoded
        try:
            clips = cut_clips(decoded, self.input, Path(video).name)
        except UserError as error:
            return Failure(str(video), str(error))
        parts = range(0, len(clips), _CLIPS_AT_ONCE)
        features = np.concatenate(
            [self.encoder.encode(clips[start : start + _CLIPS_AT_ONCE]) for start in parts]
        )
        if not np.isfinite(features).all():
            return Failure(str(video), "its features are not finite numbers")
        return decoded, features

    def predict(
        self,
        videos: Video | Sequence[Video],
        classes: Sequence[str] | None = None,
        *,
        unknown: bool = False,
        workers: int = 0,
    ) -> Prediction | Predictions:
        """The probabilities of classes for one video, or for each of several.

        Args:
            videos: a file (or a folder of images), or a list of them.
            classes: some of the file's classes; None: all.
            unknown: also judge whether a video shows none of the classes, by the model's threshold.
            workers: processes that decode (see `features`).

        Raises DataError where a single video cannot be used (of several, it is a Failure), and UserError as
        `texts` and `require_threshold` do.
        """
        texts = self.texts(classes)
        threshold = self.require_threshold() if unknown else None
        return predict_videos(
            videos, lambda listed: self.features(listed, workers=workers), texts, threshold
        )

    score = staticmethod(score_video)


def clip_input(values: Any, file: str) -> ClipInput:
    """The input of `ClipInput.to_dict`. Raises UserError for one of another version."""
    try:
        stored = values["stored"]
        return ClipInput(
            num_frames=values["num_frames"],
            image_size=values["image_size"],
            views=Views(**values["views"]),
            stored=FrameSettings(**stored) if stored else None,
            whole=values["whole"],
        )
    except (TypeError, KeyError) as error:
        raise UserError(f"{file}: its input is of another version of VidPrompt: {error}") from error


def cut_clips(video: DecodedVideo, settings: ClipInput, name: str = "") -> NDArray[Any]:
    """The clips of a decoded video, (views, T, 3, S, S) in [0, 255]: `prediction.clips` without torch."""
    numbers = settings.clips(video.n_frames, name)
    views = replace(settings.views, crops=1) if settings.whole else settings.views
    size = settings.image_size
    return np.concatenate([crop_frames(stack_clips(video, clip), size, views) for clip in numbers])
