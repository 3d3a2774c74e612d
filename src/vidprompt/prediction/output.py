"""Write results as they come, so that a long list does not stay in memory: JSON, CSV, Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from vidprompt.files.atomic import replacing
from vidprompt.prediction.results import Failure, Prediction, Span
from vidprompt.system.errors import UserError

_ROW_GROUP = 10_000  # rows of a Parquet file that are written at once
SPAN_COLUMNS = {
    "video": str,
    "start": float,
    "end": float,
    "label": str,
    "score": float,
    "error": str,
}


def prediction_columns(top: int) -> dict[str, type]:
    """Names and types of `prediction_row`'s columns."""
    columns: dict[str, type] = {"video": str}
    for place in range(1, top + 1):
        number = "" if place == 1 else f"_{place}"
        columns |= {f"label{number}": str, f"score{number}": float}
    last: dict[str, type] = {"unknown": bool, "cosine": float, "duration_s": float}
    return columns | last | {"text": str, "note": str, "error": str}


def prediction_row(one: Prediction | Failure, top: int) -> dict[str, Any]:
    """A flat row of a video: its `top` classes, best first, or the error."""
    if isinstance(one, Failure):
        return {"video": one.video, "error": one.reason}
    row: dict[str, Any] = {"video": one.video}
    for place, (name, score) in enumerate(one.top(top), 1):
        number = "" if place == 1 else f"_{place}"
        row |= {f"label{number}": name, f"score{number}": score}
    if one.unknown is not None:
        row |= {"label": one.label, "unknown": one.unknown, "cosine": float(one.cosines.max())}
    row |= {"duration_s": round(one.duration, 3), "text": one.text}
    return row | ({"note": one.note} if one.note else {})


def span_row(video: str, span: Span) -> dict[str, Any]:
    """A flat row of a span."""
    values = span.to_dict()
    return {"video": video, **values, "start": round(span.start, 3), "end": round(span.end, 3)}


class JsonList:
    """Writes a JSON list, an element a line; it is whole after `close`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._empty = stream, True

    def write(self, value: Mapping[str, Any]) -> None:
        text = json.dumps(value, ensure_ascii=False)
        self._stream.write(("[\n" if self._empty else ",\n") + text)
        self._empty = False
        self._stream.flush()

    def close(self) -> None:
        self._stream.write("[]\n" if self._empty else "\n]\n")


class CsvRows:
    """Writes rows as CSV with a header; `append`: the stream has one already."""

    def __init__(self, stream: TextIO, columns: Sequence[str], append: bool = False) -> None:
        self._stream = stream
        self._writer = csv.DictWriter(stream, list(columns), lineterminator="\n")
        if not append:
            self._writer.writeheader()

    def write(self, row: Mapping[str, Any]) -> None:
        self._writer.writerow(row)
        self._stream.flush()


@contextmanager
def parquet_rows(path: Path, columns: Mapping[str, type]) -> Iterator[ParquetRows]:
    """Rows that go into a Parquet file, which is there when all are written."""
    with replacing(path) as temporary:
        rows = ParquetRows(temporary, columns)
        try:
            yield rows
        finally:
            rows.close()


class ParquetRows:
    """Writes a Parquet file in groups of rows."""

    def __init__(self, path: Path, columns: Mapping[str, type]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {str: pa.string(), float: pa.float64(), bool: pa.bool_()}
        self._schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[Mapping[str, Any]] = []

    def write(self, row: Mapping[str, Any]) -> None:
        self._rows.append({name: _utf8(value) for name, value in row.items()})
        if len(self._rows) == _ROW_GROUP:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows = []


def _utf8(value: Any) -> Any:
    """A text without the bytes of a file name that are not UTF-8, which Parquet does not hold."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def resume_csv(path: Path, columns: Sequence[str]) -> set[str]:
    """The videos that an earlier run wrote into a CSV file; a last line that is not whole is cut off.

    Raises UserError where the file has other columns.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return set()
    whole = _whole_rows(path)
    with path.open("r+b") as file:
        file.truncate(whole)
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream)
        if list(rows.fieldnames or ()) != list(columns):
            raise UserError(
                f"{path} has other columns ({', '.join(rows.fieldnames or ())}): it is of another command. "
                "Name another file with --out"
            )
        return {row["video"] for row in rows}


def _whole_rows(path: Path) -> int:
    """Bytes of a CSV file up to the end of its last whole row; a row may have line breaks in quotes."""
    end = position = 0
    quotes = 0
    with path.open("rb") as file:
        for line in file:
            position += len(line)
            quotes += line.count(b'"')
            if line.endswith(b"\n") and quotes % 2 == 0:
                end = position
    return end
