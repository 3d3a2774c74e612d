"""Read the field's list files of videos: text lists in several line formats, tables, and Parquet.

The format is recognised by a list's content, not by its name. One video a line, all lines in one format:

    walk/my clip.mp4 3            path label: split from the right, as paths hold blanks; label an id
    walk/my clip.mp4 16 3         path n_frames label
    walk/my clip.mp4,walking      path,label or path,n_frames,label; commas in a field need double quotes
    walk/my clip.mp4<TAB>walking  the same with tabs

or columns named by a header (`path,label,split,group` in any order, the last two optional), or Parquet
with such columns. A list that can be read in two ways is an error that names both.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, NoReturn

from vidprompt.data.annotations.base import numbered_lines, relative_path
from vidprompt.data.annotations.video_files import VIDEO_SUFFIXES
from vidprompt.system.errors import DataError

# Names of each column, the preferred one first.
_COLUMNS = {
    meaning: tuple(names.split())
    for meaning, names in {
        "path": "path video_path video filename file_name filepath file_path file",
        "label": "label class class_name label_name category action label_id class_id",
        "n_frames": "n_frames num_frames total_frames",
        "role": "split role subset",
        "group": "group group_id",
    }.items()
}
ROLES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}
_BLANK_SEPARATED = {  # fields → pattern of a line
    2: re.compile(r"(.*\S) +([0-9]{1,18})"),
    3: re.compile(r"(.*\S) +([0-9]{1,18}) +([0-9]{1,18})"),
}


@dataclass(frozen=True, slots=True)
class ListedVideo:
    """One row of a list."""

    path: str  # POSIX, relative
    label: str  # as written, or (after `resolve_labels`) the class's name
    n_frames: int | None
    role: str  # train, val, test, or "" where the list has none
    group: str
    where: str  # `<file>:<line>`, for messages


class _LineFormat(NamedTuple):
    """A line format without a header: path, label and (of 3 fields) the number of frames between."""

    separator: str
    fields: int

    def __str__(self) -> str:
        names = ("path", "n_frames", "label") if self.fields == 3 else ("path", "label")
        return self.separator.join(names)


class _Fields(NamedTuple):
    """A line's fields as one format reads them."""

    path: str
    n_frames: int | None
    label: str

    def __str__(self) -> str:
        frames = "" if self.n_frames is None else f"{self.n_frames} frames, "
        return f"path {self.path!r}, {frames}label {self.label!r}"


_FORMATS = [_LineFormat(separator, fields) for separator in ("\t", ",", " ") for fields in (2, 3)]


class _VideoRoot:
    """The folder that listed paths are relative to, if one is given; `as_written`: any path will do."""

    def __init__(self, folder: Path | None, as_written: bool = False) -> None:
        self.folder = folder
        self.as_written = as_written
        self.bases = [] if folder is None else [folder.absolute(), folder.resolve()]

    def relative(self, path: str, where: str) -> str:
        """A listed path, relative to the folder. Raises DataError for one that is not below it."""
        if self.as_written:
            return path
        if "\\" in path:
            raise DataError(f"{where}: {path!r} has a backslash: write / between folders")
        if path.startswith("/"):
            base = next(
                (base for base in self.bases if PurePosixPath(path).is_relative_to(base)), None
            )
            if base is None:
                under = f"does not lie under {self.folder}" if self.folder else "is absolute"
                raise DataError(
                    f"{where}: {path!r} {under}: list paths relative to the videos' folder"
                )
            path = str(PurePosixPath(path).relative_to(base))
        posix = str(relative_path(path, where))
        if posix == ".":
            raise DataError(f"{where}: {path!r} names no video")
        return posix

    def has_video(self, path: str) -> bool:
        """Whether that is a video's name, or a file or folder of that name exists."""
        if _is_video(path):
            return True
        try:
            return self.folder is not None and (self.folder / path).exists()
        except OSError:  # an invalid name, such as one too long
            return False


def read_list(path: Path, root: Path | None = None) -> list[ListedVideo]:
    """The rows of a list file, labels as written. Absolute paths are accepted below `root` only.

    Raises DataError, naming file and line, for a list that cannot be read, or can be read in two ways.
    """
    read = _read_parquet if _is_parquet(path) else _read_text_list
    rows = read(path, _VideoRoot(root))
    if not rows:
        raise DataError(f"{path} lists no videos")
    return rows


class Reading(NamedTuple):
    """The rows of a list in one form; `headed`: its columns are named, so there is no doubt about them."""

    rows: list[ListedVideo]
    headed: bool


def list_readings(path: Path) -> Iterator[Reading]:
    """A list in every form that fits all its lines, paths as written: for a published list.

    One reading for a table; several where blanks may be a path's, as in `walk/take 2 3`: without and with a
    number of frames. Which one is right is for the caller to decide, by the videos it knows. Raises DataError
    as `read_list` does.
    """
    anywhere = _VideoRoot(None, as_written=True)
    is_parquet = _is_parquet(path)
    lines = [] if is_parquet else list(numbered_lines(path, strip=" "))
    table = _read_parquet(path, anywhere) if is_parquet else _read_headed(lines, anywhere)
    if not (table or lines) or table == []:
        raise DataError(f"{path} lists no videos")
    if table is not None:
        yield Reading(table, headed=True)
        return
    for _, rows in _fitting_formats(lines):
        listed = [
            ListedVideo(row.path, row.label, row.n_frames, "", "", where)
            for (where, _), row in zip(lines, rows, strict=True)
        ]
        yield Reading(listed, headed=False)


def role_of(text: str, where: str) -> str:
    """`Training` → `train`; "" stays. Raises DataError, naming `where`, for an unknown role."""
    role = ROLES.get(text.strip().casefold(), "")
    if text.strip() and not role:
        raise DataError(f"{where}: {text!r} is no role; write train, val or test")
    return role


def _read_text_list(path: Path, root: _VideoRoot) -> list[ListedVideo]:
    lines = list(numbered_lines(path, strip=" "))  # tabs stand for empty last columns
    if not lines:
        return []
    table = _read_headed(lines, root)
    if table is not None:
        return table
    return [
        ListedVideo(root.relative(row.path, where), row.label, row.n_frames, "", "", where)
        for (where, _), row in zip(lines, _parse_lines(lines, root), strict=True)
    ]


def _read_headed(lines: Sequence[tuple[str, str]], root: _VideoRoot) -> list[ListedVideo] | None:
    """The rows below a header, None where there is none."""
    for separator in "\t,":
        header = split_line(lines[0][1], separator) if lines else []
        columns = _header_columns(header, lines[0][0]) if len(header) > 1 else None
        if columns is not None:
            rows = ((where, split_line(line, separator)) for where, line in lines[1:])
            return _read_table(header, columns, rows, root)
    return None


def _fitting_formats(
    lines: Sequence[tuple[str, str]],
) -> Iterator[tuple[_LineFormat, list[_Fields]]]:
    """Each format that fits all lines, with the lines as it reads them. Raises DataError without any.

    One at a time: a list may have hundreds of thousands of lines.
    """
    fits = False
    for format_ in _FORMATS:
        rows = _parse_as(format_, lines)
        if len(rows) == len(lines):
            fits = True
            yield format_, rows
    if not fits:
        _raise_no_format(lines)


def _parse_lines(lines: Sequence[tuple[str, str]], root: _VideoRoot) -> list[_Fields]:
    """All lines in the one format that fits all of them; of several, the one whose paths are videos."""
    fitting = dict(_fitting_formats(lines))
    if len(fitting) > 1:
        best = [format_ for format_ in fitting if all(_is_video(r.path) for r in fitting[format_])]
        if len(best) != 1:  # names do not decide: check which files exist
            exist = {f: [root.has_video(row.path) for row in rows] for f, rows in fitting.items()}
            best = [format_ for format_ in fitting if all(exist[format_])]
            best = best or [format_ for format_ in fitting if any(exist[format_])]
        if len(best) != 1:
            ways = [f"{format_!s} ({rows[0]})" for format_, rows in fitting.items()]
            raise DataError(
                f"{lines[0][0]}: {lines[0][1]!r} can be read as {' or '.join(ways)}, here and below,"
                " and the paths do not tell: separate the fields with tabs instead"
            )
        fitting = {best[0]: fitting[best[0]]}
    rows = next(iter(fitting.values()))
    # `a.mp4 16 3` fits `path label` too, if some other line has no number of frames.
    trailing = [_BLANK_SEPARATED[2].fullmatch(row.path) for row in rows]
    counted = [match is not None and _is_video(match[1]) for match in trailing]
    if any(counted):
        odd = next((i for i, flag in enumerate(counted) if flag != counted[0]), 0)
        raise DataError(
            f"{lines[odd][0]}: {lines[odd][1]!r} and the lines before are of two forms (a number follows"
            " some videos' names): write n_frames on every line or on none, with one separator"
        )
    return rows


def _parse_as(format_: _LineFormat, lines: Sequence[tuple[str, str]]) -> list[_Fields]:
    """The lines in that format, up to the first that does not fit."""
    rows = []
    for _, line in lines:
        if format_.separator == " ":
            match = None if "\t" in line else _BLANK_SEPARATED[format_.fields].fullmatch(line)
            cells = list(match.groups()) if match else []
        elif format_.separator == "," and "\t" in line:
            cells = []
        else:
            cells = split_line(line, format_.separator)
        if (
            len(cells) != format_.fields
            or not all(cells)
            or (format_.fields == 3 and not is_id(cells[1]))
        ):
            break
        rows.append(_Fields(cells[0], int(cells[1]) if format_.fields == 3 else None, cells[-1]))
    return rows


def _raise_no_format(lines: Sequence[tuple[str, str]]) -> NoReturn:
    """Raise DataError for the first line that does not fit the format of the lines before."""
    parsed = {format_: _parse_as(format_, lines) for format_ in _FORMATS}
    format_ = max(parsed, key=lambda format_: len(parsed[format_]))
    where, line = lines[len(parsed[format_])]
    if parsed[format_]:
        before = f"is not {str(format_)!r} as the lines before: write all lines in one form"
        quotes = ", and double quotes around a field that holds a comma"
        raise DataError(f"{where}: {line!r} {before}{quotes * (format_.separator == ',')}")
    raise DataError(
        f"{where}: expected 'path label' or 'path n_frames label' (the label an integer), or path and"
        f" label separated by a comma or a tab (a field that holds one in double quotes), found {line!r}"
    )


def split_line(line: str, separator: str) -> list[str]:
    """A line's fields, which may be in double quotes; empty when quotes do not close."""
    if separator not in line:
        return [line]
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error:
        return []
    return [cell.strip() for cell in row]


def _header_columns(cells: Sequence[str], where: str) -> dict[str, int] | None:
    """The place of each column (keys of `_COLUMNS`), if these cells are a header."""
    folded = [cell.strip().casefold() for cell in cells]
    columns = {}
    for meaning, names in _COLUMNS.items():
        name = next((name for name in names if name in folded), None)
        if name is not None:
            columns[meaning] = folded.index(name)
    if "path" not in columns and ("label" not in columns or "/" in cells[0] or _is_video(cells[0])):
        return None
    for column in columns.values():
        if folded.count(folded[column]) > 1:
            raise DataError(f"{where}: two columns are called {cells[column]!r}; rename one")
    for meaning in ("path", "label"):
        if meaning not in columns:
            known = ", ".join(_COLUMNS[meaning])
            raise DataError(
                f"{where}: no column of {list(cells)} is the {meaning}; call it one of {known}"
            )
    return columns


def _read_table(
    header: Sequence[str],
    columns: dict[str, int],
    rows: Iterable[tuple[str, Sequence[str]]],
    root: _VideoRoot,
) -> list[ListedVideo]:
    """Rows below a header, as (where, cells)."""
    listed = []
    for where, cells in rows:
        if len(cells) != len(header):
            raise DataError(
                f"{where}: {len(cells)} fields where the header has {len(header)};"
                " put double quotes around a field that holds the separator"
            )
        row = {meaning: cells[column] for meaning, column in columns.items()}
        frames = row.get("n_frames", "")
        if not row["path"] or not row["label"] or (frames and not is_id(frames)):
            raise DataError(
                f"{where}: expected a path, a label and (if any) a whole n_frames, found {row}"
            )
        path, role = root.relative(row["path"], where), role_of(row.get("role", ""), where)
        n_frames = int(frames) if frames else None
        listed.append(ListedVideo(path, row["label"], n_frames, role, row.get("group", ""), where))
    return listed


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:  # reading it as text gives the error message
        return False


def _read_parquet(path: Path, root: _VideoRoot) -> list[ListedVideo]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        header = pq.read_schema(path).names
        columns = _header_columns(header, str(path))
        if columns is None:
            raise DataError(f"{path}: no columns for path and label among {header}")
        names = [header[column] for column in columns.values()]
        table = pq.read_table(path, columns=names)
        types = [table.schema.field(name).type for name in names]
        cells = [table[name].cast(pa.string()).to_pylist() for name in names]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    for name, type_ in zip(names, types, strict=True):
        if pa.types.is_floating(type_) or pa.types.is_boolean(type_):
            raise DataError(f"{path}: column {name!r} is {type_}; write text or integers")
    rows = (
        (f"{path}:row {n}", [value or "" for value in row])
        for n, row in enumerate(zip(*cells, strict=True), 1)
    )
    return _read_table(names, {meaning: i for i, meaning in enumerate(columns)}, rows, root)


def _is_video(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122 (pathlib is slow)


def is_id(text: str) -> bool:
    """Whether the text is a class id or a count: up to 18 decimal digits."""
    return text.isascii() and text.isdecimal() and len(text) <= 18
