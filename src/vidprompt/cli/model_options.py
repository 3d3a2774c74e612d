"""Options that several commands have which use a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Use a model"

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A run (demo/ez_clip/supervised_split1), a checkpoint, a registered version (NAME@STAGE), one "
        "of the Hugging Face Hub (hf://OWNER/NAME) or a backbone (open_clip:NAME:TAG).",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")]
Weights = Annotated[
    Path | None, typer.Option(help="The backbone's file, where it is not found by itself.")
]
NumFrames = Annotated[
    int | None, typer.Option(min=1, help="Frames of a clip, of a bare backbone. Default: 8.")
]
