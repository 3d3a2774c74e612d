"""Commands about models and their checkpoints, published ones among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidprompt.cli.overrides import Overrides, with_paths

if TYPE_CHECKING:
    from vidprompt.reproduce.backbones.catalogue import Figures

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
) -> None:
    """List the backbones of params/backbone: size, cost of a frame, licence and published figures."""
    from vidprompt.cli.tables import print_table
    from vidprompt.reproduce.backbones.catalogue import configured, registered

    if every:
        rows = [(name, reason or "taken") for name, reason in registered().items()]
        print_table("Models of open_clip", ("model", "taken, or refused because"), rows)
        return
    print_table(
        "Backbones (backbone=FILE)",
        ("file", "model:tag", "pixels", "M parameters", "GFLOPs a frame", "licence", "ImageNet %",
         "Kinetics-400 %", "source of the figures"),
        [
            (one.file, f"{one.model}:{one.tag}", *_figures(one.figures))
            for one in configured(Path("params/backbone"))
        ],
        "llrrrlrrl",
    )  # fmt: skip


def _figures(known: Figures | None) -> tuple[str, ...]:
    """The columns of what is known of weights."""
    return tuple(vars(known).values())[2:] if known else ("",) * 7


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
