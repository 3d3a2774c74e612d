"""Read label maps (class id → name) in the field's formats, and replace ids in lists by class names.

Formats: `id,name` lines, also with semicolons, tabs or blanks; more columns where a header names them; one
name a line; or JSON (`{"0": "walk"}`, `{"walk": "0"}`, `["walk"]`). A header is recognised. A file that can
be read in two ways is an error that names both. What was recognised is a log message.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from vidprompt.data.annotations.base import is_id
from vidprompt.data.annotations.list_files import ListedVideo
from vidprompt.files.text import SEPARATORS, form, numbered_lines, read_json, read_text, split_line
from vidprompt.system.errors import DataError
from vidprompt.system.suggestions import first_names

logger = logging.getLogger(__name__)

# What columns are called, the preferred name first; blanks and signs do not count.
_IDS = (
    "id",
    "classid",
    "labelid",
    "categoryid",
    "actionid",
    "index",
    "idx",
    "classindex",
    "classidx",
)
_ID_COLUMNS = (*_IDS, "labelindex", "labelidx", "number", "num", "no", "nr", "class", "label")
_NAME_COLUMNS = (
    *("name", "classname", "labelname", "categoryname", "actionname", "names", "classes", "labels"),
    *("class", "label", "category", "action"),
)
_ADVICE = "with double quotes around a name that holds the separator, below a header id,name if any"
NAMED = 5  # classes named in a message

_Line = tuple[str, str]  # `<file>:<n>`, text
_Class = tuple[str, str, str]  # where, id, name


@dataclass(frozen=True)
class _Map:
    """The classes of a label map in their order, and the form that was recognised."""

    classes: list[_Class]
    form: str
    maybe_header: bool = False  # the first name may be a header instead


def read_label_map(path: Path, used: Collection[str] = ()) -> dict[str, str]:
    """Class names by the text of their id (without leading zeros); a list of names counts from 0.

    `used`: the labels of the lists that the map is for, or the dataset's classes. They tell whether a first
    line such as `name` above names is a header or a class.

    Raises DataError, naming the line, for an id or a name that occurs twice, for mixed formats, and for a
    file that can be read in two ways.
    """
    text = read_text(path)
    as_json = path.suffix.lower() == ".json" or re.match(r'\s*(\{|\[\s*["\]])', text)
    found = _json_map(path, text) if as_json else _line_map(path, text)
    if found.maybe_header and _is_header(found.classes, used):
        classes = [(where, str(n), name) for n, (where, _, name) in enumerate(found.classes[1:])]
        found = _Map(classes, form(1, "", True))
    by_id: dict[str, str] = {}
    names: set[str] = set()
    for where, number, name in found.classes:
        key = str(int(number))
        if key in by_id or name in names:
            raise DataError(
                f"{where}: id {number} or class {name!r} stands there twice; remove one"
            )
        by_id[key] = name
        names.add(name)
    if not by_id:
        raise DataError(f"{path} names no class")
    ids = sorted(map(int, by_id))
    logger.info(f"{path}: {found.form}: {len(ids)} classes, ids {ids[0]} to {ids[-1]}")
    if ids[-1] - ids[0] != len(ids) - 1:
        gap = next(a + 1 for a, b in pairwise(ids) if b != a + 1)
        warnings.warn(
            f"{path}: no class has the id {gap}, and others have higher ones", stacklevel=2
        )
    return by_id


def resolve_labels(
    rows: Sequence[ListedVideo], names: dict[str, str] | None
) -> tuple[list[ListedVideo], list[str]]:
    """The rows with class names as labels, and all classes in the order of their ids.

    `names`: a label map; its classes without a video are a log message. Without one, ids are names, in
    numeric order, and class names are sorted. Raises DataError for an id or a class that `names` lacks, and
    for ids mixed with names when there are none.
    """
    if names is None:
        ids = [is_id(row.label) for row in rows]
        if not any(ids):
            return list(rows), sorted({row.label for row in rows})
        if not all(ids):
            odd = rows[ids.index(not ids[0])]
            kinds = "some labels are ids and some are names; give a label map that holds them all"
            raise DataError(f"{odd.where}: label {odd.label!r}: {kinds}")
        names = {str(number): str(number) for number in {int(row.label) for row in rows}}
    known = set(names.values())
    named = []
    for row in rows:
        name = names.get(str(int(row.label))) if is_id(row.label) else None
        if name is None and row.label not in known:
            raise DataError(
                f"{row.where}: label {row.label!r} is not in the label map, which has {len(names)} classes:"
                " a label map is needed that names every id in the list"
            )
        named.append(replace(row, label=name or row.label))
    classes = [names[key] for key in sorted(names, key=int)]
    with_videos = {row.label for row in named}
    if unused := [name for name in classes if name not in with_videos]:
        logger.info(
            f"{len(unused)} of {len(classes)} classes of the label map have no video: "
            f"{first_names(unused, NAMED)}"
        )
    return named, classes


def _is_header(classes: Sequence[_Class], used: Collection[str]) -> bool:
    """Whether the first of a list of names is a header, by the labels that are used.

    Raises DataError where they do not tell.
    """
    (where, _, first), *others = classes
    ids = {int(label) for label in used if is_id(label)}
    if first in used:
        return False
    if ids and 0 in ids and max(ids) in (len(others) - 1, len(others)):
        return max(ids) < len(others)
    if used and not ids and 2 * sum(name in used for _, _, name in others) > len(others):
        return True
    raise DataError(
        f"{where}: {first!r} can be a header or the first class, and the labels in use do not tell: delete"
        " the line if it is a header, or write 'id,name' on every line"
    )


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as pairs, so that repeated keys are kept."""


def _json_map(path: Path, text: str) -> _Map:
    """The classes of a JSON label map."""
    raw = read_json(path, _Pairs, text)
    if isinstance(raw, list) and not isinstance(raw, _Pairs):
        raw = _Pairs((str(number), name) for number, name in enumerate(raw))
        ids, reverse, what = True, False, "JSON list of names"
    elif isinstance(raw, _Pairs):
        ids = all(is_id(key) for key, _ in raw)
        reverse = all(type(value) in (int, str) and is_id(str(value)) for _, value in raw)
        what = "JSON of name → id" if reverse else "JSON of id → name"
        if ids and reverse and raw:
            raise DataError(
                f"{path}: {raw[0][0]!r}: {raw[0][1]!r} can be read as id and class or as class and id;"
                " write a list of names instead"
            )
    else:
        raise DataError(f'{path}: expected {{"0": "name"}}, {{"name": "0"}} or a list of names')
    for key, value in raw:
        name = key if reverse else value
        if not (ids or reverse) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{path}: expected ids and names, found {key!r}: {value!r}")
    pairs = [(str(value), key) if reverse else (key, value) for key, value in raw]
    return _Map([(str(path), key, name.strip()) for key, name in pairs], what)


def _line_map(path: Path, text: str) -> _Map:
    """The classes of a label map in lines."""
    lines = list(numbered_lines(path, " ", text))  # tabs stand for empty last columns
    if not lines:
        return _Map([], "")
    tables = {separator: _split(lines, separator) for separator in "\t;,"}
    fitting = {s: rows for s, rows in tables.items() if _fits(rows)}
    if len(fitting) > 1:
        ways = " or ".join(SEPARATORS[separator] for separator in fitting)
        raise DataError(f"{lines[0][0]}: the columns can be separated by {ways}: keep one of them")
    for separator, rows in fitting.items():
        return _columns(lines, rows, separator)
    for separator, rows in tables.items():
        if len(rows) == 1 and len(rows[0]) > 1 and not is_id(rows[0][0]) and _is_known(rows[0]):
            return _Map([], "")  # a header alone
        if any(len(row) > 1 and (is_id(row[0]) or is_id(row[-1])) for row in rows):
            _raise_odd_row(lines, rows)
        if separator != "," and all(len(row) > 1 for row in rows):
            raise DataError(
                f"{lines[0][0]}: {len(rows[0])} columns, {SEPARATORS[separator]}, none of them of ids:"
                f" write 'id,name' on every line, {_ADVICE}"
            )
    if odd := next((where for where, line in lines if "\t" in line), None):
        raise DataError(
            f"{odd}: a tab is on this line, and not on every line: write all in one form"
        )
    return _blank_separated(lines) or _names(lines)


def _split(lines: Sequence[_Line], separator: str) -> list[list[str]]:
    """The fields of each line, without last columns that are empty on every line."""
    rows = [split_line(line, separator) for _, line in lines]
    width = max((i for row in rows for i, cell in enumerate(row, 1) if cell), default=0)
    return [row[:width] for row in rows]


def _fits(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the rows are a table of classes: equal widths, and ids in the first column or a header."""
    if len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
        return False
    return _ids_below(rows, 0) or _header(rows) is not None


def _ids_below(rows: Sequence[Sequence[str]], column: int, first: int = 0) -> bool:
    """Whether all fields of a column are ids, from the row `first` on."""
    return all(is_id(row[column]) for row in rows[first:])


def _header(rows: Sequence[Sequence[str]]) -> tuple[int | None, int] | None:
    """The columns of id (None: there is none) and name, by the first row; None where it is no header."""
    words = [_word(cell) for cell in rows[0]]
    ids = [i for i in range(len(words)) if _ids_below(rows, i, 1)]
    if len(rows) < 2 or any(is_id(cell) for cell in rows[0]):
        return None
    named = [words.index(word) for word in _ID_COLUMNS if word in words]
    column = next((i for i in named if i in ids), None)
    if column is None and ids:  # a name of the user's for ids, if they can be nothing else
        values = sorted(int(row[ids[0]]) for row in rows[1:])
        counted = values[0] <= 1 and values == list(range(values[0], values[0] + len(values)))
        if len(words) > 2 or not counted:
            return None
        column = ids[0]
    rivals = [i for i in named if i in ids and words[i] in _IDS]
    if len({tuple(row[i] for row in rows[1:]) for i in rivals}) > 1:
        return None
    names = [words.index(word) for word in _NAME_COLUMNS if word in words]
    names = [i for i in names if i != column]
    if not names and column in named and len(words) == 2:
        names = [1 - column]
    if column is None and names[:1] != [0]:  # a table of something else
        return None
    return (column, names[0]) if names else None


def _is_known(header: Sequence[str]) -> bool:
    return {_word(cell) for cell in header} <= {*_ID_COLUMNS, *_NAME_COLUMNS}


def _word(cell: str) -> str:
    """`Class Name` and `class_name` → `classname`."""
    return "".join(c for c in cell.casefold() if c.isalnum())


def _columns(lines: Sequence[_Line], rows: list[list[str]], separator: str) -> _Map:
    """The classes of a table that fits."""
    header = _header(rows)
    number, name = header or (0, 1)
    below = int(header is not None)
    classes = []
    for n, ((where, _), row) in enumerate(zip(lines[below:], rows[below:], strict=True)):
        if not row[name]:
            raise DataError(f"{where}: id {row[number or 0]} has no name; found {row}")
        classes.append((where, str(n) if number is None else row[number], row[name]))
    if header is None and len(rows[0]) > 2:
        raise DataError(
            f"{lines[0][0]}: {len(rows[0])} columns without a header: expected 'id,name' on every line,"
            f" {_ADVICE}; found {rows[0]}"
        )
    if header is None and _ids_below(rows, 1):
        raise DataError(
            f"{lines[0][0]}: {rows[0]} can be read as id and class or as class and id: write a header id,name"
        )
    return _Map(classes, form(len(rows[0]), separator, header is not None))


def _raise_odd_row(lines: Sequence[_Line], rows: Sequence[Sequence[str]]) -> None:
    """Raise DataError for the first row that is no id and name."""
    first = int(_header([row for row in rows if len(row) == len(rows[0])]) is not None)
    for (where, _), row in zip(lines[first:], rows[first:], strict=True):
        if len(row) != 2 or not is_id(row[0]) or not row[1]:
            raise DataError(f"{where}: expected 'id,name' on every line, {_ADVICE}; found {row}")


def _blank_separated(lines: Sequence[_Line]) -> _Map | None:
    """The classes of `0 walk` lines, None where they are names alone."""
    matches = [re.fullmatch(r"([0-9]{1,18})\s+(\S.*)", line.strip()) for _, line in lines]
    below = int(matches[0] is None and _names_id_and_name(lines[0][1]))
    rows = [
        (where, match[1], match[2].strip())
        for (where, _), match in zip(lines[below:], matches[below:], strict=True)
        if match
    ]
    ids = [int(number) for _, number, _ in rows]
    if below and rows and len(rows) == len(lines) - 1:
        return _Map(rows, form(2, " ", True))
    counted = bool(ids) and ids[0] <= 1 and ids == list(range(ids[0], ids[0] + len(ids)))
    if len(rows) == len(lines) and counted:
        return _Map(rows, form(2, " ", False))
    numbers = [re.match(r"[0-9]{1,18}(?![\w])", line) for _, line in lines]
    offsets = [int(match[0]) - i for i, match in enumerate(numbers) if match]
    most = max(map(offsets.count, (-1, 0, 1)))
    if len(rows) == len(lines) or 2 <= most >= len(lines) / 2:
        odd = next((i for i, match in enumerate(matches) if match is None), 0)
        raise DataError(
            f"{lines[odd][0]}: {lines[odd][1]!r} can be an id and a name, or a name that begins with a"
            " number, as the lines beside it: write 'id,name' on every line, below a header id,name if any"
        )
    return None


def _names_id_and_name(line: str) -> bool:
    words = line.split()
    return any(
        _word("".join(words[:i])) in _ID_COLUMNS and _word("".join(words[i:])) in _NAME_COLUMNS
        for i in range(1, len(words))
    )


def _names(lines: Sequence[_Line]) -> _Map:
    """The classes of a list of names, with the line's number as their id."""
    classes = []
    for number, (where, line) in enumerate(lines):
        cells = split_line(line.strip(), ",") if line.startswith('"') else [line.strip()]
        name = cells[0] if len(cells) == 1 else line.strip()
        if not name:
            raise DataError(f"{where}: a class without a name; found {line!r}")
        classes.append((where, str(number), name))
    if all(is_id(name) for _, _, name in classes):
        raise DataError(f"{lines[0][0]}: ids without names: write 'id,name' on every line")
    ends = [re.fullmatch(r"(.*\S)\s+([0-9]{1,18})", name) for _, _, name in classes]
    numbers = [int(match[2]) for match in ends if match]
    named = {match[1] for match in ends if match}
    if len(named) == len(lines) > 1 and numbers == list(range(numbers[0], numbers[0] + len(lines))):
        raise DataError(
            f"{lines[0][0]}: {lines[0][1]!r} can be a name and an id, or a name that ends in a number: write"
            " 'id,name' on every line"
        )
    first = classes[0][2]
    maybe = first.startswith("#") or _word(first) in {*_ID_COLUMNS, *_NAME_COLUMNS}
    return _Map(classes, form(1, "", False), maybe)
