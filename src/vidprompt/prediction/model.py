"""`Model`: a loaded model that predicts, embeds and explains videos."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vidprompt.data.clips.reading import normalise
from vidprompt.data.probe.result import Limits
from vidprompt.files.hashes import digest, sha256
from vidprompt.inference.encoding import map_ahead, single_threaded
from vidprompt.metrics.unknown import UnknownThreshold
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.precision import computing_in
from vidprompt.prediction.classes import Classes, ClassTexts
from vidprompt.prediction.clip_input import ClipInput
from vidprompt.prediction.clips import VideoClips, video_clips
from vidprompt.prediction.decode_many import decode_videos
from vidprompt.prediction.decoding import DecodedVideo
from vidprompt.prediction.explaining import AUTO, explain_decoded, explain_video
from vidprompt.prediction.explanation import VideoExplanation, VideoExplanations
from vidprompt.prediction.hysteresis import SpanSettings, WindowScores, join_windows
from vidprompt.prediction.inputs import is_stream
from vidprompt.prediction.results import (
    Embeddings,
    Failure,
    Prediction,
    Predictions,
    Span,
    video_feature,
)
from vidprompt.prediction.scoring import predict_videos, score_video
from vidprompt.prediction.sources import ModelSource
from vidprompt.prediction.texts import TextSettings, encode_class_texts
from vidprompt.prediction.window_features import (
    SCORED_AT_ONCE,
    WindowFeatures,
    encode_windows,
    score_windows,
    tee,
)
from vidprompt.prediction.windows import STRIDE_S, WINDOW_S, VideoEnd, WindowFrames, check_window
from vidprompt.system.errors import DataError, UserError

Video = str | Path
# Raised where an embedding of the same video by the same checkpoint becomes another one
EMBEDDING_FORM = ("0", "1")
_KEPT_TEXTS = 8  # sets of classes whose features are kept


class Model:
    """A model that is ready to use; `vidprompt.load` makes one.

    Args:
        source: what it was loaded from.
        encoder: the method on its backbone, with its trained values.
        input: how a video becomes clips.
        text: the texts of classes in its tests.
        device: where it computes.
    """

    def __init__(
        self,
        source: ModelSource,
        encoder: VideoCLIP,
        input: ClipInput,
        text: TextSettings,
        device: torch.device,
    ) -> None:
        self.source, self.input, self.text, self.device = source, input, text, device
        encoder.merge_lora()
        self.encoder = encoder.eval().requires_grad_(False).to(device)
        self._texts: OrderedDict[str, ClassTexts] = OrderedDict()
        self._lock = threading.Lock()  # of the text side, which changes the encoder for a moment

    def __repr__(self) -> str:
        return (
            f"Model({self.name!r}: {self.method} on {self.encoder.backbone.tag}, {self.input.num_frames} "
            f"frames, {len(self.class_names)} classes, {self.device})"
        )

    @property
    def name(self) -> str:
        """As given to `load`."""
        return self.source.name

    @property
    def method(self) -> str:
        return self.encoder.method

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the training; () for a bare backbone."""
        return tuple(self.source.metadata.class_names) if self.source.metadata else ()

    @property
    def unknown_threshold(self) -> UnknownThreshold | None:
        """The calibrated threshold for "none of the classes"; None where the checkpoint has none."""
        values = self.source.metadata.unknown if self.source.metadata else {}
        return UnknownThreshold.of(values) if values else None

    @property
    def width(self) -> int:
        """E, the length of a feature."""
        return self.encoder.feature_width

    @cached_property
    def identity(self) -> str:
        """A hash of all that embeddings depend on, beside the videos: equal ones can be compared."""
        checkpoint = self.source.checkpoint
        return digest(
            [
                EMBEDDING_FORM,
                sha256(checkpoint) if checkpoint else self.method,
                self.encoder.backbone.identity(),
                self.input.to_dict(),
            ]
        )

    # -- videos -------------------------------------------------------------------------------

    def read(self, video: Video, max_pixels: int = Limits.max_pixels) -> VideoClips:
        """Decode a video's clips. Raises DataError, naming the file, where it cannot be used."""
        return self.cut(self.input.decode(video, max_pixels), video)

    def cut(self, decoded: DecodedVideo, video: Video) -> VideoClips:
        """The clips of a decoded video."""
        return video_clips(decoded, self.input, Path(video).name)

    def encode(self, clips: torch.Tensor) -> NDArray[np.float32]:
        """Clips (n, T, 3, S, S) in [0, 255] → features (n, E), float32, not normalised."""
        return self._encode(clips)[1]

    def encode_frames(self, frames: torch.Tensor) -> NDArray[np.float32]:
        """Frames (n, 3, S, S) in [0, 255] as one clip → the features of each, (n, E), not normalised.

        Only frozen CLIP's are those that the frame has in any other clip.
        """
        return self._encode(frames[None])[0][0]

    @torch.inference_mode()
    def _encode(self, clips: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Clips (n, T, 3, S, S) → features of frames (n, T, E) and of clips (n, E)."""
        backbone = self.encoder.backbone
        with computing_in(self.input.views.precision, self.device):
            normalised = normalise(clips, backbone.mean, backbone.std, self.device)
            frames, videos = self.encoder.encode_video(normalised)
        return frames.float().cpu().numpy(), videos.float().cpu().numpy()

    def features(
        self,
        videos: Sequence[Video],
        *,
        workers: int = 0,
        limits: Limits | None = None,
        on_result: Callable[[], None] | None = None,
        decoded: Iterable[tuple[Video, DecodedVideo | Failure]] | None = None,
    ) -> Iterator[tuple[VideoClips, NDArray[np.float32]] | Failure]:
        """The clips of each video with their features (views, E), or the failure; in order.

        `workers`: processes that decode, in which a file that hangs or crashes a decoder costs itself alone
        (within `limits`); 0 decodes here. Each video is encoded by itself and, of several on a CPU, by one
        thread: a feature does not depend on the other videos. A single video has all threads, which changes
        the last bits of sums. `on_result` is called after each. `decoded`: the videos where they are decoded
        already (`decode_ahead`).
        """
        if decoded is None:
            decoded = decode_videos(self.input, videos, workers, limits)
        if len(videos) == 1:  # in this thread: another one would start OpenMP threads of its own
            for pair in decoded:
                yield self._encode_pair(*pair)
                if on_result is not None:
                    on_result()
            return
        with (
            single_threaded(self.device) as threads,
            closing(map_ahead(lambda pair: self._encode_pair(*pair), decoded, threads)) as encoded,
        ):
            for result in encoded:
                yield result
                if on_result is not None:
                    on_result()

    def _encode_pair(
        self, video: Video, decoded: DecodedVideo | Failure
    ) -> tuple[VideoClips, NDArray[np.float32]] | Failure:
        if isinstance(decoded, Failure):
            return decoded
        try:
            clips = self.cut(decoded, video)
        except UserError as error:
            return Failure(str(video), str(error))
        features = self.encode(clips.clips)
        if not np.isfinite(features).all():
            return Failure(str(video), "its features are not finite numbers")
        return clips, features

    # -- long videos --------------------------------------------------------------------------

    def windows(
        self,
        video: Video,
        window: float = WINDOW_S,
        stride: float = STRIDE_S,
        *,
        isolated: bool = False,
        limits: Limits | None = None,
        decoded: Generator[WindowFrames | VideoEnd, None, None] | None = None,
        on_end: Callable[[VideoEnd], None] | None = None,
    ) -> Iterator[WindowFeatures]:
        """The features of a video's windows of `window` seconds every `stride` seconds, in order.

        Each is encoded as a video of that length. The video is decoded once, in order, and memory does not
        grow with its length. The last window ends with the video and may be shorter. A camera or a stream
        (`/dev/video0`, `rtsp://…`) has windows for as long as it runs. `isolated`: decode in a process of
        its own, within `limits` (the time between two windows is limited). `decoded`: these windows, as
        `windows.decode_windows` gives them, decoded elsewhere. `on_end` is called with what is known at the
        end. Raises DataError where the video cannot be used.
        """
        by_frame = self.encode_frames if self.encoder.encodes_frames_apart else None
        decoded = decoded or self.input.windows(video, window, stride, isolated, limits)
        with closing(decoded):
            yield from encode_windows(
                decoded,
                self.input,
                self.device,
                self.encode,
                by_frame,
                on_end,
                live=is_stream(str(video)),
            )

    def segments(
        self,
        video: Video,
        classes: Classes | None = None,
        window: float = WINDOW_S,
        stride: float = STRIDE_S,
        *,
        prompts: Sequence[str] | None = None,
        unknown: bool = False,
        settings: SpanSettings | None = None,
        isolated: bool = False,
        limits: Limits | None = None,
        decoded: Generator[WindowFrames | VideoEnd, None, None] | None = None,
        on_end: Callable[[VideoEnd], None] | None = None,
        on_window: Callable[[WindowScores], None] | None = None,
    ) -> Iterator[Span]:
        """Where in a long video the classes are: spans in order, each as soon as it ends.

        Windows as in `windows`; `settings` say how they are joined (`hysteresis.SpanSettings`). `unknown`:
        windows that show none of the classes, by the model's threshold, are in no span. `on_window` is
        called with the scores of each window. Raises as `predict` and `windows` do.
        """
        texts = self.texts(classes, prompts)
        chosen = settings or SpanSettings()
        if unknown:
            chosen = replace(chosen, unknown=self.require_threshold().cosine)
        chosen.thresholds(len(texts.names))
        check_window(window, stride)

        windows = self.windows(
            video, window, stride, isolated=isolated, limits=limits, decoded=decoded, on_end=on_end
        )
        at_once = 1 if is_stream(str(video)) else SCORED_AT_ONCE
        scores = score_windows(windows, texts, at_once)
        if on_window is not None:
            scores = tee(scores, on_window)
        return join_windows(scores, texts.names, chosen)

    # -- explaining ---------------------------------------------------------------------------

    @overload
    def explain(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
        self, video: Video, text: str | None = ..., *, window: float | str | None = ...
    ) -> VideoExplanation: ...
    @overload
    def explain(
        self, video: Video, text: Sequence[str], *, window: float | str | None = ...
    ) -> VideoExplanations: ...
    def explain(
        self,
        video: Video,
        text: str | Sequence[str] | None = None,
        *,
        window: float | str | None = AUTO,
    ) -> VideoExplanation | VideoExplanations:
        """Which frames of a video, and which places in them, a text's similarity follows from.

        Args:
            video: a file, or a folder of images.
            text: a sentence, or a class of the model, which stands for its texts as in `predict`; several
                are compared on the same frames. None: what the video's feature follows from.
            window: seconds of the part of a long video that is explained: the one that the (first) text
                fits best; None: the whole video; "auto": 2 s where it is longer than 30 s.

        Raises DataError where the video cannot be used, UserError for an empty text or a wrong window.
        """
        if text is None or isinstance(text, str):
            return explain_video(self, video, [text], window)[0]
        if not text:
            raise UserError("text=[]: give at least one text, or None")
        return explain_video(self, video, list(text), window)

    def explain_decoded(
        self, decoded: DecodedVideo, text: str | Sequence[str] | None = None, video: Video = ""
    ) -> VideoExplanations:
        """`explain`, of a video that is decoded already (`ClipInput.decode_isolated`).

        The pictures are the decoded frames.
        """
        texts = [text] if text is None or isinstance(text, str) else list(text)
        return explain_decoded(self, decoded, texts, str(video))

    # -- texts --------------------------------------------------------------------------------

    def texts(
        self, classes: Classes | None = None, prompts: Sequence[str] | None = None
    ) -> ClassTexts:
        """The features of classes' texts; those of the last few sets are kept.

        `classes`: names, or name → description(s); None: those of the training. `prompts`: templates with
        one `{}`. Raises UserError for none, repeated ones, or two that the text tower does not tell apart.
        """
        chosen: Classes = self.class_names if classes is None else classes
        if not chosen:
            raise UserError(f"{self.name} has no classes of its own: give classes=[…]")
        pairs = dict(chosen) if isinstance(chosen, Mapping) else list(chosen)
        key = digest([pairs, list(prompts) if prompts is not None else None])
        with self._lock:
            if key not in self._texts:
                self._texts[key] = encode_class_texts(self.encoder, self.text, chosen, prompts)
            self._texts.move_to_end(key)
            while len(self._texts) > _KEPT_TEXTS:
                self._texts.popitem(last=False)
            return self._texts[key]

    @torch.inference_mode()
    def embed_text(self, texts: Sequence[str] | str) -> NDArray[np.float32]:
        """Features of sentences as they are, (n, E), float32, of unit length."""
        lines = [texts] if isinstance(texts, str) else list(texts)
        if not lines or not all(str(line).strip() for line in lines):
            raise UserError("an empty text has no feature: give sentences")
        with self._lock:
            features = F.normalize(self.encoder.encode_texts(lines).float(), dim=-1)
        array: NDArray[np.float32] = features.cpu().numpy()
        return array

    # -- predicting and embedding -------------------------------------------------------------

    @overload
    def predict(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
        self,
        videos: Video,
        classes: Classes | None = ...,
        *,
        prompts: Sequence[str] | None = ...,
        unknown: bool = ...,
        workers: int = ...,
    ) -> Prediction: ...
    @overload
    def predict(
        self,
        videos: Sequence[Video],
        classes: Classes | None = ...,
        *,
        prompts: Sequence[str] | None = ...,
        unknown: bool = ...,
        workers: int = ...,
    ) -> Predictions: ...
    def predict(
        self,
        videos: Video | Sequence[Video],
        classes: Classes | None = None,
        *,
        prompts: Sequence[str] | None = None,
        unknown: bool = False,
        workers: int = 0,
    ) -> Prediction | Predictions:
        """The probabilities of classes for one video, or for each of several.

        Args:
            videos: a file (or a folder of images), or a list of them.
            classes: names, or name → description(s); None: those of the training.
            prompts: templates with one `{}`, instead of the model's texts.
            unknown: also judge whether a video shows none of the classes, by the model's threshold.
            workers: processes that decode (see `features`).

        Raises DataError where a single video cannot be used (of several, it is a Failure), UserError for
        classes that do not work, and for `unknown` without a threshold.
        """
        texts = self.texts(classes, prompts)
        threshold = self.require_threshold() if unknown else None
        return predict_videos(
            videos, lambda listed: self.features(listed, workers=workers), texts, threshold
        )

    score = staticmethod(score_video)

    def require_threshold(self) -> UnknownThreshold:
        """The threshold for unknown classes. Raises UserError where the checkpoint has none."""
        threshold = self.unknown_threshold
        if threshold is None:
            raise UserError(
                f"{self.name} has no threshold for unknown classes: it was trained without held-out videos. "
                "Train it with protocol.held_out (0.1), or calibrate it on videos that it has not seen: "
                "`vidprompt calibrate MODEL FOLDER --out FILE`"
            )
        return threshold

    def embed(
        self, videos: Video | Sequence[Video], *, workers: int = 0, limits: Limits | None = None
    ) -> Embeddings:
        """Features of videos, of unit length: the mean of the views' normalised features.

        A broken video is in `failures`; a single one raises DataError.
        """
        single = isinstance(videos, str | Path)
        listed: Sequence[Video] = [videos] if isinstance(videos, str | Path) else list(videos)
        names, rows, failures = list[str](), list[NDArray[np.float32]](), list[Failure]()
        results = self.features(listed, workers=workers, limits=limits)
        for video, one in zip(listed, results, strict=True):
            if isinstance(one, Failure):
                failures.append(one)
            else:
                names.append(str(video))
                rows.append(video_feature(one[1]))
        if single and failures:
            raise DataError(failures[0].reason)
        features = np.stack(rows) if rows else np.empty((0, self.width), np.float32)
        return Embeddings(tuple(names), features, tuple(failures))
