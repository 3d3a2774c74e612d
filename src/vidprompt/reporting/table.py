"""The table of results, on a terminal and in README.md: measures by method beside the floor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidprompt.config.names import FLOOR
from vidprompt.reporting.markdown import table as markdown_lines
from vidprompt.reporting.markdown import write_between_marks
from vidprompt.reporting.measures import (
    PROTOCOL_TITLES,
    TOO_FEW_NOTE,
    Row,
    order_methods,
    percent,
    points,
    read_rows,
)

MARKS = "results"  # the name of the marks in README.md
PUBLISHED = "Published"  # a column, where a row has published figures
NOTE = (
    "Values in %, in brackets the 95% interval; the best method in bold. The last columns"
    f" are the best trained method less `{FLOOR}` (the floor) in percentage points, and how much of"
    " what the protocol lists could be tested."
)
PUBLISHED_NOTE = (
    "Published figures are of the same splits: `vidprompt reproduce --list` says where from."
)


def note(rows: Sequence[Row]) -> str:
    """What stands under the table, with the marks and columns that it has."""
    parts = [NOTE]
    if PUBLISHED in _columns(rows)[1]:
        parts.append(PUBLISHED_NOTE)
    if any(cell.too_few for row in rows for cell in row.cells.values()):
        parts.append(TOO_FEW_NOTE)
    return " ".join(parts)


def _columns(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """The methods, and the heading of every column."""
    methods = order_methods([method for row in rows for method in row.cells])
    named = [f"{m} (floor)" if m == FLOOR else m for m in methods]
    published = [PUBLISHED] if any(row.published for row in rows) else []
    return methods, ["Protocol", "Measure", *named, *published, "Best − floor", "Coverage"]


def _gain_text(row: Row) -> str:
    return f"{points(row.gain[1])} {row.gain[0]}" if row.gain else "–"


def markdown_table(rows: Sequence[Row]) -> str:
    """The table in Markdown, with a note on what the numbers are."""
    methods, heads = _columns(rows)
    lines = []
    before = ""
    for row in rows:
        cells = []
        for method in methods:
            cell = row.cells.get(method)
            value, _, rest = cell.text.partition(" ") if cell else ("–", "", "")
            shown = f"**{value}**" if method in row.best else value
            cells.append(f"{shown} {rest}".strip())
        if PUBLISHED in heads:
            cells.append("; ".join(row.published) or "–")
        title = PROTOCOL_TITLES[row.protocol] if row.protocol != before else ""
        lines.append([title, row.measure, *cells, _gain_text(row), row.coverage_text])
        before = row.protocol
    return "\n".join([*markdown_lines(heads, lines, "ll" + "r" * (len(heads) - 2)), "", note(rows)])


def print_table(dataset: str, markdown: bool = False, results: Path = Path("results")) -> None:
    """Print the table: drawn, or in Markdown."""
    rows = read_rows(dataset, results)
    if markdown:
        print(markdown_table(rows))
        return
    from rich.console import Console

    Console().print(drawn_table(rows, dataset))


def drawn_table(rows: Sequence[Row], dataset: str) -> Any:
    """The table for a terminal (a rich Table), intervals below the values."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    methods, heads = _columns(rows)
    table = Table(
        title=f"{escape(dataset)}: values in %, 95% intervals below them",
        title_justify="left",
        caption=TOO_FEW_NOTE if TOO_FEW_NOTE in note(rows) else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for head in heads[1:]:
        justify: Any = "left" if head == "Measure" else "right"
        table.add_column(escape(_broken(head)), justify=justify)
    before = ""
    for row in rows:
        if row.protocol != before:
            table.add_row(f"[bold]{PROTOCOL_TITLES[row.protocol]}[/]")
        cells = []
        for method in methods:
            cell = row.cells.get(method)
            value = percent(cell.value) if cell else "–"
            shown = f"[bold green]{value}[/]" if method in row.best else value
            spread = f"\n[dim]{cell.spread}[/]" if cell and cell.spread else ""
            cells.append(shown + spread)
        if PUBLISHED in heads:
            cells.append(escape("\n".join(row.published)) or "–")
        measure, _, chance = escape(row.measure).partition(" (")
        measure += f"\n  [dim]({chance}[/]" if chance else ""
        gain = escape(_gain_text(row)).replace(" ", "\n")
        table.add_row(f"  {measure}", *cells, gain, row.coverage_text)
        before = row.protocol
    return table


def _broken(head: str) -> str:
    """A heading in two short lines."""
    return head.replace(" (floor)", "\n(floor)").replace(" − ", " −\n")


def update_readme(
    path: Path = Path("README.md"), dataset: str = "demo", results: Path = Path("results")
) -> None:
    """Replace what stands between the markers of README.md. DataError without markers."""
    write_between_marks(path, MARKS, markdown_table(read_rows(dataset, results)))
