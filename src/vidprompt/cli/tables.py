"""Tables on a terminal, and aligned text where there is none to draw on."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_COLOURS = {"passed": "green", "FAILED": "bold red", "not checked": "yellow"}


def print_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Drawn on a terminal; else columns divided by two blanks, whatever the width."""
    console = Console()
    if not console.is_terminal:
        widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
        print(title)
        for row in (heads, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print("  ".join(cells).rstrip())
        return
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for head in heads:
        table.add_column(escape(head), overflow="fold")
    for row in rows:
        table.add_row(*(f"[{_COLOURS[c]}]{c}[/]" if c in _COLOURS else escape(c) for c in row))
    console.print(table)
