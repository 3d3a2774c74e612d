"""Print tables: drawn on a terminal, columns of text elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_COLOURS = {"passed": "green", "FAILED": "bold red", "not checked": "yellow"}


def print_table(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    align: str = "",
    optional: str = "",
) -> None:
    """Print a table; off a terminal two blanks separate columns, whatever the width.

    `align` is a letter a column, `l` or `r`; empty: all to the left. `optional` is the head of a column
    that is left out where the terminal is too narrow for all.
    """
    console, sides = Console(), align or "l" * len(heads)
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    if console.is_terminal and optional and sum(widths) + 3 * len(widths) > console.width:
        kept = [i for i, head in enumerate(heads) if head != optional]
        heads, sides = [heads[i] for i in kept], "".join(sides[i] for i in kept)
        rows = [[row[i] for i in kept] for row in rows]
    if not console.is_terminal:
        print(title)
        for row in (heads, *rows):
            cells = (
                cell.rjust(width) if side == "r" else cell.ljust(width)
                for cell, width, side in zip(row, widths, sides, strict=True)
            )
            print("  ".join(cells).rstrip())
        return
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for head, side in zip(heads, sides, strict=True):
        table.add_column(escape(head), overflow="fold", justify="right" if side == "r" else "left")
    for row in rows:
        table.add_row(*(f"[{_COLOURS[c]}]{c}[/]" if c in _COLOURS else escape(c) for c in row))
    console.print(table)
