"""GitHub's Markdown: escaped text, code, tables, lists, folded sections, marked places of a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from vidprompt.files.atomic import write_text
from vidprompt.system.errors import DataError

_SPECIAL = re.compile(r"([\\`*{}\[\]<>#|~@&$]|(?<!\w)_|_(?!\w))")
_CODE = re.compile(r"`([^`]+)`")
MOST_CODE = 300  # characters of a value


def single_line(text: object, most: int = 0) -> str:
    """Text as one line of printable characters, cut to `most` of them; 0 cuts nothing."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(str(text).split()))
    return f"{line[: most - 1]}…" if most and len(line) > most else line


def sentence(text: str) -> str:
    """A sentence with values between backticks, as Markdown in which no other text is markup."""
    parts = _CODE.split(text)
    return "".join(code(part) if i % 2 else _entities(part) for i, part in enumerate(parts))


def escaped(text: object) -> str:
    """Plain text in which nothing is Markdown, HTML or a mention."""
    return _entities(single_line(text))


def _entities(line: str) -> str:
    return _SPECIAL.sub(lambda match: f"&#{ord(match[1])};", line)


def code(text: object) -> str:
    """Inline code that can stand in a table's cell: without bars and backticks, cut to `MOST_CODE`."""
    line = single_line(text, MOST_CODE).replace("`", "'").replace("|", "¦").strip()
    return f"`{line}`" if line else "–"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> list[str]:
    """The lines of a table whose cells are Markdown; their bars are escaped.

    `align`: l or r for each column; without it the first column is left, the others right.
    """
    align = align or "l" + "r" * (len(heads) - 1)
    rule = ["---" if side == "l" else "---:" for side in align]
    lines = [heads, rule, *rows]
    return [
        "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in line) + " |"
        for line in lines
    ]


def details(summary: str, lines: Iterable[str]) -> list[str]:
    """A folded section under `summary`, which is HTML; nothing without lines."""
    inner = list(lines)
    if not inner:
        return []
    return [f"<details><summary>{summary}</summary>", "", *inner, "", "</details>", ""]


def count_of(count: int, word: str) -> str:
    """A number with its noun: `1 video`, `1,200 videos`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def first_of(names: Sequence[str], most: int, separator: str = ", ") -> str:
    """The first `most` names and how many more there are: `a, b and 2 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return separator.join(names[:most]) + more


def bullets(items: Sequence[str], most: int) -> list[str]:
    """A list of at most `most` items; the last line counts the others."""
    lines = [f"- {item}" for item in items[:most]]
    return lines + ([f"- and {len(items) - most:,} more"] if len(items) > most else [])


def split_at_marks(page: str, name: str) -> tuple[str, str, str] | None:
    """A page up to the mark `<!-- NAME:begin -->`, the text after it, and the mark `<!-- NAME:end -->` and
    the rest; None without the two marks."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, has_begin, rest = page.partition(begin)
    text, has_end, after = rest.partition(end)
    return (before + begin, text, end + after) if has_begin and has_end else None


def read_marked(path: Path, name: str) -> tuple[str, str, str]:
    """The three texts of `split_at_marks` of a file. DataError without the file or the marks."""
    texts = split_at_marks(path.read_text("utf-8") if path.is_file() else "", name)
    if texts is None:
        raise DataError(
            f"{path} needs the lines <!-- {name}:begin --> and <!-- {name}:end --> around the table"
        )
    return texts


def write_between_marks(path: Path, name: str, text: str) -> None:
    """Replace the text between the marks of a file. DataError without the file or the marks."""
    before, _, after = read_marked(path, name)
    write_text(path, f"{before}\n\n{text}\n\n{after}")
