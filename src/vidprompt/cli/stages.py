"""Commands that run one stage of the pipeline each."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Annotated

import typer

from vidprompt.cli.overrides import Overrides, with_paths

PANEL = "Stages, in the pipeline's order"
STAGES: dict[str, str] = {
    "unpack": "Unpack a dataset that is kept as tar files, for the other stages to read.",
    "manifest": "List and probe every video: one row each, with its health.",
    "splits": "Write the lists of every protocol, or one from published lists.",
    "validate": "Check manifest and splits with Great Expectations.",
    "frames": "Decode every video once into tar shards.",
    "backbone": "Fetch the frozen weights and record their checksum.",
    "train": "Train a method on the training list of a split.",
    "features": "Encode each test video and prompt once with a checkpoint.",
    "evaluate": "Compute a protocol's metrics from stored features.",
    "report": "Write the HTML page of a dataset.",
}
DISTRIBUTED = ("train", "features")  # stages that `processes: N` runs in several processes


def _stage(name: str) -> Callable[..., None]:
    def command(overrides: Overrides = None) -> None:
        from vidprompt.config.compose import compose
        from vidprompt.pipeline.stage_costs import StageTimer
        from vidprompt.pipeline.stage_lock import stage_lock
        from vidprompt.system.launch import launch, process_count

        timer = StageTimer.start()
        config = compose(overrides or [])
        if name in DISTRIBUTED and (count := process_count(config.processes)) > 1:
            if code := launch(count, [name, *(overrides or [])]):
                raise typer.Exit(code)
        else:
            with stage_lock(name, config):
                import_module(f"vidprompt.pipeline.stages.{name}").run(config)
        timer.record(config.dataset.name)

    return command


def splits(
    overrides: Overrides = None,
    from_list: Annotated[
        list[str] | None,
        typer.Option(
            help="[PART=]FILE: a published list; PART is train, val or a test's name. Repeatable."
        ),
    ] = None,
    split_id: Annotated[
        str,
        typer.Option(
            "--id",
            help="PROTOCOL/DATASET@NAME. Default: supervised or zero_shot, and the file's name.",
        ),
    ] = "",
    label_map: Annotated[
        list[str] | None,
        typer.Option(
            help="[PART=]FILE: class names of the lists' label ids, of all lists or of one. Repeatable."
        ),
    ] = None,
    trained_on: Annotated[
        str,
        typer.Option(
            help="Training list of the tested model, without a train list. Default: zero_shot's."
        ),
    ] = "",
) -> None:
    from vidprompt.config.compose import compose
    from vidprompt.data.splits.published_lists import label_maps
    from vidprompt.pipeline.stage_costs import StageTimer
    from vidprompt.pipeline.stage_lock import stage_lock
    from vidprompt.pipeline.stages import splits as stage

    timer = StageTimer.start()
    config = compose(overrides or [])
    with stage_lock("splits", config):
        if from_list:
            stage.take_lists(config, from_list, split_id, label_maps(label_map or ()), trained_on)
        else:
            stage.run(config)
            timer.record(config.dataset.name)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for name, text in STAGES.items():
        function = splits if name == "splits" else _stage(name)
        app.command(name, help=text, rich_help_panel=PANEL)(with_paths(function))
