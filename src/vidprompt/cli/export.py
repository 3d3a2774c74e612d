"""The command `vidprompt export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidprompt.cli.model_options import PANEL


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="A run (demo/ez_clip/supervised_split1), a registered version (NAME@STAGE), a checkpoint "
            "file, or open_clip:NAME:TAG."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Argument(help="A file or a folder. Default: a file here, named after the model."),
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write ONNX (.onnx).")] = False,
    torch_export: Annotated[
        bool, typer.Option("--torch-export", help="Write a program of torch.export (.pt2).")
    ] = False,
    classes: Annotated[
        str, typer.Option(help="Names with commas, or a file. Default: those of the training.")
    ] = "",
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="A template for class names with one {}; may be given several times."),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Compute in float16: half the size, less exact.")
    ] = False,
    input_type: Annotated[
        str, typer.Option("--input", help="The pixels' type: float32 or uint8, both in [0, 255].")
    ] = "float32",
    opset: Annotated[int, typer.Option(help="The ONNX operator set, 18 to 23.")] = 18,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames of a clip, for a bare backbone (default 8).")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The backbone's file, where it is not found by itself.")
    ] = None,
) -> None:
    """Write a model for other programs: pixels to features and probabilities of given classes."""
    from vidprompt.export.exporting import export_model, output_paths
    from vidprompt.prediction.classes import parse_classes
    from vidprompt.prediction.loading import load

    paths = output_paths(model, out, onnx=onnx, torch_export=torch_export)
    names = parse_classes(classes) if classes else None
    loaded = load(model, "cpu", weights=weights, num_frames=frames)
    for file in export_model(
        loaded, paths, names, prompts=prompt, half=half, input_type=input_type, opset=opset
    ):
        print(file.describe())


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel=PANEL)(export)
