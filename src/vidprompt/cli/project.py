"""Commands about the project: its configuration, datasets, stages, their cost, and what changed."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from vidprompt.cli.overrides import Overrides, with_paths
from vidprompt.system.errors import UserError

PANEL = "Project"


def init(
    folder: Annotated[str, typer.Argument(help="Made if need be; has to be empty.")],
    demo: Annotated[
        bool, typer.Option("--demo", help="With the demo's data and small CLIP (vidprompt[demo]).")
    ] = False,
) -> None:
    """Write a new project: parameters, pipeline, flows, CI, README; `dvc repro` runs in it."""
    from vidprompt.project.create import create_project
    from vidprompt.project.skeleton import package_version

    count = create_project(folder, demo=demo)
    print(f"{folder}: {count} files of vidprompt {package_version()}")
    own = "videos into data/own/<class>/, then `vidprompt activate own` and `dvc repro`"
    print(f"next: cd {quote(folder)}; " + ("dvc repro, or " if demo else "") + own)


def upgrade(
    take: Annotated[
        bool, typer.Option("--apply", help="Take the package's files where yours are not changed.")
    ] = False,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="A file to keep as it is here, whatever the package has.", metavar="FILE"
        ),
    ] = None,
) -> None:
    """Show which files of the project are older than the package's; exit 1 if any is left."""
    from vidprompt.project import upgrade as upgrading

    root = Path.cwd()
    if keep:
        upgrading.keep(root, keep)
    report = upgrading.examine(root)
    if take:
        for path in upgrading.apply(root, report):
            print(f"{path}: taken")
        report = upgrading.examine(root)
    for finding in report.findings:
        print(f"{finding.path}: {finding.state.value}")
        print(finding.diff, end="")
    made = f"made by vidprompt {report.made_by}, {report.installed} is installed"
    count = len(report.findings)
    print(
        f"{made}: " + (f"{count} files are not up to date" if count else "all files are up to date")
    )
    if report.findings:
        raise typer.Exit(1)


@with_paths
def config(
    overrides: Overrides = None,
    sources: Annotated[
        bool, typer.Option("--sources", help="Name the file that each value comes from.")
    ] = False,
) -> None:
    """Print the configuration of a command with these overrides, as YAML."""
    from vidprompt.cli.show_config import as_yaml
    from vidprompt.config.compose import compose_values
    from vidprompt.config.schema import Config

    composition = compose_values(overrides or [])
    Config.of(composition.values)  # what a stage would refuse, this refuses too
    print(as_yaml(composition, sources))


@with_paths
def doctor(
    overrides: Overrides = None,
    measure: Annotated[
        bool, typer.Option(help="Decode a few videos and train a step: disk and time.")
    ] = True,
) -> None:
    """Show what a dataset needs, what is missing, and estimated disk and time; exit 1 if not ready."""
    from vidprompt.cli.findings import print_findings
    from vidprompt.config.compose import compose
    from vidprompt.pipeline.doctor import examine

    if not print_findings(examine(compose(overrides or []), measure)):
        raise typer.Exit(1)


def activate(
    names: Annotated[
        list[str] | None, typer.Argument(help="Datasets to add.", show_default=False)
    ] = None,
    check: Annotated[
        bool, typer.Option(help="Write nothing; exit 2 when a file is out of date.")
    ] = False,
) -> None:
    """Write the stages of active datasets (params/stages.yaml) and the code they run (dvc.yaml)."""
    from vidprompt.pipeline import matrix
    from vidprompt.project.code_link import renew_code_link

    renew_code_link(Path.cwd())

    if check:
        if stale := matrix.stale():
            raise UserError(f"{', '.join(stale)} out of date: run `vidprompt activate`")
        return
    active, stages = matrix.activate(names or [])
    for name in active:
        count = {kind: sum(k.split("-")[0] == name for k in keys) for kind, keys in stages.items()}
        tests = count["evaluate"] + count["reid"]
        print(f"{name}: {count['train']} trainings, {tests} evaluations")


def cost(
    dataset: Annotated[str, typer.Argument()] = "demo",
    check: Annotated[
        bool, typer.Option(help="Write nothing; exit 2 when cost.json is stale.")
    ] = False,
) -> None:
    """Collect what a dataset's stages cost when DVC ran them: results/DATASET/cost.json."""
    from vidprompt.pipeline import stage_costs

    if not check:
        print(stage_costs.update(dataset))
    elif stale := stage_costs.stale(dataset):
        path = stage_costs.cost_file(dataset)
        raise UserError(
            f"{path} is of other inputs than dvc.lock for {len(stale)} stages, {stale[0]} is the "
            f"first: `vidprompt cost {quote(dataset)}`"
        )


def review(
    base: Annotated[
        str, typer.Argument(help="A revision. Default: where HEAD left origin/main or main.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder for review.md, review.html, pictures.")] = Path(
        "cache/review"
    ),
    pull: Annotated[
        bool, typer.Option(help="Fetch predictions that DVC's cache lacks from its remotes.")
    ] = False,
    pictures: Annotated[bool, typer.Option(help="Draw what changed.")] = True,
) -> None:
    """Show what changed since a revision; exit 1 if the results do not follow from code and params."""
    from vidprompt.review.build import build_review
    from vidprompt.review.output import write_review

    result = build_review(base, remotes=pull, draw=pictures, out=out)
    path = write_review(result, out)
    for finding in result.findings:
        print(f"{finding.subject}: {finding.sentence}")
    for unchecked in result.unchecked:
        print(f"not checked: {unchecked}")
    print(f"{path}: {result.summary}")
    if not result.passed:
        raise typer.Exit(1)


def check_store(
    remove: Annotated[
        bool, typer.Option("--remove", help="Delete what does not belong to the demo.")
    ] = False,
) -> None:
    """Check that the DVC remote inside git holds the demo alone, in at most 20 MB; exit 2 if not."""
    from vidprompt.registry import in_git_store

    if remove:
        for name in in_git_store.remove_foreign():
            print(f"deleted {name}")
    print(in_git_store.check_store())


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (init, upgrade, config, doctor, activate, cost, review, check_store):
        app.command(rich_help_panel=PANEL)(command)
