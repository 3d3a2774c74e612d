"""Read descriptions of classes: our CSV files, EZ-CLIP's as released, and JSON.

Ours have the columns `class` and `description`. EZ-CLIP's (`GPT_discription/*.csv` of its repository) have
`SNo`, `Class Name` and `GPT3 discription`, with line breaks in quoted fields. JSON is an object of class →
text, or → list of texts. Runs of blanks and line breaks become one blank, which are the same tokens.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprompt.files.text import read_text
from vidprompt.models.text.class_names import class_key
from vidprompt.system.errors import UserError

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
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    header: list[str] = []
    line = 1
    try:
        for row in reader:
            where, line = f"{path}:{line}", reader.line_num + 1
            if not header:
                header = [name.strip().lower() for name in row]
                name_column, text_column = _columns(header, where)
            elif row and len(row) != len(header):
                raise UserError(
                    f"{where}: {len(row)} fields, and the header has {len(header)}: "
                    "put a text with commas in quotes"
                )
            elif row:
                name = row[name_column].strip()
                if not name:
                    raise UserError(f"{where}: a description without a class")
                yield Description(where, name, (_one_line(row[text_column]),))
    except csv.Error as error:
        raise UserError(f"{path}:{line}: {error}; is a quote missing, or not doubled?") from error
    if not header:
        raise UserError(f"{path}:1: the header must have the columns class and description")


def _columns(header: list[str], where: str) -> tuple[int, int]:
    """The numbers of the columns of class and description."""
    for name, text in COLUMNS:
        if name in header and text in header:
            return header.index(name), header.index(text)
    raise UserError(f"{where}: the header must have the columns class and description")


def _read_json(path: Path) -> Iterator[Description]:
    try:
        content = json.loads(read_text(path), object_pairs_hook=list)  # so that no class is lost
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno} is not JSON: {error.msg}") from error
    if not isinstance(content, list) or not all(isinstance(pair, tuple) for pair in content):
        raise UserError(f"{path}: an object of class → description is needed")
    for name, value in content:
        texts = value if isinstance(value, list) else [value]
        yield Description(f"{path}: {name!r}", name, tuple(map(_one_line, texts)))


def _one_line(text: Any) -> str:
    """The words of a text; "" of what is no text."""
    return " ".join(text.split()) if isinstance(text, str) else ""
