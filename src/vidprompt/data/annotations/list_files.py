"""The field's lists of videos, recognised by what they hold, not by their names.

A list has one video a line, all lines in one form:

    walk/my clip.mp4 3            path label: split from the right, for paths hold blanks; label an id
    walk/my clip.mp4 16 3         path n_frames label
    walk/my clip.mp4,walking      path,label or path,n_frames,label; commas in a field need double quotes
    walk/my clip.mp4<TAB>walking  the same with tabs

or columns named by a header (`path,label,split,group` in any order, the last two optional), or Parquet
with such columns. Class names: `id,name` or `id name` lines, one name a line, or JSON (`{"0": "walk"}`,
`{"walk": "0"}`, `["walk"]`). What can be read in two ways is an error that gives both.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, NoReturn

from vidprompt.data.annotations.base import inside, read_text
from vidprompt.data.annotations.video_files import VIDEO_SUFFIXES
from vidprompt.system.errors import DataError

# What a column may be called, the preferred name first.
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
_BLANKS = {
    2: re.compile(r"(.*\S) +([0-9]{1,18})"),
    3: re.compile(r"(.*\S) +([0-9]{1,18}) +([0-9]{1,18})"),
}


@dataclass(frozen=True, slots=True)
class ListedVideo:
    """A line of a list."""

    path: str  # POSIX, relative
    label: str  # as written, or (after `resolve_labels`) the class's name
    n_frames: int | None
    role: str  # train, val, test, or "" where the list does not say
    group: str
    where: str  # `<file>:<line>`, for messages


class _Form(NamedTuple):
    separator: str
    fields: int

    def __str__(self) -> str:
        names = ("path", "n_frames", "label") if self.fields == 3 else ("path", "label")
        return self.separator.join(names)


class _Reading(NamedTuple):
    path: str
    n_frames: int | None
    label: str


_FORMS = [_Form(separator, fields) for separator in ("\t", ",", " ") for fields in (2, 3)]


class _Root:
    """The folder under which listed files lie, if one is given."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.bases = [] if folder is None else [folder.absolute(), folder.resolve()]

    def relative(self, path: str, where: str) -> str:
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
        posix = str(inside(path, where))
        if posix == ".":
            raise DataError(f"{where}: {path!r} names no video")
        return posix

    def suits(self, path: str) -> bool:
        """Whether that is a video's name, or there is something of that name."""
        if _is_video(path):
            return True
        try:
            return self.folder is not None and (self.folder / path).exists()
        except OSError:  # a name that cannot be, as one too long
            return False


def read_list(path: Path, root: Path | None = None) -> list[ListedVideo]:
    """The listed videos, labels as written. Absolute paths are accepted below `root` only.

    Raises DataError, naming file and line, for what cannot be read, or can in two ways.
    """
    rows = _read_parquet(path, _Root(root)) if _is_parquet(path) else _read_lines(path, _Root(root))
    if not rows:
        raise DataError(f"{path} lists no videos")
    return rows


def role_of(text: str, where: str) -> str:
    """`Training` → `train`. Raises DataError for a word that is no role; "" stays."""
    role = ROLES.get(text.strip().casefold(), "")
    if text.strip() and not role:
        raise DataError(f"{where}: {text!r} is no role; write train, val or test")
    return role


def _read_lines(path: Path, root: _Root) -> list[ListedVideo]:
    # Not `numbered_lines`: it would strip the tabs that stand for empty last columns.
    lines = [
        (f"{path}:{number}", line.strip(" "))
        for number, line in enumerate(read_text(path).split("\n"), 1)
        if line.strip()
    ]
    if not lines:
        return []
    for separator in "\t,":
        header = cells_of(lines[0][1], separator)
        columns = _header(header, lines[0][0]) if len(header) > 1 else None
        if columns is not None:
            rows = ((where, cells_of(line, separator)) for where, line in lines[1:])
            return _read_table(header, columns, rows, root)
    found = []
    for (where, _), reading in zip(lines, _in_one_form(lines, root), strict=True):
        file = root.relative(reading.path, where)
        found.append(ListedVideo(file, reading.label, reading.n_frames, "", "", where))
    return found


def _in_one_form(lines: Sequence[tuple[str, str]], root: _Root) -> list[_Reading]:
    """All lines in the only form that all of them fit, or the one that makes their paths videos."""
    readings = {form: _read_as(form, lines) for form in _FORMS}
    whole = {form: found for form, found in readings.items() if len(found) == len(lines)}
    if not whole:
        _refuse(lines, readings)
    if len(whole) > 1:
        best = [form for form in whole if all(_is_video(r.path) for r in whole[form])]
        if len(best) != 1:  # names alone do not tell: look what is there
            suits = {form: [root.suits(r.path) for r in found] for form, found in whole.items()}
            best = [form for form in whole if all(suits[form])]
            best = best or [form for form in whole if any(suits[form])]
        if len(best) != 1:
            ways = [f"{form!s} ({_describe(found[0])})" for form, found in whole.items()]
            raise DataError(
                f"{lines[0][0]}: {lines[0][1]!r} can be read as {' or '.join(ways)}, here and below,"
                " and the paths do not tell: separate the fields with tabs instead"
            )
        whole = {best[0]: whole[best[0]]}
    found = next(iter(whole.values()))
    # `a.mp4 16 3` fits `path label` too, if some other line has no number of frames.
    trailing = [_BLANKS[2].fullmatch(reading.path) for reading in found]
    counted = [match is not None and _is_video(match[1]) for match in trailing]
    if any(counted):
        odd = next((i for i, flag in enumerate(counted) if flag != counted[0]), 0)
        raise DataError(
            f"{lines[odd][0]}: {lines[odd][1]!r} and the lines before are of two forms (a number follows"
            " some videos' names): write n_frames on every line or on none, with one separator"
        )
    return found


def _read_as(form: _Form, lines: Sequence[tuple[str, str]]) -> list[_Reading]:
    """The lines in that form, up to the first that is not."""
    found = []
    for _, line in lines:
        if form.separator == " ":
            match = None if "\t" in line else _BLANKS[form.fields].fullmatch(line)
            cells = list(match.groups()) if match else []
        elif form.separator == "," and "\t" in line:
            cells = []
        else:
            cells = cells_of(line, form.separator)
        if (
            len(cells) != form.fields
            or not all(cells)
            or (form.fields == 3 and not is_id(cells[1]))
        ):
            break
        found.append(_Reading(cells[0], int(cells[1]) if form.fields == 3 else None, cells[-1]))
    return found


def _refuse(lines: Sequence[tuple[str, str]], readings: dict[_Form, list[_Reading]]) -> NoReturn:
    form = max(readings, key=lambda form: len(readings[form]))
    where, line = lines[len(readings[form])]
    if readings[form]:
        before = f"is not {str(form)!r} as the lines before: write all lines in one form"
        quotes = ", and double quotes around a field that holds a comma" * (form.separator == ",")
        raise DataError(f"{where}: {line!r} {before}{quotes}")
    raise DataError(
        f"{where}: expected 'path label' or 'path n_frames label' (the label an integer), or path and"
        f" label separated by a comma or a tab (a field that holds one in double quotes), found {line!r}"
    )


def _describe(reading: _Reading) -> str:
    frames = "" if reading.n_frames is None else f"{reading.n_frames} frames, "
    return f"path {reading.path!r}, {frames}label {reading.label!r}"


def cells_of(line: str, separator: str) -> list[str]:
    if separator not in line:
        return [line]
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error:  # quotes that do not close: not of this form
        return []
    return [cell.strip() for cell in row]


def _header(cells: Sequence[str], where: str) -> dict[str, int] | None:
    """Which column is what, if these cells name columns."""
    folded = [cell.strip().casefold() for cell in cells]
    found = {}
    for meaning, names in _COLUMNS.items():
        name = next((name for name in names if name in folded), None)
        if name is not None:
            found[meaning] = folded.index(name)
    if "path" not in found and ("label" not in found or "/" in cells[0] or _is_video(cells[0])):
        return None
    for column in found.values():
        if folded.count(folded[column]) > 1:
            raise DataError(f"{where}: two columns are called {cells[column]!r}; rename one")
    for meaning in ("path", "label"):
        if meaning not in found:
            known = ", ".join(_COLUMNS[meaning])
            raise DataError(
                f"{where}: no column of {list(cells)} is the {meaning}; call it one of {known}"
            )
    return found


def _read_table(
    header: Sequence[str],
    columns: dict[str, int],
    rows: Iterable[tuple[str, Sequence[str]]],
    root: _Root,
) -> list[ListedVideo]:
    found = []
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
        found.append(ListedVideo(path, row["label"], n_frames, role, row.get("group", ""), where))
    return found


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:  # reading it as text says what is wrong
        return False


def _read_parquet(path: Path, root: _Root) -> list[ListedVideo]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        header = pq.read_schema(path).names
        columns = _header(header, str(path))
        if columns is None:
            raise DataError(f"{path}: no columns for path and label among {header}")
        names = [header[column] for column in columns.values()]
        table = pq.read_table(path, columns=names)
        kinds = [table.schema.field(name).type for name in names]
        cast = [table[name].cast(pa.string()).to_pylist() for name in names]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    for name, kind in zip(names, kinds, strict=True):
        if pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            raise DataError(f"{path}: column {name!r} is {kind}; write text or integers")
    rows = (
        (f"{path}:row {n}", [v or "" for v in row])
        for n, row in enumerate(zip(*cast, strict=True), 1)
    )
    return _read_table(names, {meaning: i for i, meaning in enumerate(columns)}, rows, root)


def _is_video(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122 (pathlib is slow)


def is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18
