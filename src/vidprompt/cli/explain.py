"""The command `explain`: which frames of a video, and which places, an answer follows from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidprompt.cli.model_options import PANEL, ModelOption, Weights


def explain(
    video: Annotated[
        str,
        typer.Argument(help="A video file, a folder of images, or an address (http, https, s3)."),
    ],
    model: ModelOption,
    text: Annotated[
        list[str] | None,
        typer.Option(
            help="A sentence, or a class of the model; repeat it to compare texts. Default: what the "
            "video's feature follows from."
        ),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            help="FILE.png, .gif, .mp4, .html or .json; may be repeated. Default: VIDEO-explanation.png, "
            ".mp4 and .html in this folder."
        ),
    ] = None,
    window: Annotated[
        str,
        typer.Option(
            help="Of a long video: seconds of the part that the (first) text fits best; all: the whole "
            "video; auto: 2 where it is longer than 30 s."
        ),
    ] = "auto",
    weights: Weights = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Draw which frames of a video, and which places in them, a similarity follows from."""
    from vidprompt.prediction.explanation import check_suffix

    files = [check_suffix(one) for one in out or _default_files(video)]
    seconds = _window(window)
    from vidprompt.cli.tables import print_table
    from vidprompt.prediction.explaining import explain_video, single_video
    from vidprompt.prediction.loading import load

    loaded = load(model, device, weights=weights)
    texts = [*text] if text else [None]
    with single_video(video) as path:
        explained = explain_video(loaded, path, texts, seconds, name=video)
    rows = [
        (f"{int(number)}", f"{float(time):.2f}", *(f"{float(one):.1%}" for one in shares))
        for number, time, *shares in zip(
            explained[0].numbers,
            explained[0].times,
            *(one.temporal for one in explained),
            strict=True,
        )
    ]
    drawing = explained.drawing()
    for maps in drawing.maps:
        print(f"{maps.title}: {maps.detail}")
    heads = ("frame", "second", *(one.text or "share" for one in explained))
    print_table(f"{drawing.title}: {drawing.detail}", heads, rows, "r" * len(heads))
    for file in files:
        print(explained.save(file))


def _default_files(video: str) -> list[Path]:
    stem = Path(video).stem or "video"
    return [Path(f"{stem}-explanation{suffix}") for suffix in (".png", ".mp4", ".html")]


def _window(text: str) -> float | str | None:
    """The value of --window. Raises UserError."""
    from vidprompt.system.errors import UserError

    if text == "auto":
        return text
    if text == "all":
        return None
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--window {text}: seconds, all, or auto") from None


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel=PANEL)(explain)
