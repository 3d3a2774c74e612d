"""Explain a video by a model: from a file, or decoded frames, to `VideoExplanations`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vidprompt.data.annotations.class_names import class_key
from vidprompt.data.probe.result import Limits
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.prediction.classes import ClassTexts
from vidprompt.prediction.clip_input import ClipInput
from vidprompt.prediction.clips import VideoClips, video_clips
from vidprompt.prediction.decoding import DecodedVideo
from vidprompt.prediction.download import downloaded
from vidprompt.prediction.explained_frames import (
    ShownFrames,
    header_seconds,
    read_part,
    read_shown,
)
from vidprompt.prediction.explanation import SENTENCE, VideoExplanation, VideoExplanations
from vidprompt.prediction.inputs import InputKind, find_inputs
from vidprompt.prediction.results import video_feature
from vidprompt.prediction.window_features import WindowFeatures
from vidprompt.prediction.windows import WINDOW_S, VideoEnd
from vidprompt.reporting.explanations.relevance import explain_views, mean_text
from vidprompt.system.errors import DataError, UserError

AUTO = "auto"
LONG_S = 30.0  # of a longer video the window that a text fits best is explained
Vector = NDArray[np.float32]


class ExplainableModel(Protocol):
    """What is used of a `Model`."""

    encoder: VideoCLIP
    input: ClipInput
    device: torch.device

    @property
    def name(self) -> str: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    def texts(self) -> ClassTexts: ...
    def embed_text(self, texts: str, /) -> Vector: ...
    def encode(self, clips: torch.Tensor, /) -> Vector: ...
    def windows(
        self,
        video: Path | str,
        window: float,
        stride: float,
        *,
        on_end: Callable[[VideoEnd], None] | None = None,
    ) -> Iterator[WindowFeatures]: ...


@contextmanager
def single_video(argument: str) -> Iterator[Path]:
    """The file, or folder of images, that an argument names; of an address, as long as the context lasts.

    Raises UserError for several videos and for a stream, DataError for what cannot be read.
    """
    inputs = find_inputs([argument])
    if len(inputs) > 1:
        raise UserError(f"{argument}: it has {len(inputs):,} videos; one is explained at a time")
    (one,) = inputs.videos
    if one.kind is InputKind.STREAM:
        raise UserError(f"{argument}: a camera or stream has no end; record a file of it")
    if one.kind is InputKind.FAILED:
        raise DataError(one.reason)
    if one.kind is InputKind.REMOTE:
        with downloaded(one.name) as path:
            yield path
    else:
        yield Path(one.name)


@dataclass(frozen=True)
class TextFeature:
    """A text, what stands for it, and its feature of unit length (E,); None: the video's feature itself."""

    text: str | None
    source: str = ""
    feature: Vector | None = None


@dataclass(frozen=True)
class _Part:
    """What is explained: the clips, the frames they are cut from, and those to draw on."""

    clips: VideoClips
    decoded: DecodedVideo
    shown: ShownFrames
    n_frames: int
    duration: float
    note: str
    window: tuple[float, float] | None = None


def explain_video(
    model: ExplainableModel,
    video: Path | str,
    texts: Sequence[str | None],
    window: float | str | None = AUTO,
    max_pixels: int = Limits.max_pixels,
    name: str = "",
) -> VideoExplanations:
    """Explain the same frames of a video by each text (see `Model.explain`); `name`: what it is called."""
    features = [text_feature(model, text) for text in texts]
    part = _read(model, video, features[0], window, max_pixels)
    return _explain_part(model, part, features, name or str(video))


def explain_decoded(
    model: ExplainableModel, decoded: DecodedVideo, texts: Sequence[str | None], video: str
) -> VideoExplanations:
    """Explain a video whose frames are decoded already; they are the pictures, too."""
    features = [text_feature(model, text) for text in texts]
    clips = video_clips(decoded, model.input, Path(video).name)
    height, width = decoded.frames.shape[1:3]
    shown = ShownFrames(decoded.frames, (width, height))
    part = _Part(clips, decoded, shown, decoded.n_frames, decoded.duration, decoded.note)
    return _explain_part(model, part, features, video)


def text_feature(model: ExplainableModel, text: str | None) -> TextFeature:
    """A class of the model stands for its texts, as in predicting; another text for itself."""
    if text is None:
        return TextFeature(None)
    if not text.strip():
        raise UserError("the text is empty: give a sentence, or no text")
    keys = [class_key(name) for name in model.class_names]
    if class_key(text) in keys:
        texts = model.texts()
        return TextFeature(
            text, texts.source, mean_text(texts.features[keys.index(class_key(text))])
        )
    return TextFeature(text, SENTENCE, model.embed_text(text)[0])


def _read(
    model: ExplainableModel,
    video: Path | str,
    first: TextFeature,
    window: float | str | None,
    max_pixels: int,
) -> _Part:
    """The video, or the window of it that the first text fits best."""
    chosen = _window_seconds(window)
    if window == AUTO and first.feature is not None and header_seconds(video) > LONG_S:
        chosen = WINDOW_S
    if chosen is None:
        decoded = model.input.decode(video, max_pixels)
        if window != AUTO or first.feature is None or decoded.duration <= LONG_S:
            clips = video_clips(decoded, model.input, Path(video).name)
            shown = read_shown(video, decoded.numbers, max_pixels)
            return _Part(clips, decoded, shown, decoded.n_frames, decoded.duration, decoded.note)
        chosen = WINDOW_S  # its header does not say that it is long
    if first.feature is None:
        raise UserError("window: the text chooses it, and there is none: give a text")
    return _read_window(model, video, first.feature, chosen, max_pixels)


def _window_seconds(window: float | str | None) -> float | None:
    if window is None or window == AUTO:
        return None
    if isinstance(window, str):
        raise UserError(f"window={window!r}: seconds, {AUTO!r}, or None for the whole video")
    return float(window)


def _read_window(
    model: ExplainableModel,
    video: Path | str,
    text: Vector,
    seconds: float,
    max_pixels: int,
) -> _Part:
    """The frames of the window that the text fits best; of equal ones the first."""
    best: WindowFeatures | None = None
    most, end = -np.inf, list[VideoEnd]()
    for one in model.windows(video, seconds, seconds / 2, on_end=end.append):
        cosine = float(one.feature @ text)
        if cosine > most:
            best, most = one, cosine
    if best is None:
        raise UserError(f"{video}: it has no window of {seconds:g} s")
    wanted = np.unique(best.numbers)
    decoded, shown = read_part(video, wanted, model.input.prepare, max_pixels)
    clips = video_clips(decoded, model.input, Path(video).name, best.numbers)
    window = best.start, best.end
    return _Part(clips, decoded, shown, end[0].n_frames, end[0].duration, end[0].note, window)


def _explain_part(
    model: ExplainableModel, part: _Part, texts: Sequence[TextFeature], video: str
) -> VideoExplanations:
    feature = video_feature(model.encode(part.clips.clips))
    shape = part.decoded.frames.shape[1], part.decoded.frames.shape[2]
    whole = model.input.whole
    views = replace(model.input.views, crops=1) if whole else model.input.views
    results = []
    for text in texts:
        relevance = explain_views(
            model.encoder,
            part.clips.clips,
            part.clips.numbers,
            views,
            shape,
            text.feature,
            model.device,
        )
        rows = np.searchsorted(part.decoded.numbers, relevance.numbers)
        similarity = None if text.feature is None else float(feature @ text.feature)
        results.append(
            VideoExplanation(
                video=video,
                model=model.name,
                text=text.text,
                source=text.source,
                similarity=similarity,
                logit_scale=float(model.encoder.logit_scale),
                numbers=relevance.numbers,
                times=part.decoded.times[rows],
                temporal=relevance.temporal,
                spatial=relevance.spatial,
                region=relevance.region,
                pictures=part.shown.pictures[rows],
                size=part.shown.size,
                n_frames=part.n_frames,
                duration=part.duration,
                window=part.window,
                note=part.note,
            )
        )
    return VideoExplanations(tuple(results))
