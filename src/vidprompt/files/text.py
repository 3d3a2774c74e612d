"""Read text files that people and other programs wrote: bytes → text, lines, fields, tables and JSON.

UTF-8, with or without a byte order mark; UTF-16 and UTF-32 with one; and Windows-1252, as Excel saves CSV in
the West, with a warning that quotes some of it. What is no text, or may be in several encodings, is refused.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprompt.system.errors import DataError

SEPARATORS = {"\t": "tab", ";": "semicolon", ",": "comma", " ": "blank"}  # and what they are called
_MARKS = {  # byte order mark → encoding; UTF-32's begins with UTF-16's
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NO_TEXT = {  # how files begin that are no text
    b"PK\x03\x04": "a spreadsheet (.xlsx, .ods) or a zip file: save the sheet as 'CSV UTF-8'",
    b"\xd0\xcf\x11\xe0": "a spreadsheet (.xls): save the sheet as 'CSV UTF-8'",
    b"\x1f\x8b": "compressed: unpack it",
}
_SAVE = "save it as UTF-8 (in Excel: 'CSV UTF-8')"
# What no Western text has when it is decoded as Windows-1252, and texts of other encodings do.
_NOT_WESTERN = re.compile(
    r"[^\x00-\x7f]{3}"  # a run of such characters
    r"|(?<![^\W\d_])[^\x00-\x7f\W\d_]{2}(?![^\W\d_])"  # a word of them alone
    r"|[a-zß-öø-ÿ][À-ÖØ-ÞŠŒŽŸ]"  # a capital behind a small letter
    r"|[^\W\d_][¡-¶¸-¿][^\W\d_]"  # a sign inside a word
    r"|ÿ"  # byte 255
)
_BETWEEN = "".join(SEPARATORS)
_EXCEL_HINT = re.compile(r"sep=.?", re.IGNORECASE)  # a first line that names the separator


def read_text(path: Path, *, only_utf8: bool = False) -> str:
    """The text of a file, with `\\n` line ends and without byte order marks.

    `only_utf8`: of a file that other programs read too, who expect UTF-8.
    Raises DataError when the file is missing, cannot be read, or is of an encoding that cannot be told.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    text = _decode(data, path, only_utf8).replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\n\ufeff", "\n")  # of files that were put together


def _decode(data: bytes, path: Path, only_utf8: bool) -> str:
    for start, what in _NO_TEXT.items():
        if data.startswith(start):
            raise DataError(f"{path} is {what}")
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    if only_utf8 and encoding.removesuffix("-sig") != "utf-8":
        raise DataError(f"{path} is {encoding.upper()} text: {_SAVE}")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            name = encoding.removesuffix("-sig").upper()
            raise DataError(
                f"{path} is damaged {name} text (byte {error.start}): {_SAVE}"
            ) from None
        if only_utf8:
            raise DataError(f"{path} is not UTF-8 text (byte {error.start}): {_SAVE}") from None
        text = _decode_western(data, path, error.start)
    if "\0" in text:
        raise DataError(
            f"{path} is no text, or UTF-16 without its byte order mark (byte {data.index(0)} is 0): {_SAVE}"
        )
    return text


def _decode_western(data: bytes, path: Path, place: int) -> str:
    """Text in Windows-1252; `place` is the byte at which it is not UTF-8."""
    is_utf8_before = any(byte > 0x7F for byte in data[:place])
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        text = ""
    if is_utf8_before or not text or _NOT_WESTERN.search(text):
        raise DataError(f"{path} is not UTF-8 text (byte {place}): {_SAVE}")
    example = re.search(r"\S*[^\x00-\x7f\s]\S*", text)
    quoted = f"; it has {example[0][:40]!r}" if example else ""
    warnings.warn(
        f"{path} is not UTF-8 and is read as Windows-1252, as Excel saves it{quoted}. "
        f"If that is wrong, {_SAVE}",
        stacklevel=4,
    )
    return text


def read_json(
    path: Path,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    text: str | None = None,
) -> Any:
    """The value of a JSON file; `pairs` makes something else of objects than dicts. `text`: as read already.

    Raises DataError, naming the line, as `read_text` does and for what is not JSON.
    """
    text = read_text(path) if text is None else text
    try:
        value = json.loads(text, object_pairs_hook=pairs)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno} is not JSON: {error.msg}") from None
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise DataError(f"{path} has half a character (\\u{ord(half):x}) in it: {_SAVE}") from None
    except (RecursionError, ValueError):  # brackets in brackets, or numbers, by the thousand
        raise DataError(
            f"{path} is not JSON of classes: it is nested too deeply, or damaged"
        ) from None
    return value


def numbered_lines(
    path: Path, strip: str | None = None, text: str | None = None
) -> Iterator[tuple[str, str]]:
    """The lines of a text file that are not blank, as (`<file>:<n>`, stripped line).

    `strip`: the characters to strip, any white space if None. A spreadsheet's empty rows (`;;`) and its first
    line `sep=;` are left out. `text`: as read already. Raises DataError as `read_text` does.
    """
    text = read_text(path) if text is None else text
    for number, line in enumerate(text.split("\n"), 1):
        content = line.strip()
        if content.strip(_BETWEEN) and not (number == 1 and _EXCEL_HINT.fullmatch(content)):
            yield f"{path}:{number}", line.strip(strip)


def split_line(line: str, separator: str) -> list[str]:
    """A line's fields, which may be in double quotes; empty when quotes do not close."""
    if separator not in line and not line.startswith('"'):
        return [line]
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error:
        return []
    return [cell.strip() for cell in row]


def form(columns: int, separator: str, header: bool) -> str:
    """What was recognised, in words: `3 columns, tab, header`."""
    if columns == 1:
        return f"1 column, {'header' if header else 'no header'}"
    return f"{columns} columns, {SEPARATORS[separator]}, {'header' if header else 'no header'}"


@dataclass(frozen=True)
class Table:
    """A CSV file below its header: rows as (number of the first line, fields)."""

    header: list[str]
    separator: str
    rows: Iterator[tuple[int, list[str]]]


def read_table(
    path: Path, is_header: Callable[[Sequence[str]], bool], *, strict: bool = True
) -> Table:
    """A CSV file with a header, separated by commas, semicolons or tabs: by what `is_header` takes.

    Where it takes none, the header is that by commas. Fields are stripped and may hold line breaks; rows
    without any content are left out, and empty fields behind the header's last. Raises DataError as
    `read_text` does; the rows raise it where quotes are wrong (`strict`).
    """
    text = read_text(path)
    first, _, rest = text.partition("\n")
    hint = _EXCEL_HINT.fullmatch(first.strip()) is not None

    def table(separator: str) -> Table:
        records = _records(path, rest if hint else text, separator, 2 if hint else 1, strict)
        header = next(records, (0, []))[1]
        return Table(header, separator, _below(header, records))

    for separator in ",;\t":
        try:
            found = table(separator)
        except DataError:  # quotes that end before another separator
            continue
        if is_header(found.header):
            return found
    return table(",")


def _records(
    path: Path, text: str, separator: str, first: int, strict: bool
) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV that are not empty, and where each begins; `first`: the number of the first line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)
    while True:
        line = reader.line_num + first
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{path}:{line}: {error}; is a quote missing, or not doubled?"
            ) from error
        if row is None:
            return
        if any(cell.strip() for cell in row):
            yield line, [cell.strip() for cell in row]


def _below(
    header: Sequence[str], records: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    for line, row in records:
        while len(row) > len(header) and not row[-1]:
            row.pop()
        yield line, row
