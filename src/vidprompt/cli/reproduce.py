"""The command that makes a published row again, and lists the rows there are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from vidprompt.cli.overrides import with_paths

if TYPE_CHECKING:
    from vidprompt.config.published import PublishedRow
    from vidprompt.reproduce.table import Reproduction

PANEL = "Results"


@with_paths
def reproduce(
    row: Annotated[str, typer.Argument(help="A published row, as --list names it.")] = "",
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value …, of params/", show_default=False)
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the published rows.")] = False,
    method: Annotated[str, typer.Option(help="List the rows of this method only.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    check: Annotated[
        bool, typer.Option(help="Say what is missing, run nothing; exit 1 when not ready.")
    ] = False,
    measure: Annotated[
        bool, typer.Option(help="With --check: decode a few videos and train a step.")
    ] = True,
    again: Annotated[bool, typer.Option(help="Run finished steps again.")] = False,
) -> None:
    """Train and evaluate what a published row stands for; show its figures beside ours."""
    from vidprompt import reproduce as rows_again
    from vidprompt.config.params_files import params_names
    from vidprompt.config.published import published_rows
    from vidprompt.system.errors import UserError
    from vidprompt.system.suggestions import check_choice

    if method:
        check_choice("--method", method, params_names("method"))
    if not show:
        if not row:
            raise UserError("name a row, or list them: vidprompt reproduce --list")
        if check:
            _check(row, overrides or [], measure)
            return
        found = rows_again.run(row, overrides or [], again=again)
        if as_json:
            print(found.file.read_text("utf-8"), end="")
        else:
            _print_reproduction(found)
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
        (
            row.name,
            row.method,
            row.protocol,
            row.dataset,
            row.backbone,
            measure,
            figure.text,
            row.source.table,
        )
        for row in rows
        for measure, figure in row.values.items()
    ]
    heads = ("row", "method", "protocol", "dataset", "backbone", "measure", "published", "source")
    print_table(f"{len(rows)} published rows, figures in %", heads, lines, "llllllrl")


def _check(row: str, overrides: Sequence[str], measure: bool) -> None:
    from vidprompt.cli.findings import print_findings
    from vidprompt.reproduce import check

    ready, last = True, ""
    for chain, finding in check(row, overrides, measure):
        if chain.job.name != last:
            print(f"{chain.job.name}: {chain.job.method} on {chain.dataset}")
        last = chain.job.name
        ready = print_findings([finding]) and ready
    if not ready:
        raise typer.Exit(1)


def _print_reproduction(found: Reproduction) -> None:
    from vidprompt.cli.tables import print_table
    from vidprompt.reproduce.table import HEADS, rows_of

    print_table(f"{found.row.name} (%), {found.row.source.table}", HEADS, rows_of(found), "lrrlr")
    print("Not as published, or not known:")
    for text in found.differs:
        print(f"- {text}")
    print(f"{found.file}, {found.file.with_suffix('.md')}")


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel=PANEL)(reproduce)
