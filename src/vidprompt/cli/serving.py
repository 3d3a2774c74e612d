"""Commands that serve a model to programs and to people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidprompt.cli.model_options import PANEL, Device, NumFrames, Weights

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A checkpoint, a run (DATASET/METHOD/RUN), a version (NAME@STAGE) or open_clip:NAME:TAG.",
    ),
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")]
Host = Annotated[
    str, typer.Option(help="Address to listen at; others than this machine's need a token.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="File with a token that requests must send (Authorization: Bearer TOKEN)."),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Listen for other machines without a token.")
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(help="Another name that requests may be for, as behind a proxy; may be repeated."),
]
IndexFolder = Annotated[
    Path | None, typer.Option("--index", help="Index to search, made by `vidprompt embed`.")
]
UploadMB = Annotated[float | None, typer.Option(help="Largest upload, in MB.")]
Seconds = Annotated[float | None, typer.Option(help="Longest video, in seconds.")]
Pixels = Annotated[int | None, typer.Option(help="Largest picture: width × height.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds that a request may take.")]
Requests = Annotated[int | None, typer.Option(help="Requests at once; the next ones get 429.")]
Decoders = Annotated[int | None, typer.Option(help="Processes that decode.")]
Batch = Annotated[int | None, typer.Option(help="Videos that are encoded together.")]


def serve(
    model: ModelName,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    token_file: TokenFile = None,
    insecure: Insecure = False,
    allow_host: AllowHost = None,
    index: IndexFolder = None,
    device: Device = "auto",
    weights: Weights = None,
    num_frames: NumFrames = None,
    max_upload_mb: UploadMB = None,
    max_seconds: Seconds = None,
    max_pixels: Pixels = None,
    timeout: Timeout = None,
    max_requests: Requests = None,
    decoders: Decoders = None,
    batch: Batch = None,
) -> None:
    """Serve a model over HTTP: /predict, /segments, /embed, /search, /explain (docs/serve.md)."""
    from vidprompt.serving.limits import ServiceLimits

    limits = {
        "upload_mb": max_upload_mb,
        "seconds": max_seconds,
        "pixels": max_pixels,
        "timeout_s": timeout,
        "requests": max_requests,
        "decoders": decoders,
        "batch": batch,
    }
    _start(
        model,
        ServiceLimits().changed(limits),
        host=host,
        port=port,
        token_file=token_file,
        insecure=insecure,
        allow_hosts=allow_host or (),
        index=index,
        device=device,
        weights=weights,
        num_frames=num_frames,
    )


def app(
    model: ModelName,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    token_file: TokenFile = None,
    insecure: Insecure = False,
    allow_host: AllowHost = None,
    index: IndexFolder = None,
    device: Device = "auto",
    weights: Weights = None,
    num_frames: NumFrames = None,
    max_upload_mb: UploadMB = None,
    max_seconds: Seconds = None,
    timeout: Timeout = None,
) -> None:
    """Serve a page for people: drop a video, write classes, see what the model sees (docs/serve.md)."""
    from vidprompt.serving.limits import ServiceLimits

    limits = {"upload_mb": max_upload_mb, "seconds": max_seconds, "timeout_s": timeout}
    _start(
        model,
        ServiceLimits.of_one_person().changed(limits),
        host=host,
        port=port,
        token_file=token_file,
        insecure=insecure,
        allow_hosts=allow_host or (),
        index=index,
        device=device,
        weights=weights,
        num_frames=num_frames,
        page=True,
    )


def _start(model: str, limits: Any, **options: Any) -> None:
    """`serving.server.serve`, with a sentence where its packages are not installed."""
    from vidprompt.system.errors import UserError

    try:
        from vidprompt.serving.server import serve as run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in (
            "uvicorn",
            "python_multipart",
            "prometheus_client",
        ):
            raise
        raise UserError(f"{error.name} is not installed: pip install 'vidprompt[serve]'") from error
    run(model, limits, **options)


def add_to(application: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (serve, app):
        application.command(rich_help_panel=PANEL)(command)
