"""Small conversions of Markdown."""

from __future__ import annotations

import re
from pathlib import Path

# what stands in a page of the repository for a part of another file, between NAME:begin and NAME:end there
_INCLUDE = re.compile(r"<!-- (?P<file>[\w.]+): (?P<name>\w+) -->.*?<!-- end -->", re.DOTALL)
# a fence's language, then what tests/docs does with the block
_FENCE = re.compile(
    r"^(?P<fence> *```)(?P<language>\w+) +(?P<mark>runs|not run:|file:)(?P<rest>.*)$", re.M
)


def plain_fences(markdown: str) -> str:
    """Without the marks of the tests on blocks of code; a file's path is the block's title."""

    def plain(match: re.Match[str]) -> str:
        title = f' title="{match["rest"].strip()}"' if match["mark"] == "file:" else ""
        return f"{match['fence']}{match['language']}{title}"

    return _FENCE.sub(plain, markdown)


def with_includes(markdown: str, root: Path) -> str:
    """With the parts of the repository's files in place of what points to them."""

    def part(match: re.Match[str]) -> str:
        text = (root / match["file"]).read_text("utf-8")
        name = match["name"]
        return text.split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->")[0].strip()

    return _INCLUDE.sub(part, markdown)


def escaped(text: str) -> str:
    """A text of the code as Markdown: `<`, `*` and `_` mean themselves outside of back-ticks."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*_<\[\]|])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def cell(text: str) -> str:
    """A text in a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")
