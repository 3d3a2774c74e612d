"""Commands that use a model on videos: predict, and calibrate for it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from vidprompt.cli.model_options import PANEL, ModelOption

_OUTPUT, _LONG, _READING = "Output", "Long videos", "Reading videos and models"


def predict(
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO…",
            help="Files, folders, patterns, addresses (http, https, s3), a camera (/dev/video0) or stream "
            "(rtsp://…), or - for a list on stdin.",
        ),
    ],
    model: ModelOption = "",
    classes: Annotated[
        str | None,
        typer.Option(
            help="Names with commas between them, or a file of names. Default: those of the training."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes are shown of a video.")] = 5,
    unknown: Annotated[
        bool,
        typer.Option("--unknown", help="Judge whether a video shows none of the classes."),
    ] = False,
    prompts: Annotated[
        list[str] | None,
        typer.Option(help="A template with one {}, instead of the model's texts. Repeat for more."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list.", rich_help_panel=_OUTPUT)
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV.", rich_help_panel=_OUTPUT)
    ] = False,
    parquet: Annotated[
        Path | None,
        typer.Option(help="Write a Parquet file.", rich_help_panel=_OUTPUT, show_default=False),
    ] = None,
    vtt: Annotated[
        bool,
        typer.Option("--vtt", help="With --window: print WebVTT.", rich_help_panel=_OUTPUT),
    ] = False,
    srt: Annotated[
        bool, typer.Option("--srt", help="With --window: print SRT.", rich_help_panel=_OUTPUT)
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            help="With --window: write a page with the video and its time line (of several videos: a folder "
            "of pages).",
            rich_help_panel=_OUTPUT,
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write to this file instead of stdout (--vtt and --srt of several videos: a folder).",
            rich_help_panel=_OUTPUT,
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="With --csv and --out: add the videos that the file does not have.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    window: Annotated[
        float | None,
        typer.Option(
            help="Find spans by windows of so many seconds.",
            rich_help_panel=_LONG,
            show_default=False,
        ),
    ] = None,
    stride: Annotated[
        float | None,
        typer.Option(
            help="Seconds between windows. Default: half a window.",
            rich_help_panel=_LONG,
            show_default=False,
        ),
    ] = None,
    enter: Annotated[
        float | None,
        typer.Option(
            help="Probability at which a span begins. Default: half of the way from chance to 1.",
            rich_help_panel=_LONG,
            show_default=False,
        ),
    ] = None,
    leave: Annotated[
        float | None,
        typer.Option(
            help="Probability below which it ends. Default: a quarter of the way.",
            rich_help_panel=_LONG,
            show_default=False,
        ),
    ] = None,
    smoothing: Annotated[
        float | None,
        typer.Option(
            help="Seconds over which probabilities are averaged. Default: a window.",
            rich_help_panel=_LONG,
            show_default=False,
        ),
    ] = None,
    min_length: Annotated[
        float | None,
        typer.Option(
            help="Seconds of the shortest span. Default: half a window.",
            rich_help_panel=_LONG,
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1, …", rich_help_panel=_READING)
    ] = "auto",
    weights: Annotated[
        Path | None,
        typer.Option(
            help="The backbone's weights, where they are not found.",
            rich_help_panel=_READING,
            show_default=False,
        ),
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(
            help="An exported model, instead of --model.",
            rich_help_panel=_READING,
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that decode. Default: one a core, at most 4; 0: none, in this one.",
            rich_help_panel=_READING,
            show_default=False,
        ),
    ] = None,
    max_download: Annotated[
        int,
        typer.Option(min=1, help="Megabytes that an address may have.", rich_help_panel=_READING),
    ] = 4096,
    private_addresses: Annotated[
        bool,
        typer.Option(
            "--private-addresses",
            help="Follow redirects to this machine and private networks.",
            rich_help_panel=_READING,
        ),
    ] = False,
) -> None:
    """Predict the classes of videos, or find where in long videos they are."""
    from vidprompt.cli.prediction_tables import TerminalTables
    from vidprompt.prediction.command import DownloadLimits, Request, chosen_format, run
    from vidprompt.prediction.hysteresis import SpanSettings

    request = Request(
        videos=tuple(videos),
        classes=classes,
        top=top,
        unknown=unknown,
        prompts=tuple(prompts) if prompts else None,
        format=chosen_format(as_json, as_csv, parquet, vtt, srt, html),
        file=parquet or html or out,
        resume=resume,
        window=window,
        stride=stride,
        spans=SpanSettings(enter, leave, smoothing, min_length),
        workers=workers,
        download=DownloadLimits(max_download, private_addresses),
    )
    load = partial(_load, model, onnx, device, weights)
    if not run(request, load, TerminalTables(), decode_early=onnx is None):
        raise typer.Exit(1)


def _load(model: str, onnx: Path | None, device: str, weights: Path | None) -> Any:
    """The model that the options name."""
    from vidprompt.system.errors import UserError

    if bool(model) == (onnx is not None):
        raise UserError("name one model: --model MODEL, or --onnx FILE for an exported one")
    if onnx is not None:
        from vidprompt.export.onnx_model import OnnxModel

        return OnnxModel(onnx)
    from vidprompt.prediction.loading import load

    return load(model, device, weights=weights)


def calibrate(
    model: Annotated[
        str, typer.Argument(help="A run, a checkpoint or a registered version (NAME@STAGE).")
    ],
    videos: Annotated[
        Path,
        typer.Argument(
            help="A folder with a folder for each class, or a list (path, class), of videos that the model "
            "was not trained on."
        ),
    ],
    out: Annotated[Path, typer.Option(help="A file, or a folder for model.safetensors: the copy.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    weights: Annotated[
        Path | None,
        typer.Option(help="The backbone's weights, where they are not found.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode.", show_default=False)
    ] = None,
) -> None:
    """Calibrate "none of these classes" on videos, and write it into a copy of the checkpoint."""
    from vidprompt.prediction.calibration import run_calibration

    load = partial(_load, model, None, device, weights)
    for line in run_calibration(load, videos, out, workers):
        print(line)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    output = "Results go to stdout, messages to stderr. Exit 1 where a video could not be used."
    twice = "Each video serves twice: with its class among the classes, and with it left out."
    for command, epilog in ((predict, output), (calibrate, twice)):
        app.command(rich_help_panel=PANEL, epilog=epilog)(command)
