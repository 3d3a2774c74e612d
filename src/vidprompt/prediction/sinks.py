"""Where the results of a command go: a stream or file of one format, written as they come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from vidprompt.files.atomic import replacing, write_text
from vidprompt.prediction.output import (
    SPAN_COLUMNS,
    CsvRows,
    JsonList,
    ParquetRows,
    parquet_rows,
    prediction_columns,
    prediction_row,
    span_row,
)
from vidprompt.prediction.results import Failure, Prediction, VideoSpans
from vidprompt.prediction.subtitles import subrip, webvtt
from vidprompt.prediction.timeline_page import write_timeline
from vidprompt.system.errors import UserError

Result = Prediction | VideoSpans | Failure
Write = Callable[[Result], None]
SUBTITLES = {"vtt": webvtt, "srt": subrip}


@dataclass(frozen=True)
class PageSettings:
    """What a page says of how its spans were found: by which model, in which windows (seconds)."""

    model: str
    window: float
    stride: float


@contextmanager
def json_sink(out: Path | None, top: int) -> Iterator[Write]:
    """A JSON list, an element a video: of predictions as `Prediction.to_dict`, or with its spans."""
    with _stream(out) as stream:
        rows = JsonList(stream)

        def write(one: Result) -> None:
            if isinstance(one, Failure):
                rows.write({"video": one.video, "error": one.reason})
            elif isinstance(one, Prediction):
                rows.write(one.to_dict(top))
            else:
                spans = [
                    {key: value for key, value in span_row("", span).items() if key != "video"}
                    for span in one.spans
                ]
                values = {"video": one.video, "duration_s": round(one.duration, 3), "spans": spans}
                rows.write(values | ({"note": one.note} if one.note else {}))

        yield write
        rows.close()


@contextmanager
def csv_sink(out: Path | None, top: int, spans: bool, append: bool = False) -> Iterator[Write]:
    """CSV: a row a video, or a row a span."""
    columns = SPAN_COLUMNS if spans else prediction_columns(top)
    with _stream(out, append) as stream:
        yield _rows(CsvRows(stream, list(columns), append and stream.tell() > 0), top)


@contextmanager
def parquet_sink(out: Path, top: int, spans: bool) -> Iterator[Write]:
    """A Parquet file with the columns of the CSV."""
    with parquet_rows(out, SPAN_COLUMNS if spans else prediction_columns(top)) as rows:
        yield _rows(rows, top)


def _rows(rows: CsvRows | ParquetRows, top: int) -> Write:
    def write(one: Result) -> None:
        if isinstance(one, VideoSpans):
            for span in one.spans:
                rows.write(span_row(one.video, span))
        else:
            rows.write(prediction_row(one, top))

    return write


@contextmanager
def subtitle_sink(kind: str, out: Path | None, several: bool) -> Iterator[Write]:
    """WebVTT or SRT; of several videos a file each, in the folder `out`."""
    if several and out is None:
        raise UserError(f"--{kind} of several videos: name a folder with --out, for a file each")
    names = _FileNames(kind)

    def write(one: Result) -> None:
        if isinstance(one, VideoSpans):
            text = "\n".join(SUBTITLES[kind](one.spans)) + "\n"
            if out is None:
                sys.stdout.write(text)
            else:
                write_text(out / names(one.video) if several else out, text)

    yield write


@contextmanager
def html_sink(out: Path, several: bool, settings: PageSettings) -> Iterator[Write]:
    """A page with the video and its time line; of several videos a page each, in the folder `out`."""
    names = _FileNames("html")

    def write(one: Result) -> None:
        if isinstance(one, VideoSpans):
            folder = several or out.is_dir() or out.suffix == ""
            write_timeline(
                out / names(one.video) if folder else out,
                one.video,
                one.spans,
                duration=one.duration,
                model=settings.model,
                window=settings.window,
                stride=settings.stride,
                note=one.note,
            )

    yield write


class _FileNames:
    """Names of files, one for each video: its stem, with a number where that is taken."""

    def __init__(self, suffix: str) -> None:
        self._suffix, self._taken = suffix, set[str]()

    def __call__(self, video: str) -> str:
        stem = Path(video.partition("?")[0]).stem or "video"
        name, number = stem, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.casefold())
        return f"{name}.{self._suffix}"


@contextmanager
def _stream(out: Path | None, append: bool = False) -> Iterator[TextIO]:
    """stdout, or a file: a new one appears when it is whole."""
    if out is None:
        yield sys.stdout
    elif append:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            yield stream
    else:
        with (
            replacing(out) as path,
            path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
        ):
            yield stream
