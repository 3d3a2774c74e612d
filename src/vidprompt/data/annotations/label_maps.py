"""Read label maps (class id → name) in the field's formats, and replace ids in lists by class names.

Formats: `id,name` or `id name` lines, one name a line, or JSON (`{"0": "walk"}`, `{"walk": "0"}`,
`["walk"]`). A file that can be read in two ways is an error that names both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidprompt.data.annotations.base import numbered_lines
from vidprompt.data.annotations.list_files import ListedVideo, is_id, split_line
from vidprompt.files.text import read_text
from vidprompt.system.errors import DataError

# A line of a label map with a comma between name and id, in either order.
_WITH_ID = re.compile(r"[0-9]+\s*,|.*,\s*[0-9]+$")
_ID_COLUMN = ("id", "index", "idx", "class_id", "label_id", "class", "label")  # of a label map


def read_label_map(path: Path) -> dict[str, str]:
    """Class names by the text of their id (without leading zeros); a list of names counts from 0.

    Raises DataError, naming the line, for an id or a name that occurs twice, and for mixed formats.
    """
    text = read_text(path)
    as_json = path.suffix.lower() == ".json" or re.match(r'\s*(\{|\[\s*["\]])', text)
    by_id: dict[str, str] = {}
    names: set[str] = set()
    for where, number, name in _json_map(path, text) if as_json else _line_map(path):
        key = str(int(number))
        if key in by_id or name in names:
            raise DataError(
                f"{where}: id {number} or class {name!r} stands there twice; remove one"
            )
        by_id[key] = name
        names.add(name)
    if not by_id:
        raise DataError(f"{path} names no class")
    return by_id


def resolve_labels(
    rows: Sequence[ListedVideo], names: dict[str, str] | None
) -> tuple[list[ListedVideo], list[str]]:
    """The rows with class names as labels, and all classes in the order of their ids.

    `names`: a label map. Without one, ids are names, in numeric order, and class names are sorted. Raises
    DataError for an id or a class that `names` lacks, and for ids mixed with names when there are none.
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
    return named, [names[key] for key in sorted(names, key=int)]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as pairs, so that repeated keys are kept."""


def _json_map(path: Path, text: str) -> list[tuple[str, str, str]]:
    """(where, id, name) of each class of a JSON label map."""
    try:
        raw = json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno} is not JSON: {error.msg}") from None
    if isinstance(raw, list) and not isinstance(raw, _Pairs):
        raw = _Pairs((str(number), name) for number, name in enumerate(raw))
        ids, reverse = True, False
    elif isinstance(raw, _Pairs):
        ids = all(is_id(key) for key, _ in raw)
        reverse = all(type(value) in (int, str) and is_id(str(value)) for _, value in raw)
        if ids and reverse and raw:
            raise DataError(
                f"{path}: {raw[0][0]!r}: {raw[0][1]!r} can be read as id and class or as class and id;"
                " write a list of names instead"
            )
    else:
        raise DataError(f'{path}: expected {{"0": "name"}}, {{"name": "0"}} or a list of names')
    if reverse:
        return [(str(path), str(value), key) for key, value in raw]
    for key, value in raw:
        if not ids or not isinstance(value, str) or not value.strip():
            raise DataError(f"{path}: expected ids and names, found {key!r}: {value!r}")
    return [(str(path), key, value) for key, value in raw]


def _line_map(path: Path) -> list[tuple[str, str, str]]:
    """(where, id, name) of each class of a label map in lines."""
    lines = list(numbered_lines(path))
    if any(_WITH_ID.match(line) for _, line in lines):
        rows = [(where, split_line(line, ",")) for where, line in lines]
        if "".join(rows[0][1][:1]).casefold() in _ID_COLUMN:
            del rows[0]
        for where, row in rows:
            if len(row) != 2 or not is_id(row[0]) or not row[1]:
                advice = "with double quotes around a name that holds commas"
                raise DataError(f"{where}: expected 'id,name' on every line, {advice}; found {row}")
        return [(where, row[0], row[1]) for where, row in rows]
    numbered = [re.fullmatch(r"([0-9]{1,18})\s+(\S.*)", line) for _, line in lines]
    if lines and all(numbered):
        numbered_rows = [
            (where, m[1], m[2]) for (where, _), m in zip(lines, numbered, strict=True) if m
        ]
        ids = [int(number) for _, number, _ in numbered_rows]
        if ids[0] > 1 or ids != list(range(ids[0], ids[0] + len(ids))):
            raise DataError(
                f"{lines[0][0]}: {lines[0][1]!r} can be an id and a name, or a name that begins with a"
                " number: write 'id,name' on every line"
            )
        return numbered_rows
    return [(where, str(number), line) for number, (where, line) in enumerate(lines)]
