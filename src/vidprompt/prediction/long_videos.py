"""Spans of the videos and streams of a command's arguments, one after the other."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
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
from vidprompt.prediction.window_features import window_scores
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
        ends: list[VideoEnd] = []
        best: list[tuple[float, str]] = [(0.0, "")]
        last = [0.0]
        total = 0 if stream else _windows_expected(Path(source), settings)
        progress = files.enter_context(
            Progress(Path(name).name, total, unit="windows", quiet=stream)
        )

        def scored(scores: WindowScores) -> WindowScores:
            place = int(scores.probabilities.argmax())
            best[0] = max(best[0], (float(scores.probabilities[place]), texts.names[place]))
            last[0] = scores.end
            progress.advance()
            if on_window is not None:
                on_window(scores)
            return scores

        spans: list[Span] = []
        windows = model.windows(
            source,
            settings.window,
            settings.stride,
            isolated=isolated and not stream,
            limits=Limits(timeout_s=_BASE_S + _SLOWER * max(settings.window, settings.stride)),
            on_end=ends.append,
        )
        try:
            scores = (scored(window_scores(one, texts)) for one in windows)
            for span in join_windows(scores, texts.names, settings.spans):
                spans.append(span)
                if on_span is not None:
                    on_span(span)
        except DataError as error:
            return Failure(name, named(str(error), Path(source), name))
        except KeyboardInterrupt:
            if not stream:
                raise
        if not spans and best[0][1]:
            enter, _ = settings.spans.thresholds(len(texts.names))
            logger.info(
                f"{name}: no span: the highest probability of a window is {best[0][0]:.2f} "
                f"({best[0][1]}), and spans begin at a mean of {enter:.2f} (--enter)"
            )
        end = ends[0] if ends else VideoEnd(0, last[0])
        return VideoSpans(name, tuple(spans), end.duration, end.note)


def _windows_expected(path: Path, settings: WindowSettings) -> int:
    """How many windows a file will have, by its header; 0 where that does not say."""
    try:
        with open_container(path) as container:
            duration = (container.duration or 0) / 1e6
    except (OSError, ValueError):  # av's errors are OSErrors too
        return 0
    return 1 + max(0, math.ceil((duration - settings.window) / settings.stride)) if duration else 0
