"""The command that makes a published row again, and lists the rows there are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vidprompt.config.published import PublishedRow

PANEL = "Results"


def reproduce(
    row: Annotated[str, typer.Argument(help="A published row, as --list names it.")] = "",
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value …, of params/", show_default=False)
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the published rows.")] = False,
    method: Annotated[str, typer.Option(help="List the rows of this method only.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train and evaluate what a published row stands for; show its figures beside ours."""
    from vidprompt.config.names import METHODS
    from vidprompt.config.published import published_rows
    from vidprompt.system.errors import UserError
    from vidprompt.system.suggestions import check_choice

    if method:
        check_choice("--method", method, METHODS)
    if not show:
        if not row:
            raise UserError("name a row, or list them: vidprompt reproduce --list")
        return
    rows = [one for one in published_rows().values() if method in ("", one.method)]
    if as_json:
        print(json.dumps([asdict(one) for one in rows], indent=1, ensure_ascii=False))
        return
    _print_rows(rows)


def _print_rows(rows: Sequence[PublishedRow]) -> None:
    """A line a measure; off a terminal plain columns."""
    from vidprompt.cli.tables import print_table

    lines = [
        (row.name, row.method, row.protocol, row.dataset, row.backbone, measure, figure.text, row.source.table)
        for row in rows
        for measure, figure in row.values.items()
    ]
    heads = ("row", "method", "protocol", "dataset", "backbone", "measure", "published", "source")
    print_table(f"{len(rows)} published rows, figures in %", heads, lines, "llllllrl")


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel=PANEL)(reproduce)
