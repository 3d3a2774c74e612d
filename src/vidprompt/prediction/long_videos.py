"""Spans of the videos and streams of a command's arguments, one after the other."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vidprompt.data.decode.reader import open_container
from vidprompt.data.probe.result import Limits
from vidprompt.prediction.classes import ClassTexts
from vidprompt.prediction.hysteresis import SpanSettings, WindowScores, join_windows
from vidprompt.prediction.inputs import InputKind, VideoInput
from vidprompt.prediction.live import without_password
from vidprompt.prediction.many import DownloadLimits, named, open_input
from vidprompt.prediction.model import Model
from vidprompt.prediction.results import Failure, Span, VideoSpans
from vidprompt.prediction.window_features import (
    SCORED_AT_ONCE,
    WindowFeatures,
    score_windows,
    tee,
)
from vidprompt.prediction.windows import VideoEnd
from vidprompt.system.errors import DataError
from vidprompt.system.progress import Progress

logger = logging.getLogger(__name__)

_BASE_S, _SLOWER = (
    120.0,
    60,
)  # a window may take this long: some seconds, and so many times its length


@dataclass(frozen=True)
class WindowSettings:
    """Windows of `window` seconds every `stride` seconds, joined as `spans` say."""

    window: float
    stride: float
    spans: SpanSettings


def find_spans(
    model: Model,
    video: VideoInput,
    texts: ClassTexts,
    settings: WindowSettings,
    *,
    isolated: bool = True,
    download: DownloadLimits | None = None,
    on_window: Callable[[WindowScores], None] | None = None,
    on_span: Callable[[Span], None] | None = None,
) -> VideoSpans | Failure:
    """The spans of a video, or why there are none. A stream ends with Ctrl-C, and has those until then."""
    with ExitStack() as files:
        name = without_password(video.name)
        stream = video.kind is InputKind.STREAM
        source = video.name if stream else open_input(video, files, download or DownloadLimits())
        if isinstance(source, Failure):
            return source
        total = 0 if stream else _windows_expected(Path(source), settings)
        progress = Progress(Path(name).name, total, unit="windows", quiet=stream)
        watch = _Watch(texts.names, files.enter_context(progress), on_window)
        windows = model.windows(
            source,
            settings.window,
            settings.stride,
            isolated=isolated and not stream,
            limits=Limits(timeout_s=_BASE_S + _SLOWER * max(settings.window, settings.stride)),
            on_end=watch.ended,
        )
        scores = score_windows(
            _until_interrupted(windows) if stream else windows,
            texts,
            1 if stream else SCORED_AT_ONCE,
        )
        spans: list[Span] = []
        try:
            for span in join_windows(tee(scores, watch.window), texts.names, settings.spans):
                spans.append(span)
                if on_span is not None:
                    on_span(span)
        except DataError as error:
            return Failure(name, named(str(error), Path(source), name))
        if not spans:
            enter, _ = settings.spans.thresholds(len(texts.names))
            logger.info(
                f"{name}: no span: the highest probability of a window is {watch.best[0]:.2f} "
                f"({watch.best[1]}), and spans begin at a mean of {enter:.2f} (--enter)"
            )
        return VideoSpans(name, tuple(spans), watch.end.duration, watch.end.note)


class _Watch:
    """What is seen of a video's windows: the progress, the best class, the end."""

    def __init__(
        self,
        names: tuple[str, ...],
        progress: Progress,
        on_window: Callable[[WindowScores], None] | None,
    ) -> None:
        self._names, self._progress, self._on_window = names, progress, on_window
        self.best = 0.0, ""  # probability of a window, and its class
        self._last = VideoEnd(0, 0.0)
        self._video_end: VideoEnd | None = None

    @property
    def end(self) -> VideoEnd:
        """The video's end, or that of the last window where it was interrupted."""
        return self._video_end or self._last

    def window(self, scores: WindowScores) -> None:
        """Take note of a window."""
        place = int(scores.probabilities.argmax())
        self.best = max(self.best, (float(scores.probabilities[place]), self._names[place]))
        self._last = VideoEnd(0, scores.end)
        self._progress.advance()
        if self._on_window is not None:
            self._on_window(scores)

    def ended(self, end: VideoEnd) -> None:
        """Take note of the end; windows that are not scored yet come after it."""
        self._video_end = end


def _until_interrupted(windows: Iterator[WindowFeatures]) -> Iterator[WindowFeatures]:
    """The windows of a stream, which Ctrl-C ends."""
    try:
        yield from windows
    except KeyboardInterrupt:
        return


def _windows_expected(path: Path, settings: WindowSettings) -> int:
    """How many windows a file will have, by its header; 0 where that does not say."""
    try:
        with open_container(path) as container:
            duration = (container.duration or 0) / 1e6
    except (OSError, ValueError):  # av's errors are OSErrors too
        return 0
    return 1 + max(0, math.ceil((duration - settings.window) / settings.stride)) if duration else 0
