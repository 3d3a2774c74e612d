"""`Service`: a model whose requests share decoding processes, batches and limits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

import vidprompt
from vidprompt.inference.encoding import single_threaded
from vidprompt.prediction.classes import Classes
from vidprompt.prediction.clips import VideoClips
from vidprompt.prediction.decoding import DecodedVideo
from vidprompt.prediction.explanation import VideoExplanation
from vidprompt.prediction.hysteresis import WindowScores
from vidprompt.prediction.model import Model
from vidprompt.prediction.results import Prediction, Span, video_feature
from vidprompt.prediction.windows import VideoEnd, WindowFrames
from vidprompt.serving.batching import Batcher
from vidprompt.serving.capacity import Capacity
from vidprompt.serving.decoders import DecoderPool, DecodingError
from vidprompt.serving.errors import RequestError
from vidprompt.serving.forms import Form
from vidprompt.serving.limits import ServiceLimits
from vidprompt.serving.metrics import ServiceMetrics
from vidprompt.serving.upload_decoding import Decoded, TooLarge, UploadItem, decode_upload
from vidprompt.serving.upload_folder import upload_folder
from vidprompt.system.errors import DataError, UserError

Features = NDArray[np.float32]
_REPORT_S = 0.25  # between two reports of the progress
Value = TypeVar("Value")


class SearchIndex(Protocol):
    """What the service needs of an index: `index.search.Index`; `info.window` is None for whole videos."""

    info: Any

    def __len__(self) -> int: ...
    def search_feature(self, feature: NDArray[Any], *, top: int, overlapping: bool) -> Any:
        """`.hits`: each with rank, video, start, end and score."""


@dataclass(frozen=True)
class _Encodable:
    """A decoded video that waits for its batch."""

    decoded: DecodedVideo
    name: str


@dataclass(frozen=True)
class EncodedVideo:
    """The clips of an upload and their features (views, E)."""

    clips: VideoClips
    features: Features


class Service:
    """Answers requests with one model.

    Decoding happens in processes of their own (`DecoderPool`). Videos that are decoded at about the same time
    are encoded together: on a GPU in one pass, on a CPU one beside the other with a thread each, so that
    there a feature does not depend on the other videos by a single bit.
    """

    def __init__(
        self, model: Model, limits: ServiceLimits | None = None, index: SearchIndex | None = None
    ) -> None:
        self.model, self.limits, self.index = model, limits or ServiceLimits(), index
        self.metrics = ServiceMetrics()
        self.capacity = Capacity(self.limits.requests)
        self._stack = ExitStack()
        self.folder = Path()  # of uploads, while it runs
        # of a file, only what does not tell where it is on this machine
        path = Path(model.name)
        self.model_name = "/".join(path.parts[-2:]) if path.is_absolute() else model.name

    async def start(self) -> None:
        """Start processes and threads, in the running event loop."""
        limits, metrics = self.limits, self.metrics
        self.folder = self._stack.enter_context(upload_folder())
        threads = self._stack.enter_context(single_threaded(self.model.device))
        self._compute = ThreadPoolExecutor(threads, thread_name_prefix="compute")
        self._batch = ThreadPoolExecutor(1, thread_name_prefix="batch")  # waits for `_compute`
        self._others = ThreadPoolExecutor(2, thread_name_prefix="others")  # texts, scores, searches
        # a long video keeps a decoding process for long: some are left to the others
        self._long = ThreadPoolExecutor(
            max(1, limits.decoding_processes // 2), thread_name_prefix="long"
        )
        self._decoders: DecoderPool[UploadItem, Decoded] = DecoderPool(
            decode_upload,
            limits.decoding_processes,
            limits.memory_mb,
            on_loss=lambda reason: metrics.decoders_lost.labels(reason).inc(),
        )
        self._batcher: Batcher[_Encodable, EncodedVideo | UserError] = Batcher(
            self._encode_batch,
            # on a CPU a batch saves nothing, and the first of it waits for the last
            limits.batch if self.model.device.type != "cpu" else min(limits.batch, 2 * threads),
            limits.batch_wait_ms / 1000,
            self._batch,
            on_batch=metrics.batch_size.observe,
        )
        self._batcher.start()
        model = self.model
        metrics.model.labels(
            self.model_name,
            model.method,
            model.encoder.backbone.tag,
            await self.in_thread(lambda: model.identity),
            str(model.device),
            vidprompt.__version__,
        ).set(1)
        metrics.running.set_function(lambda: self.capacity.running)
        metrics.waiting.set_function(lambda: self._batcher.waiting)
        try:
            await self.in_thread(self._decoders.start)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End processes and threads; remove what was uploaded."""
        self.capacity.stopping = True
        await self._batcher.close()
        await asyncio.to_thread(self._decoders.close)
        for pool in (self._long, self._batch, self._others, self._compute):
            pool.shutdown(wait=True, cancel_futures=True)
        self._stack.close()

    # -- requests -------------------------------------------------------------------------------

    async def predict(
        self,
        form: Form,
        classes: Classes | None,
        prompts: Sequence[str] | None = None,
        unknown: bool = False,
    ) -> Prediction:
        """The prediction for the uploaded video."""
        model = self.model
        self._check_texts(classes, prompts)
        with self._timed("text"):
            threshold = _refused(model.require_threshold) if unknown else None
            texts = await self.in_thread(lambda: _refused(lambda: model.texts(classes, prompts)))
        video = await self.encode(form)
        return await self.in_thread(
            lambda: model.score(form.video_name, video.clips, video.features, texts, threshold)
        )

    def _check_texts(self, classes: Classes | None, prompts: Sequence[str] | None) -> None:
        """Raises RequestError where the classes and templates make too many texts."""
        names = self.model.class_names if classes is None else classes
        count = len(names) * len(prompts or ("{}",))
        if count > self.limits.texts:
            raise RequestError(
                422,
                f"The classes and prompts make {count:,} texts, and the limit is {self.limits.texts:,}.",
            )

    async def segments(
        self,
        form: Form,
        classes: Classes | None,
        window: float,
        stride: float,
        prompts: Sequence[str] | None = None,
        unknown: bool = False,
        on_progress: Callable[[float], None] = lambda _seconds: None,
    ) -> tuple[list[Span], float]:
        """The spans of classes in the uploaded video, and its length in seconds.

        `on_progress` is called now and then, from a thread, with how many seconds of the video are done.
        """
        self._check_texts(classes, prompts)
        item = replace(self._item(form), window=window, stride=stride)
        model, name = self.model, form.video_name
        stopped = threading.Event()
        ends: list[VideoEnd] = []

        reported = time.monotonic()

        def report(window: WindowScores) -> None:
            nonlocal reported
            if time.monotonic() - reported > _REPORT_S:
                reported = time.monotonic()
                on_progress(window.end)

        def work() -> list[Span]:
            spans = model.segments(
                item.path,
                classes,
                window,
                stride,
                prompts=prompts,
                unknown=unknown,
                decoded=self._windows(item, stopped),
                on_end=ends.append,
                on_window=report,
            )
            return list(spans)

        try:
            spans = await asyncio.get_running_loop().run_in_executor(self._long, work)
        except DecodingError as error:
            raise decoding_refusal(error, name) from error
        except RequestError:
            raise
        except UserError as error:
            raise RequestError(422, str(error)) from error
        finally:
            stopped.set()  # where the request ends before the thread does
        return spans, ends[0].duration if ends else 0.0

    def _windows(
        self, item: UploadItem, stopped: threading.Event
    ) -> Generator[WindowFrames | VideoEnd, None, None]:
        """The windows of an upload as they are decoded, until `stopped`."""
        with closing(self._decoders.values(item, self.limits.timeout_s)) as values:
            for value in values:
                if isinstance(value, TooLarge):
                    raise RequestError(413, value.message)
                if stopped.is_set():
                    raise DecodingError("the request has ended", "abandoned")
                assert isinstance(value, WindowFrames | VideoEnd)
                yield value

    async def explain(self, form: Form, text: str | None) -> VideoExplanation:
        """Which frames and places of the uploaded video its feature, or its fit to a text, follows from."""
        decoded = await self.decode(form)
        name = form.video_name

        def work() -> VideoExplanation:
            (explanation,) = _refused(lambda: self.model.explain_decoded(decoded, text, name))
            return explanation

        with self._timed("explain"):
            return await asyncio.get_running_loop().run_in_executor(self._compute, work)

    async def embed(self, form: Form) -> tuple[Features, float]:
        """The feature (E,) of the uploaded video, and its length in seconds."""
        video = await self.encode(form)
        return video_feature(video.features), video.clips.duration

    async def embed_texts(self, texts: Sequence[str]) -> Features:
        """Features (n, E) of texts."""
        if len(texts) > self.limits.texts:
            raise RequestError(
                422, f"text: they are {len(texts):,}, and the limit is {self.limits.texts:,}."
            )
        with self._timed("text"):
            return await self.in_thread(lambda: _refused(lambda: self.model.embed_text(texts)))

    async def search(
        self, form: Form, texts: Sequence[str], top: int, overlapping: bool
    ) -> list[Any]:
        """Hits of the index for texts, for the uploaded video, or for both together."""
        index = self.require_index()
        parts: list[Features] = []
        if texts:
            parts.append(await self.embed_texts(texts))
        if form.video is not None:
            parts.append((await self.embed(form))[0][None])
        feature = np.concatenate(parts).mean(axis=0)
        try:
            results = await self.in_thread(
                lambda: index.search_feature(feature, top=top, overlapping=overlapping)
            )
        except DataError:  # a damaged index is no fault of the request
            raise
        except UserError as error:
            raise RequestError(422, str(error)) from error
        return list(results.hits)

    def require_index(self) -> SearchIndex:
        if self.index is None:
            raise RequestError(
                501,
                "This server has no index: start it with --index FOLDER (made by `vidprompt embed`).",
            )
        return self.index

    # -- videos ---------------------------------------------------------------------------------

    async def decode(self, form: Form) -> DecodedVideo:
        """Decode the uploaded video. Raises RequestError: 413 over a limit, 422 if it cannot be decoded."""
        item = self._item(form)
        with self._timed("decode"):
            try:
                decoded = await self._decoders.run(item, self.limits.decode_s)
            except DecodingError as error:
                raise decoding_refusal(error, form.video_name) from error
        if isinstance(decoded, TooLarge):
            raise RequestError(413, decoded.message)
        assert isinstance(decoded, DecodedVideo)
        return decoded

    def _item(self, form: Form) -> UploadItem:
        """The upload for the decoding processes. Raises RequestError where there is none."""
        if form.video is None:
            raise RequestError(422, "There is no video: upload the file (curl -F video=@FILE).")
        if not form.video_bytes:
            raise RequestError(422, f"{form.video_name}: it is empty (0 bytes).")
        limits = self.limits
        return UploadItem(
            form.video, form.video_name, self.model.input, limits.seconds, limits.pixels
        )

    async def encode(self, form: Form) -> EncodedVideo:
        """Decode and encode the uploaded video."""
        decoded = await self.decode(form)
        with self._timed("encode"):
            result = await self._batcher(_Encodable(decoded, form.video_name))
        if isinstance(result, UserError):
            raise RequestError(422, str(result))
        return result

    def _encode_batch(self, videos: Sequence[_Encodable]) -> list[EncodedVideo | UserError]:
        """In the thread of `_batch`; what is wrong with one video is its own value."""
        if self.model.device.type == "cpu":
            return list(self._compute.map(self._encode_alone, videos))
        clips = list(self._compute.map(self._cut, videos))
        good = [one for one in clips if isinstance(one, VideoClips)]
        features = iter(self._compute.submit(self._encode_together, good).result() if good else [])
        return [one if isinstance(one, UserError) else finite(one, next(features)) for one in clips]

    def _cut(self, video: _Encodable) -> VideoClips | UserError:
        try:
            return self.model.cut(video.decoded, video.name)
        except UserError as error:
            return error

    def _encode_alone(self, video: _Encodable) -> EncodedVideo | UserError:
        clips = self._cut(video)
        return (
            clips if isinstance(clips, UserError) else finite(clips, self.model.encode(clips.clips))
        )

    def _encode_together(self, videos: Sequence[VideoClips]) -> list[Features]:
        """Features of each; passes of about `limits.batch` clips."""
        clips = torch.cat([one.clips for one in videos])
        features = np.concatenate(
            [self.model.encode(part) for part in clips.split(self.limits.batch)]
        )
        edges = np.cumsum([len(one.clips) for one in videos])[:-1]
        return np.split(features, edges)

    async def in_thread(self, function: Callable[[], Value]) -> Value:
        """Run what takes long in a thread, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._others, function)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.metrics.stage_seconds.labels(stage).observe(time.perf_counter() - began)


def finite(clips: VideoClips, features: Features) -> EncodedVideo | UserError:
    """The encoded video; an error where its features are not finite."""
    if np.isfinite(features).all():
        return EncodedVideo(clips, features)
    return UserError("the features of the video are not finite numbers")


def decoding_refusal(error: DecodingError, name: str) -> RequestError:
    """The answer for a video that could not be decoded."""
    if error.reason == "raised":
        return RequestError(422, str(error))
    if error.reason == "stopped":
        return RequestError(503, "The server is stopping.", "stopping")
    return RequestError(422, f"{name}: {error}", f"decoding_{error.reason}")


def _refused(function: Callable[[], Value]) -> Value:
    """Call a function of the model; what it finds wrong with the request's values is a 422."""
    try:
        return function()
    except UserError as error:
        raise RequestError(422, str(error)) from error
