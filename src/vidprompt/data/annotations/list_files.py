"""Read the field's list files of videos: text lists in several line formats, tables, and Parquet.

The format is recognised by a list's content, not by its name. One video a line, all lines in one format:

    walk/my clip.mp4 3            path label: split from the right, as paths hold blanks; label an id
    walk/my clip.mp4 16 3         path n_frames label
    walk/my clip.mp4,walking      path,label or path,n_frames,label; commas in a field need double quotes
    walk/my clip.mp4<TAB>walking  the same with tabs, or with semicolons

or columns named by a header (`path,label,split,group` in any order, the last two optional; with blanks: the
first two forms' columns in their order), or Parquet with such columns. A list that can be read in two ways is
an error that names both. What was recognised is a log message.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, NoReturn

from vidprompt.data.annotations.base import is_id, relative_path
from vidprompt.data.annotations.video_files import VIDEO_SUFFIXES
from vidprompt.files.text import form, numbered_lines, split_line
from vidprompt.system.errors import DataError

logger = logging.getLogger(__name__)

# Names of each column, the preferred one first.
_COLUMNS = {
    meaning: tuple(names.split())
    for meaning, names in {
        "path": "path video_path video filename file_name filepath file_path file",
        "label": "label class class_name label_name category action label_id class_id",
        "n_frames": "n_frames num_frames total_frames frames",
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


_FORMATS = [_LineFormat(separator, fields) for separator in "\t;, " for fields in (2, 3)]


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
    found = read(path, _VideoRoot(root))
    if not found.rows:
        raise DataError(f"{path} lists no videos")
    found.log(path)
    return found.rows


class Reading(NamedTuple):
    """The rows of a list in one form; `headed`: its columns are named, so there is no doubt about them."""

    rows: list[ListedVideo]
    headed: bool
    form: str  # `3 columns, tab, header`

    def log(self, path: Path) -> None:
        """Say what was recognised."""
        logger.info(f"{path}: {self.form}: {len(self.rows):,} rows")


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
    if not (table or lines) or (table and not table.rows):
        raise DataError(f"{path} lists no videos")
    if table is not None:
        yield table
        return
    for format_, rows in _fitting_formats(lines):
        yield _reading(lines, format_, rows, anywhere, headed=False)


def role_of(text: str, where: str) -> str:
    """`Training` → `train`; "" stays. Raises DataError, naming `where`, for an unknown role."""
    role = ROLES.get(text.strip().casefold(), "")
    if text.strip() and not role:
        raise DataError(f"{where}: {text!r} is no role; write train, val or test")
    return role


def _read_text_list(path: Path, root: _VideoRoot) -> Reading:
    lines = list(numbered_lines(path, strip=" "))  # tabs stand for empty last columns
    if not lines:
        return Reading([], False, "")
    table = _read_headed(lines, root)
    if table is not None:
        return table
    format_, rows = _parse_lines(lines, root)
    return _reading(lines, format_, rows, root, headed=False)


def _reading(
    lines: Iterable[tuple[str, str]],
    format_: _LineFormat,
    rows: Iterable[_Fields],
    root: _VideoRoot,
    headed: bool,
) -> Reading:
    """Lines as a format reads them."""
    listed = [
        ListedVideo(root.relative(row.path, where), row.label, row.n_frames, "", "", where)
        for (where, _), row in zip(lines, rows, strict=True)
    ]
    return Reading(listed, headed, form(format_.fields, format_.separator, headed))


def _read_headed(lines: Sequence[tuple[str, str]], root: _VideoRoot) -> Reading | None:
    """The rows below a header, None where there is none."""
    if not lines:
        return None
    where, first = lines[0]
    for separator in "\t;,":
        header = split_line(first, separator)
        columns = _header_columns(header, where) if len(header) > 1 else None
        if columns is not None:
            below = ((where, split_line(line, separator)) for where, line in lines[1:])
            rows = _read_table(header, columns, below, root)
            return Reading(rows, True, form(len(header), separator, True))
    order = ["path", "n_frames", "label"]
    words = first.split()
    meanings = [_meaning(word) for word in words]
    if meanings in (order, order[::2]):
        format_ = _LineFormat(" ", len(words))
        fields = _parse_as(format_, lines[1:])
        if len(fields) < len(lines) - 1:
            odd, line = lines[len(fields) + 1]
            raise DataError(f"{odd}: {line!r} has not the columns of the header, {first!r}")
        return _reading(lines[1:], format_, fields, root, headed=True)
    return None


def _meaning(name: str) -> str:
    """What a column of this name holds (a key of `_COLUMNS`), "" for any other."""
    folded = name.casefold()
    return next((meaning for meaning, names in _COLUMNS.items() if folded in names), "")


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


def _parse_lines(
    lines: Sequence[tuple[str, str]], root: _VideoRoot
) -> tuple[_LineFormat, list[_Fields]]:
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
    format_, rows = next(iter(fitting.items()))
    if format_.separator != " " and _may_be_header(rows, root):
        raise DataError(
            f"{lines[0][0]}: {rows[0].path!r} is no video, as those below are: if the line is a header, call"
            " the columns path and label"
        )
    # `a.mp4 16 3` fits `path label` too, if some other line has no number of frames.
    trailing = [_BLANK_SEPARATED[2].fullmatch(row.path) for row in rows]
    counted = [match is not None and _is_video(match[1]) for match in trailing]
    if any(counted):
        odd = next((i for i, flag in enumerate(counted) if flag != counted[0]), 0)
        raise DataError(
            f"{lines[odd][0]}: {lines[odd][1]!r} and the lines before are of two forms (a number follows"
            " some videos' names): write n_frames on every line or on none, with one separator"
        )
    return format_, rows


def _may_be_header(rows: Sequence[_Fields], root: _VideoRoot) -> bool:
    """Whether only the first row names no video, and has a label of its own."""
    first, *others = rows
    return (
        bool(others)
        and "/" not in first.path
        and not root.has_video(first.path)
        and all(row.label != first.label and root.has_video(row.path) for row in others)
    )


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
            while len(cells) > format_.fields and not cells[-1]:
                cells.pop()  # empty last columns of a spreadsheet
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
        quotes = ", and double quotes around a field that holds the separator"
        raise DataError(f"{where}: {line!r} {before}{quotes * (format_.separator in ',;')}")
    raise DataError(
        f"{where}: expected 'path label' or 'path n_frames label' (the label an integer), or path and"
        f" label separated by a comma, a semicolon or a tab (a field that holds one in double quotes),"
        f" found {line!r}"
    )


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
        cells = list(cells)
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()  # empty last columns of a spreadsheet
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


def _read_parquet(path: Path, root: _VideoRoot) -> Reading:
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
    listed = _read_table(names, {meaning: i for i, meaning in enumerate(columns)}, rows, root)
    return Reading(listed, True, f"{len(header)} columns, Parquet")


def _is_video(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122 (pathlib is slow)
