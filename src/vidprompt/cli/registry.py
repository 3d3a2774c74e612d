"""Commands of the model registry."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from vidprompt.cli.model_options import Weights
from vidprompt.cli.overrides import with_paths
from vidprompt.system.errors import UserError

logger = logging.getLogger(__name__)

PANEL = "Model registry"
Stage = Annotated[
    str, typer.Option(help="As in params/registry.yaml: candidate, staging, production.")
]
Push = Annotated[bool, typer.Option("--push", help="Push the tags to origin.")]


def register(
    name: Annotated[str, typer.Argument(help="As declared under artifacts: in dvc.yaml.")],
    stage: Stage,
    version: Annotated[
        str, typer.Option(help="A registered version, vX.Y.Z. Default: HEAD's.")
    ] = "",
    bump: Annotated[
        str, typer.Option(help="Part of the number that a new version raises: major, minor, patch.")
    ] = "minor",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if a check fails.")
    ] = False,
    push: Push = False,
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Also in MLflow's registry (MLFLOW_TRACKING_URI).")
    ] = False,
) -> None:
    """Assign a stage to a model if it is reproducible, available and passes its gates."""
    from vidprompt.cli import tables
    from vidprompt.registry import checks, registration

    if not check:
        done = registration.register(name, stage, version=version, bump=bump, push=push)
        if mlflow:
            from vidprompt.registry.mlflow_models import register_in_mlflow

            logger.info(f"MLflow: {register_in_mlflow(done, stage)} is {stage}")
        return
    report = registration.check(name, stage, version)
    title = f"{name} of {report.revision} for {stage}"
    tables.print_table(title, checks.HEADS, checks.table_rows(report))
    for problem in report.problems:
        logger.error(problem)
    if not report.passed:
        raise typer.Exit(1)


def models(
    name: Annotated[str, typer.Argument(help="This model only.", show_default=False)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """List declared models, their versions, newest first, and the stages of these."""
    from vidprompt.cli import tables
    from vidprompt.registry import listing

    entries = listing.list_models(name)
    if as_json:
        print(json.dumps(entries, indent=1, sort_keys=True, ensure_ascii=False))
        return
    tables.print_table("Models", listing.HEADS, listing.table_rows(entries))


def rollback(
    name: Annotated[str, typer.Argument(help="A registered model.")],
    stage: Stage,
    push: Push = False,
) -> None:
    """Assign a stage to the version that had it before."""
    from vidprompt.registry import registration

    registration.rollback(name, stage, push=push)


def card(
    model: Annotated[
        str,
        typer.Argument(
            help="NAME@VERSION, NAME@STAGE or NAME@latest; NAME: the model in the working tree."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None,
) -> None:
    """Print a model's card in Markdown: data, results, configuration, hashes, licence, loading."""
    from vidprompt.files.atomic import write_text
    from vidprompt.provenance.revision import Revision
    from vidprompt.registry.card import card as written
    from vidprompt.registry.versions import resolve

    root = Path()
    if "@" in model:
        version = resolve(root, model)
        text = written(version.name, Revision(root, version.commit), version)
    else:
        text = written(model, Revision(root))
    if out:
        try:
            write_text(out, text)
        except OSError as error:
            raise UserError(f"{out} cannot be written ({error.strerror}): name a file") from error
        print(out)
    else:
        print(text, end="")


@with_paths
def evaluate_registered(
    model: Annotated[str, typer.Argument(help="NAME@VERSION, NAME@STAGE or NAME@latest.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="dataset=NAME, other key=value …")
    ] = None,
) -> None:
    """Evaluate a registered model on a dataset that it was not trained on."""
    from vidprompt.cli import tables
    from vidprompt.registry import cross_dataset

    folder = cross_dataset.evaluate_on_dataset(model, overrides or [])
    title, rows, note = cross_dataset.result_table(folder)
    tables.print_table(title, cross_dataset.HEADS, rows)
    if note:
        print(note)
    print(folder.relative_to(Path.cwd()))


def push_to_hub(
    model: Annotated[
        str, typer.Argument(help="A registered version (NAME@STAGE), a run, a checkpoint's file.")
    ],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the Hub.")],
    private: Annotated[
        bool, typer.Option("--private", help="Make a private repository, if it is new.")
    ] = False,
    revision: Annotated[str, typer.Option(help="The branch; made if there is none.")] = "main",
    licence: Annotated[
        str,
        typer.Option("--license", help="The Hub's identifier: mit, … Default: the backbone's."),
    ] = "",
    message: Annotated[str, typer.Option(help="Of the commit. Default: the model's name.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask and write nothing; print files and card.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Replace another model, or an edited card, there.")
    ] = False,
    weights: Weights = None,
) -> None:
    """Publish a model on the Hugging Face Hub, with its backbone and a model card."""
    from vidprompt.cli import tables
    from vidprompt.hub.publication import find_publication
    from vidprompt.hub.push import contents, push

    content = contents(find_publication(model, weights=weights), repo, licence)
    if dry_run:
        rows = [(name, f"{size:,}") for name, size in sorted(content.sizes.items())]
        tables.print_table(f"{repo}, {revision}", ("File", "Bytes"), rows, "lr")
        print(f"\n{content.texts['README.md'].decode()}", end="")
        return
    done = push(content, repo, private=private, branch=revision, message=message, overwrite=yes)
    logger.info(f"{content.name} is on {done.page}")
    print(done.address)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (register, models, rollback, card, evaluate_registered, push_to_hub):
        app.command(rich_help_panel=PANEL)(command)
