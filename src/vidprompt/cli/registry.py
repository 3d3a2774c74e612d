"""The registry's commands, as thin as the others of `vidprompt.cli.main`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer

from vidprompt.system.errors import UserError

_STAGE = typer.Option(help="As in params/registry.yaml: candidate, staging, production.")
_PUSH = typer.Option(False, "--push", help="Push the tags to origin, too.")


def register(
    name: str = typer.Argument(help="As declared under artifacts: in dvc.yaml."),
    stage: str = _STAGE,
    version: str = typer.Option("", help="One that is registered, vX.Y.Z; else HEAD's."),
    bump: str = typer.Option("minor", help="What a new version counts up: major, minor, patch."),
    check: bool = typer.Option(
        False, "--check", help="Write nothing; exit 1 if it would not pass."
    ),
    push: bool = _PUSH,
) -> None:
    """Give a model a stage, if it is reproducible, to be had, and good enough."""
    from vidprompt.cli import tables
    from vidprompt.registry import checks, registration

    if not check:
        registration.register(name, stage, version=version, bump=bump, push=push)
        return
    verdict = registration.examine(name, stage, version)
    title = f"{name} of {verdict.revision} for {stage}"
    tables.print_table(title, checks.HEADS, checks.rows(verdict))
    for problem in verdict.problems:
        print(f"- {problem}", file=sys.stderr)
    if not verdict.passed:
        raise typer.Exit(1)


def models(
    name: str = typer.Argument("", help="One model alone.", show_default=False),
    as_json: bool = typer.Option(False, "--json", help="Everything, for programs."),
) -> None:
    """Declared models, their versions, newest first, and the stages these are in."""
    from vidprompt.cli import tables
    from vidprompt.registry import listing

    entries = listing.listed(name)
    if as_json:
        print(json.dumps(entries, indent=1, sort_keys=True, ensure_ascii=False))
        return
    tables.print_table("Models", listing.HEADS, listing.table_rows(entries))


def rollback(
    name: str = typer.Argument(help="A registered model."),
    stage: str = _STAGE,
    push: bool = _PUSH,
) -> None:
    """Give a stage back to the version that was in it before."""
    from vidprompt.registry import registration

    registration.rollback(name, stage, push=push)


def card(
    model: str = typer.Argument(help="NAME@VERSION, NAME@STAGE, NAME@latest; NAME: as on disk."),
    out: Path = typer.Option(None, help="Write it there instead of printing it."),  # noqa: B008
) -> None:
    """A model's card in Markdown: data, results, configuration, hashes, licence, how to load it."""
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


def evaluate_registered(
    model: str = typer.Argument(help="NAME@VERSION, NAME@STAGE or NAME@latest."),
    overrides: list[str] = typer.Argument(None, help="dataset=NAME, other key=value …"),  # noqa: B008
) -> None:
    """Test a registered model on a dataset that it was not trained on."""
    from vidprompt.registry.cross_dataset import evaluate

    evaluate(model, overrides or [])


def add_to(app: typer.Typer) -> None:
    """Give the commands to the application."""
    for command in (register, models, rollback, card):
        app.command()(command)
    app.command("evaluate-registered")(evaluate_registered)
