"""Pieces of GitHub's Markdown, narrow enough for a phone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*{}\[\]<>#|~@&$]|(?<!\w)_|_(?!\w))")
_CODE = re.compile(r"`([^`]+)`")
MOST_CODE = 300  # characters of a value


def plain(text: object, most: int = 0) -> str:
    """One line of printable characters; of a longer text the first `most`."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(str(text).split()))
    return f"{line[: most - 1]}…" if most and len(line) > most else line


def sentence(text: str) -> str:
    """A sentence with values between backticks, whatever is in these or beside them, as Markdown."""
    parts = _CODE.split(text)
    return "".join(code(part) if i % 2 else _entities(part) for i, part in enumerate(parts))


def escaped(text: object) -> str:
    """Plain text that is not taken for Markdown or HTML, nor for a mention."""
    return _entities(plain(text))


def _entities(line: str) -> str:
    return _SPECIAL.sub(lambda match: f"&#{ord(match[1])};", line)


def code(text: object) -> str:
    """As code; a bar and a backtick would end a cell or the code. Of a long text the beginning."""
    line = plain(text, MOST_CODE).replace("`", "'").replace("|", "¦").strip()
    return f"`{line}`" if line else "–"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> list[str]:
    """`align`: l or r a column; else words first, then numbers. Cells are Markdown already."""
    align = align or "l" + "r" * (len(heads) - 1)
    rule = ["---" if side == "l" else "---:" for side in align]
    lines = [heads, rule, *rows]
    return ["| " + " | ".join(cell.replace("\n", " ") for cell in line) + " |" for line in lines]


def details(summary: str, lines: Iterable[str]) -> list[str]:
    """Folded up; nothing when there is nothing in it. `summary` is HTML."""
    inner = list(lines)
    if not inner:
        return []
    return [f"<details><summary>{summary}</summary>", "", *inner, "", "</details>", ""]


def several(count: int, word: str) -> str:
    """`1 video`, `1,200 videos`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def some(items: Sequence[str], most: int) -> list[str]:
    """As a list; the last line counts what is left out."""
    lines = [f"- {item}" for item in items[:most]]
    return lines + ([f"- and {len(items) - most:,} more"] if len(items) > most else [])
