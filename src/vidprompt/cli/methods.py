"""Commands that compare methods with each other, and search their numbers."""

from __future__ import annotations

from typing import Annotated

import typer

from vidprompt.cli.job_options import Again, Into, Jobs, ListSteps, print_pending
from vidprompt.cli.overrides import with_paths

PANEL = "Results"


@with_paths
def compare_methods(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="methods=all or a,b …; budget=clips or recipe; seed=1,2,3; key=value …",
            show_default=False,
        ),
    ] = None,
    jobs: Jobs = 1,
    show: ListSteps = False,
    again: Again = False,
    speed: Annotated[
        bool, typer.Option(help="Measure seconds and memory of a step, when the jobs are done.")
    ] = True,
    into: Into = None,
) -> None:
    """Train and test all methods alike: parameters, FLOPs, time, accuracy, paired tests in one table."""
    from vidprompt import method_comparison

    if show:
        print_pending(method_comparison.pending(overrides or [], again=again))
        return
    found = method_comparison.run(overrides or [], jobs=jobs, again=again, speed=speed, into=into)
    print(f"\n{found.table}\n\n{found.page}, {found.page.with_name('comparison.html')}")
    if found.failed:
        raise typer.Exit(1)


@with_paths
def tune(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="method=NAME or methods=a,b; tune=FILE of params/tune/; tune.KEY=…; key=value …",
            show_default=False,
        ),
    ] = None,
    jobs: Jobs = 1,
    show: Annotated[bool, typer.Option("--list", help="List what is searched, run none.")] = False,
    again: Annotated[bool, typer.Option(help="Forget all trials and start anew.")] = False,
    save: Annotated[
        str, typer.Option(help="Write the best values to params/experiment/NAME.yaml, too.")
    ] = "",
) -> None:
    """Search a method's numbers by accuracy on held-out training videos; stop bad trials early."""
    from vidprompt import tuning

    if show:
        print(*tuning.describe(overrides or []), sep="\n")
        return
    found = tuning.run(overrides or [], jobs=jobs, again=again, save=save)
    print(f"\n{found.table}\n\n{found.page}, {found.page.with_name('tune.html')}")
    for method, file in found.best.items():
        use = (
            f"vidprompt train experiment={file.stem}"
            if save
            else f"cp {file} params/experiment/NAME.yaml, then vidprompt train experiment=NAME"
        )
        print(f"{method}: {file}: {use}")
    if found.unfinished:
        print(f"still run by another process: {', '.join(found.unfinished)}: run this again")
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (compare_methods, tune):
        app.command(rich_help_panel=PANEL)(command)
