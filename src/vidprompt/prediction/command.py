"""The commands `predict` and `calibrate`: from their arguments to results, without printing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vidprompt.metrics.unknown import UnknownThreshold
from vidprompt.prediction.classes import ClassTexts, parse_classes
from vidprompt.prediction.hysteresis import SpanSettings, WindowScores
from vidprompt.prediction.inputs import InputKind, Inputs, find_inputs
from vidprompt.prediction.live import without_password
from vidprompt.prediction.many import (
    DownloadLimits,
    decode_first,
    decoding_workers,
    predict_inputs,
)
from vidprompt.prediction.output import SPAN_COLUMNS, prediction_columns, resume_csv
from vidprompt.prediction.results import Failure, Prediction, Span, VideoSpans
from vidprompt.prediction.windows import WINDOW_S, check_window
from vidprompt.system.errors import UserError
from vidprompt.system.progress import Progress

logger = logging.getLogger(__name__)

FORMATS = ("table", "json", "csv", "parquet", "vtt", "srt", "html")
_OF_SPANS = ("vtt", "srt", "html")
_LONG_S = 600.0  # a video of which 8 frames say little


@dataclass(frozen=True)
class Request:
    """What `vidprompt predict` is asked for; the options of the command line."""

    videos: tuple[str, ...]
    classes: str | None = None
    top: int = 5
    unknown: bool = False
    prompts: tuple[str, ...] | None = None
    format: str = "table"
    file: Path | None = None
    resume: bool = False
    window: float | None = None
    stride: float | None = None
    spans: SpanSettings = field(default_factory=SpanSettings)
    workers: int | None = None
    download: DownloadLimits = field(default_factory=DownloadLimits)

    def __post_init__(self) -> None:
        if self.resume and (self.format != "csv" or self.file is None):
            raise UserError("--resume adds to a file of CSV: give --csv and --out FILE")
        if self.window is not None:
            check_window(self.window, self.stride or self.window)
        elif self.stride is not None:
            raise UserError("--stride is the distance of windows: give --window too")


def chosen_format(
    as_json: bool, as_csv: bool, parquet: Path | None, vtt: bool, srt: bool, html: Path | None
) -> str:
    """The one format that the options name. Raises UserError for two."""
    given = {
        "json": as_json,
        "csv": as_csv,
        "parquet": parquet is not None,
        "vtt": vtt,
        "srt": srt,
        "html": html is not None,
    }
    named = [name for name, chosen in given.items() if chosen]
    if len(named) > 1:
        raise UserError(f"--{named[0]} and --{named[1]}: one format at a time")
    return named[0] if named else "table"


Write = Callable[[Any], None]


class Screen:
    """What shows results on the terminal; the command line has one that draws tables."""

    def predictions(self, title: str, top: int) -> AbstractContextManager[Write]:
        """Shows predictions and failures."""
        raise NotImplementedError

    def spans(self, title: str) -> AbstractContextManager[Write]:
        """Shows the spans of videos."""
        raise NotImplementedError

    def windows(
        self, names: tuple[str, ...], top: int
    ) -> AbstractContextManager[Callable[[WindowScores], None]]:
        """Shows the windows of a stream as they come."""
        raise NotImplementedError


def run(
    request: Request, load: Callable[[], Any], screen: Screen, *, decode_early: bool = True
) -> bool:
    """Do what is requested with the model that `load` gives; whether all videos could be used.

    `decode_early`: decode the first videos while it loads. Raises UserError.
    """
    check_classes(request)
    inputs = _inputs(request)
    for note in inputs.notes:
        logger.info(note)
    streams = [one for one in inputs.videos if one.kind is InputKind.STREAM]
    if streams and len(inputs) > 1:
        raise UserError(f"{streams[0].name} has no end: predict it by itself")
    long = request.window is not None or request.format in _OF_SPANS or bool(streams)
    usable = [one for one in inputs.videos if one.kind is not InputKind.FAILED]
    workers = decoding_workers(request.workers, len(usable))
    with ExitStack() as stack:
        ahead = None
        if decode_early and not long and (ahead := decode_first(inputs.videos, workers)):
            stack.callback(ahead.close)
        model = load()
        texts = _texts(request, model, long)
        threshold = model.require_threshold() if request.unknown else None
        count = f"{len(texts.names)} class{'es' * (len(texts.names) != 1)}"
        title = f"{model.name}: {count} ({texts.source})"
        several = len(inputs) > 1
        results: Iterator[Prediction | VideoSpans | Failure]
        if long:
            write = stack.enter_context(_span_sink(request, model.name, several, title, screen))
            results = _all_spans(request, model, inputs, texts, threshold, workers, screen, write)
        else:
            write = stack.enter_context(_prediction_sink(request, title, screen))
            results = predict_inputs(
                model,
                inputs.videos,
                texts,
                threshold=threshold,
                workers=workers,
                download=request.download,
                ahead=ahead,
            )
        progress = Progress("predict", len(inputs), unit="videos", quiet=long or not several)
        failed = _write_all(results, write, stack.enter_context(progress), request.format)
    if failed and several:
        logger.error(f"{failed:,} of {len(inputs):,} videos could not be used")
    return not failed


def _texts(request: Request, model: Any, long: bool) -> ClassTexts:
    """The texts of the classes. Raises UserError for what an exported model cannot do."""
    if not hasattr(model, "windows"):
        if long:
            raise UserError("an exported model finds no spans: --window needs --model")
        if request.prompts is not None:
            raise UserError("an exported model has its own texts: --prompts needs --model")
    if request.classes is None and not model.class_names:
        raise UserError(f"{model.name} has no classes of its own: name some with --classes")
    classes = None if request.classes is None else parse_classes(request.classes)
    more = () if request.prompts is None else (request.prompts,)
    texts: ClassTexts = model.texts(classes, *more)
    if len(texts.names) == 1 and not request.unknown:
        logger.warning(
            f"one class alone always has probability 1: name others beside {texts.names[0]!r}, or --unknown"
        )
    return texts


def _write_all(
    results: Iterator[Prediction | VideoSpans | Failure],
    write: Write,
    progress: Progress,
    kind: str,
) -> int:
    """Write each result as it comes; how many are failures."""
    failed = 0
    for one in results:
        write(one)
        progress.advance()
        if isinstance(one, Failure):
            failed += 1
            if kind in _OF_SPANS:  # which have no row for it
                logger.error(f"{one.video}: {one.reason}")
        elif isinstance(one, Prediction) and one.duration > _LONG_S:
            logger.info(
                f"{one.video}: of {one.duration / 60:.0f} minutes the model looks at some frames: "
                "--window 2 finds where the classes are"
            )
    return failed


def check_classes(request: Request) -> None:
    """Raise UserError for classes that cannot be, before a model is loaded."""
    if request.classes is not None and not parse_classes(request.classes):
        raise UserError("--classes names no class")
    for template in request.prompts or ():
        if template.count("{}") != 1:
            raise UserError(f"--prompts {template!r}: a template has one {{}}, for the class")


def _inputs(request: Request) -> Inputs:
    """The videos, without those that an earlier run did."""
    for argument in request.videos:
        path = Path(argument)
        if not path.exists() and path.suffix.lower() in (".json", ".csv", ".vtt", ".srt"):
            raise UserError(
                f"there is no video {argument}: to write into this file, --out {argument}"
            )
    inputs = find_inputs(request.videos)
    if not request.resume or request.file is None:
        return inputs
    columns = SPAN_COLUMNS if request.window is not None else prediction_columns(request.top)
    done = resume_csv(request.file, list(columns))
    left = tuple(one for one in inputs.videos if one.name not in done)
    if len(left) < len(inputs):
        logger.info(
            f"{request.file}: {len(inputs) - len(left):,} of {len(inputs):,} videos are there"
        )
    return replace(inputs, videos=left)


def _all_spans(
    request: Request,
    model: Any,
    inputs: Inputs,
    texts: ClassTexts,
    threshold: UnknownThreshold | None,
    workers: int,
    screen: Screen,
    write: Write,
) -> Iterator[VideoSpans | Failure]:
    """The spans of each video; a stream's CSV gets each as soon as it ends."""
    from vidprompt.prediction.long_videos import WindowSettings, find_spans

    settings = WindowSettings(
        *_window(request),
        replace(request.spans, unknown=None if threshold is None else threshold.cosine),
    )
    for video in inputs.videos:
        with ExitStack() as stack:
            on_window = on_span = None
            stream = video.kind is InputKind.STREAM
            if stream and request.format == "table":
                on_window = stack.enter_context(screen.windows(texts.names, request.top))
            if stream and request.format == "csv":
                name = without_password(video.name)

                def on_span(span: Span, name: str = name) -> None:
                    write(VideoSpans(name, (span,), span.end))

            found = find_spans(
                model,
                video,
                texts,
                settings,
                isolated=workers > 0,
                download=request.download,
                on_window=on_window,
                on_span=on_span,
            )
            if isinstance(found, VideoSpans) and on_span is not None:
                found = replace(found, spans=())  # they are written
            yield found


def _window(request: Request) -> tuple[float, float]:
    window = WINDOW_S if request.window is None else request.window
    return window, window / 2 if request.stride is None else request.stride


def _prediction_sink(request: Request, title: str, screen: Screen) -> AbstractContextManager[Write]:
    from vidprompt.prediction import sinks

    if request.format == "json":
        return sinks.json_sink(request.file, request.top)
    if request.format == "csv":
        return sinks.csv_sink(request.file, request.top, spans=False, append=request.resume)
    if request.format == "parquet" and request.file is not None:
        return sinks.parquet_sink(request.file, request.top, spans=False)
    if request.file is not None:
        raise UserError("--out needs a format: --json, --csv, --vtt or --srt")
    return screen.predictions(title, request.top)


def _span_sink(
    request: Request, model: str, several: bool, title: str, screen: Screen
) -> AbstractContextManager[Write]:
    from vidprompt.prediction import sinks

    if request.format == "csv":
        return sinks.csv_sink(request.file, request.top, spans=True, append=request.resume)
    if request.format == "parquet" and request.file is not None:
        return sinks.parquet_sink(request.file, request.top, spans=True)
    if request.format in sinks.SUBTITLES:
        return sinks.subtitle_sink(request.format, request.file, several)
    if request.format == "html" and request.file is not None:
        return sinks.html_sink(request.file, several, sinks.PageSettings(model, *_window(request)))
    if request.format == "json":
        return sinks.json_sink(request.file, request.top)
    if request.file is not None:
        raise UserError("--out needs a format: --json, --csv, --vtt or --srt")
    return screen.spans(title)
