"""The documentation's pages, and the blocks of code on them.

A block's language is the first word of its info string. Blocks of a language in MARKED say after it what
is done with them (`CONTRIBUTING.md`):

    bash runs               run by tests/docs/test_runs.py in a copy of the repository, the page from its top
    bash runs quickly       in `make test`, too
    bash runs, exit 1       and a command of it ends with this status
    bash not run: REASON    only looked at
    python file: PATH       what the file PATH of that copy has in it
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / "AGENTS.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ],
    key=lambda page: page.as_posix(),
)
# the first page of a new project: its blocks are of commands, without marks
TEMPLATE = ROOT / "src/vidprompt/project/templates/README.md"
MARKED = ("bash", "console", "python")
LANGUAGES = (*MARKED, "text", "yaml", "json", "toml", "nginx", "html", "csv")
_MARK = re.compile(
    r"(?P<runs>runs( quickly)?(, exit (?P<exit>\d+))?)|not run: \S.+|file: (?P<file>[\w./@-]+)|"
)


@dataclass(frozen=True)
class Block:
    """A block of code: where it is, and what its info string says."""

    page: Path
    line: int
    language: str
    mark: str
    content: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def valid(self) -> bool:
        """A known language and a known mark, which blocks of commands have to have."""
        known = self.language in LANGUAGES and _MARK.fullmatch(self.mark) is not None
        return known and bool(self.mark or self.language not in MARKED)

    @property
    def runs(self) -> bool:
        return bool(self._part("runs"))

    @property
    def exit_status(self) -> int:
        """How a block that runs ends."""
        return int(self._part("exit") or 0)

    @property
    def file(self) -> str:
        """The file whose content this is; empty for others."""
        return self._part("file")

    def _part(self, name: str) -> str:
        match = _MARK.fullmatch(self.mark)
        return (match[name] or "") if match else ""


def blocks(page: Path) -> list[Block]:
    """All blocks of code of a page; indented ones have no language."""
    return [
        Block(
            page,
            token.map[0] + 1,
            *_split(token.info if token.type == "fence" else ""),
            token.content,
        )
        for token in _tokens(page)
        if token.type in ("fence", "code_block") and token.map
    ]


def inline_code(page: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each piece of code within sentences and tables."""
    for token in _tokens(page):
        for child in token.children or ():
            if child.type == "code_inline" and token.map:
                yield token.map[0] + 1, child.content


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Line and target of each link and picture."""
    for token in _tokens(page):
        for child in token.children or ():
            target = child.attrs.get("href") or child.attrs.get("src")
            if target and token.map:
                yield token.map[0] + 1, str(target)


@cache
def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))


def _split(info: str) -> tuple[str, str]:
    language, _, mark = info.strip().partition(" ")
    return language, mark.strip()
