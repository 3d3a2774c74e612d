"""Commands about models and their checkpoints, published ones among them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidprompt.cli.overrides import Overrides, with_paths
from vidprompt.system.errors import UserError

if TYPE_CHECKING:
    from vidprompt.reproduce.backbones.catalogue import Configured

PANEL = "Models and published checkpoints"


@with_paths
def parameters(
    overrides: Overrides = None,
    classes: Annotated[int, typer.Option(help="Classes of class-specific contexts.")] = 400,
) -> None:
    """Count the trained and the frozen parameters of each part of a method."""
    from vidprompt.cli.tables import print_table
    from vidprompt.config.compose import compose
    from vidprompt.pipeline.parameter_table import model_without_weights, parameter_table

    model = model_without_weights(compose(overrides or []), classes)
    rows = [(part.name, f"{part.trained:,}", f"{part.frozen:,}") for part in parameter_table(model)]
    title = f"{model.method} on {model.backbone.tag}"
    print_table(title, ("part", "trained", "frozen"), rows, "lrr")


def backbones(
    every: Annotated[
        bool, typer.Option("--all", help="All models of open_clip, and why some are refused.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the backbones of params/backbone: size, cost of a frame, licence and published figures."""
    from vidprompt.reproduce.backbones.catalogue import configured, registered

    if every:
        _print_registered(registered(), as_json)
        return
    folder = Path("params/backbone")
    if not folder.is_dir():
        raise UserError(f"there is no {folder} here: run this in a project's folder, or with --all")
    _print_configured(configured(folder), as_json)


def _print_registered(models: dict[str, str], as_json: bool) -> None:
    from vidprompt.cli.tables import print_table

    if as_json:
        print(json.dumps({name: {"refused": reason or None} for name, reason in models.items()}))
        return
    rows = [(name, reason or "taken") for name, reason in models.items()]
    taken = sum(not reason for reason in models.values())
    title = f"Models of open_clip: {taken} of {len(models)} are taken"
    print_table(title, ("model", "taken, or refused because"), rows)


def _as_json(one: Configured) -> dict[str, Any]:
    """A configured backbone with numbers where the figures have some, and null for an empty one."""
    content = asdict(one)
    for key, value in (content["figures"] or {}).items():
        number = key in ("pixels", "parameters", "gflops", "imagenet", "kinetics400") and value
        content["figures"][key] = float(value) if number else value or None
    return content


def _print_configured(backbones: list[Configured], as_json: bool) -> None:
    """A row each, with the numbers of the sources, which follow the table."""
    from vidprompt.cli.tables import print_table

    if as_json:
        print(json.dumps([_as_json(one) for one in backbones]))
        return
    sources: dict[str, int] = {}
    rows = []
    for one in backbones:
        known = one.figures
        row = [one.file, one.title]
        if known is None:
            rows.append([*row, *[""] * 7])
            continue
        used = [name for name in (known.licence_source, known.source) if name]
        numbers = sorted({sources.setdefault(name, len(sources) + 1) for name in used})
        row += [known.pixels, known.parameters, known.gflops, known.licence]
        rows.append([*row, known.imagenet, known.kinetics400, " ".join(map(str, numbers))])
    heads = ("file", "model:tag", "px", "M", "GFLOPs", "licence", "IN-1k", "K400", "source")
    print_table("Backbones (backbone=FILE)", heads, rows, "llrrrlrrl", optional="model:tag")
    print(
        "\nM: millions of parameters. GFLOPs: of a frame. IN-1k, K400: top-1 of zero-shot\n"
        "classification on ImageNet and Kinetics-400, percent. Sources of licence and figures:"
    )
    for name, number in sources.items():
        print(f"{number:>3}  {name}")


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="A file of EZ-CLIP, T2L or Vita-CLIP.")],
    out: Annotated[Path, typer.Argument(help="Folder for model.safetensors.")],
    backbone: Annotated[
        str,
        typer.Option(
            help="Its backbone: a file of params/backbone, or NAME:TAG. Default: the checkpoint's own."
        ),
    ] = "",
    classes: Annotated[
        Path | None, typer.Option(help="Class names, a line each, in the order of training.")
    ] = None,
) -> None:
    """Convert a checkpoint of a published implementation."""
    from vidprompt.published.conversion import import_to_folder

    for line in import_to_folder(file, out, backbone, classes):
        print(line)


def export_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="A model.safetensors of VidPrompt.")],
    out: Annotated[Path, typer.Argument(help="A .pt file for the published implementation.")],
    backbone: Annotated[
        str, typer.Option(help="Its backbone: a file of params/backbone, or NAME:TAG.")
    ],
) -> None:
    """Write a checkpoint for the published implementation, frozen weights included."""
    from vidprompt.published.conversion import export_file

    print(export_file(checkpoint, out, backbone))


def parity(
    golden: Annotated[Path, typer.Argument(help="A golden .json; its .npz lies beside it.")],
) -> None:
    """Compare outputs with those of a published implementation; exit 1 when they differ."""
    from vidprompt.published.parity import check_parity

    result = check_parity(golden)
    print(json.dumps(result, indent=1, sort_keys=True))
    if not result["passed"]:
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (backbones, parameters, parity, import_checkpoint, export_checkpoint):
        app.command(rich_help_panel=PANEL)(command)
