"""Read descriptions of classes: our CSV files, EZ-CLIP's as released, both as Excel saves them, and JSON.

Ours have the columns `class` and `description`. EZ-CLIP's (`GPT_discription/*.csv` of its repository) have
`SNo`, `Class Name` and `GPT3 discription`, with line breaks in quoted fields. JSON is an object of class →
text, or → list of texts. Runs of blanks and line breaks become one blank, which are the same tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprompt.data.annotations.class_names import class_key
from vidprompt.files.text import SEPARATORS, form, read_json, read_table
from vidprompt.system.errors import UserError

logger = logging.getLogger(__name__)

COLUMNS = (("class", "description"), ("class name", "gpt3 discription"))  # ours, EZ-CLIP's


@dataclass(frozen=True)
class Description:
    """A class's texts, and where they stand: `<file>:<line>`, in JSON `<file>: 'class'`."""

    where: str
    name: str
    texts: tuple[str, ...]


def read_descriptions(path: Path) -> dict[str, tuple[str, ...]]:
    """Read descriptions: `class_key` of a class → its texts.

    Raises UserError, naming the line, for a missing file, a malformed row, a class without a text, and a
    class with two different texts (in a CSV; JSON has lists for that).
    """
    if not path.is_file():
        raise UserError(
            f"no file of descriptions {path}: set prompts.descriptions=FILE (CSV or JSON)"
        )
    read = _read_json if path.suffix.lower() == ".json" else _read_csv
    found: dict[str, Description] = {}
    for one in read(path):
        if not all(one.texts) or not one.texts:
            raise UserError(f"{one.where}: no description of class {one.name!r}")
        first = found.setdefault(class_key(one.name), one)
        if first.texts != one.texts:
            raise UserError(
                f"{one.where}: class {one.name!r} is described before, by other words, at {first.where}: "
                "remove one (a list in a JSON file gives a class several texts)"
            )
    if not found:
        raise UserError(f"{path} has no descriptions in it")
    return {key: one.texts for key, one in found.items()}


def _read_csv(path: Path) -> Iterator[Description]:
    table = read_table(path, lambda header: _columns(header) is not None)
    columns = _columns(table.header)
    if columns is None:
        named = f", not {table.header}" if table.header else ""
        raise UserError(f"{path}:1: the header must have the columns class and description{named}")
    logger.info(f"{path}: {form(len(table.header), table.separator, True)}")
    name_column, text_column = columns
    for line, row in table.rows:
        where = f"{path}:{line}"
        if len(row) != len(table.header):
            raise UserError(
                f"{where}: {len(row)} fields, and the header has {len(table.header)}: "
                f"put a text with {SEPARATORS[table.separator]}s in quotes"
            )
        if not row[name_column]:
            raise UserError(f"{where}: a description without a class")
        yield Description(where, row[name_column], (_one_line(row[text_column]),))


def _columns(header: Sequence[str]) -> tuple[int, int] | None:
    """The numbers of the columns of class and description, None where the header lacks one."""
    names = [name.lower() for name in header]
    for name, text in COLUMNS:
        if name in names and text in names:
            return names.index(name), names.index(text)
    return None


def _read_json(path: Path) -> Iterator[Description]:
    content = read_json(path, list)  # so that no class is lost
    if not isinstance(content, list) or not all(isinstance(pair, tuple) for pair in content):
        raise UserError(f"{path}: an object of class → description is needed")
    for name, value in content:
        texts = value if isinstance(value, list) else [value]
        yield Description(f"{path}: {name!r}", name, tuple(map(_one_line, texts)))


def _one_line(text: Any) -> str:
    """The words of a text; "" of what is no text."""
    return " ".join(text.split()) if isinstance(text, str) else ""
