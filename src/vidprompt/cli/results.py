"""Commands that show, compare and sweep results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vidprompt.cli.job_options import Again, Into, Jobs, ListSteps, print_pending
from vidprompt.cli.overrides import with_paths

PANEL = "Results"


def table(
    dataset: Annotated[str, typer.Argument()] = "demo",
    markdown: Annotated[bool, typer.Option(help="Print Markdown.")] = False,
    readme: Annotated[
        bool, typer.Option("--readme", help="Write it between README.md's markers.")
    ] = False,
) -> None:
    """Show the metrics of every protocol and method, with the floor beside them."""
    from vidprompt.reporting.table import print_table, update_readme

    if readme:
        update_readme(dataset=dataset)
        return
    print_table(dataset, markdown=markdown)


def compare(
    a: Annotated[
        str, typer.Argument(help="DATASET/METHOD/PROTOCOL[@REVISION], or a results folder.")
    ],
    b: Annotated[
        str, typer.Argument(help="In the same form. Default: A without its revision.")
    ] = "",
    markdown: Annotated[bool, typer.Option(help="Print Markdown for a pull request.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything to this file.")
    ] = None,
    changed: Annotated[
        Path | None, typer.Option(help="Write every changed video to this CSV file.")
    ] = None,
    show: Annotated[
        int, typer.Option(min=0, help="How many changed videos of each kind are shown.")
    ] = 10,
) -> None:
    """Compare result B with A, paired by video, with intervals, tests and what changed."""
    from vidprompt.comparison import table as comparison_table
    from vidprompt.comparison.compare import compare as compared
    from vidprompt.comparison.results import find_result, without_revision

    result = compared(find_result(a), find_result(b or without_revision(a)))
    if json_file:
        comparison_table.write_comparison(result, json_file)
    if changed:
        comparison_table.write_changed(result, changed)
    if markdown:
        print(comparison_table.markdown(result, show))
    else:
        comparison_table.print_comparison(result, show)


@with_paths
def multirun(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value or key=1,2 …", show_default=False)
    ] = None,
    jobs: Jobs = 1,
    show: ListSteps = False,
    again: Again = False,
    into: Into = None,
) -> None:
    """Train and evaluate every combination of swept keys; show one table of means over seeds."""
    from vidprompt import sweep

    if show:
        print_pending(sweep.pending(overrides or [], again=again))
        return
    result = sweep.run(overrides or [], jobs=jobs, again=again, into=into)
    print(f"\n{result.table}\n\n{result.page}")
    if result.failed:
        raise typer.Exit(1)


def metrics(
    predictions: Annotated[
        Path, typer.Argument(help="cache/predictions/DATASET/METHOD/PROTOCOL.parquet")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the form of metrics.json.")
    ] = False,
) -> None:
    """Compute every number of a result again from its predictions."""
    from rich.console import Console

    from vidprompt.recompute.metrics import metrics_table, recompute_metrics

    result = recompute_metrics(predictions)
    if as_json:
        print(json.dumps(result, indent=1, sort_keys=True))
    else:
        Console().print(metrics_table(result))


def inspect(
    results: Annotated[
        list[str],
        typer.Argument(help="DATASET/METHOD/PROTOCOL, or a results folder; several of a dataset."),
    ],
    export: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a folder that FiftyOne imports; open nothing."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the app.", show_default=False)] = None,
) -> None:
    """Show each tested video with its class, predictions, errors and embeddings in FiftyOne."""
    from vidprompt.inspection.videos import inspect_results

    if export is None:
        from vidprompt.inspection.app import load_fiftyone, open_app

        load_fiftyone()  # before the work
        open_app(inspect_results(results), port)
        return
    from vidprompt.inspection.export import export as export_to

    found = inspect_results(results)
    export_to(found, export)
    for name, count in found.errors.items():
        print(f"{name}: {count:,} of {len(found.with_field(name)):,} wrong")
    print(f"{export}: python {export / 'open.py'}, where FiftyOne is installed")


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (table, compare, multirun, metrics, inspect):
        app.command(rich_help_panel=PANEL)(command)
