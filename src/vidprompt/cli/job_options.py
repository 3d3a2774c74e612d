"""Options of the commands that run the jobs of a plan: multirun, compare-methods, tune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Jobs to run at once.")]
ListSteps = Annotated[bool, typer.Option("--list", help="List the steps, run none.")]
Again = Annotated[bool, typer.Option(help="Run finished steps again.")]
Into = Annotated[
    Path | None,
    typer.Option(help="A page with the marks NAME:begin and NAME:end, for the table."),
]


def print_pending(pending: Mapping[str, Sequence[str]]) -> None:
    """A line a job: the titles of its steps to run, or `done`."""
    for name, steps in pending.items():
        print(f"{name}: {', '.join(steps) or 'done'}")
