"""Commands that embed folders of videos, and search them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vidprompt.cli.model_options import PANEL, Device, NumFrames, Weights


class Runner(StrEnum):
    """Where shards are made."""

    local = "local"
    dask = "dask"
    ray = "ray"


def embed(
    folder: Annotated[Path, typer.Argument(help="Folder of the videos, at any depth.")],
    model: Annotated[str, typer.Option(help="MODEL: a version, a run, a file or a backbone.")],
    out: Annotated[Path, typer.Option(help="Folder of the index; made, or brought up to date.")],
    window: Annotated[
        float | None, typer.Option(help="Seconds: a row a window of each video, for long ones.")
    ] = None,
    stride: Annotated[
        float | None, typer.Option(help="Seconds between windows. Default: half a window.")
    ] = None,
    device: Device = "auto",
    weights: Weights = None,
    num_frames: NumFrames = None,
    processes: Annotated[
        str, typer.Option(help="Processes that encode; auto: one for each GPU.")
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Processes that decode, of each that encodes. Default: the cores."
        ),
    ] = None,
    runner: Annotated[Runner, typer.Option(help="This machine, or a cluster.")] = Runner.local,
    address: Annotated[
        str, typer.Option(help="Of the cluster; without one, it is started on this machine.")
    ] = "",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to read a video.")] = 600,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Embed a folder's videos into an index; again, only new and changed ones."""
    from vidprompt.index.command import EmbedOptions, report_lines, run_embed

    options = EmbedOptions(
        model=model,
        window=window,
        stride=stride,
        device=device,
        weights=weights,
        num_frames=num_frames,
        processes=processes,
        workers=workers,
        runner=runner.value,
        address=address or None,
        timeout_s=timeout,
    )
    report = run_embed(folder, out, options)
    if as_json:
        import json

        print(json.dumps(report.to_dict(), indent=1, ensure_ascii=False))
    else:
        for line in report_lines(report, out):
            print(line)
    if report.failed or report.left_out:
        raise typer.Exit(1)


def search(
    index: Annotated[Path, typer.Argument(help="Folder that `vidprompt embed` made.")],
    text: Annotated[
        list[str] | None, typer.Argument(help="What to search for; several say the same.")
    ] = None,
    like: Annotated[
        list[str] | None, typer.Option(help="A video: search what looks like it. Repeatable.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--not", help="A text: what not to find. Repeatable.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of hits.")] = 20,
    model: Annotated[
        str | None, typer.Option(help="The index's MODEL, where it has another name here.")
    ] = None,
    overlapping: Annotated[
        bool, typer.Option(help="Also windows that overlap a better one of the same video.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare every row, also of a large index.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Search an index for a text, or for what looks like a video."""
    import json

    from vidprompt.index.command import hit_rows
    from vidprompt.index.search import Index
    from vidprompt.system.errors import UserError

    if as_json and as_csv:
        raise UserError("--json and --csv exclude each other")
    opened = Index(index, model)
    results = opened.search(
        text or (),
        like=like or (),
        without=without or (),
        top=top,
        overlapping=overlapping,
        exact=exact,
    )
    if as_json:
        print(json.dumps(results.to_dict(), indent=1, ensure_ascii=False))
    elif as_csv:
        print(results.to_pandas().to_csv(index=False), end="")
    else:
        from vidprompt.cli.tables import print_table

        heads, rows = hit_rows(results, opened.info.window is not None)
        print_table(
            f"{results.query}: {len(opened):,} rows searched", heads, rows, "rrlrr"[: len(heads)]
        )


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    resumed = (
        "A run that was stopped is continued by the same command. Videos that fail are listed, tried again "
        "by the next run, and make the exit status 1."
    )
    for command, epilog in ((embed, resumed), (search, None)):
        app.command(rich_help_panel=PANEL, epilog=epilog)(command)
