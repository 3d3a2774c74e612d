"""`vidprompt <command> key=value …`. Heavy imports happen inside the commands."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import typer

from vidprompt.cli import registry as registry_commands
from vidprompt.system.errors import TRANSIENT_EXIT, UserError, transient

logger = logging.getLogger(__name__)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Adapt a frozen CLIP to video by prompt learning. Stages take Hydra overrides: "
    "vidprompt train dataset=demo method=ez_clip trainer.lr=1e-3",
)

STAGES: dict[str, str] = {
    "manifest": "List and probe every video: one row each, with its health.",
    "validate": "Check manifest and splits with Great Expectations.",
    "splits": "Build every protocol's lists from the official annotations.",
    "frames": "Decode every video once into tar shards.",
    "backbone": "Fetch the frozen weights and record their checksum.",
    "train": "Train a method on a split's training list.",
    "features": "Encode each test video and prompt once with a checkpoint.",
    "evaluate": "Metrics of a protocol from stored features.",
    "report": "One HTML page with everything.",
}
_MESSAGE_OPTIONS = ("-v", "--verbose", "-q", "--quiet")
SHARED = ("train", "features")  # what several processes may do together


def _stage(name: str) -> Callable[[list[str]], None]:
    def command(
        overrides: list[str] = typer.Argument(None, help="key=value …", show_default=False),  # noqa: B008
    ) -> None:
        from vidprompt.config.compose import compose
        from vidprompt.pipeline.stage_costs import Clock
        from vidprompt.system.launch import launch, wanted

        clock = Clock.start()
        config = compose(overrides or [])
        if name in SHARED and (count := wanted(config.processes)) > 1:
            if code := launch(count, [name, *(overrides or [])]):
                raise typer.Exit(code)
        else:
            import_module(f"vidprompt.pipeline.stages.{name}").run(config)
        clock.record(config.dataset.name)

    command.__doc__ = STAGES[name]
    return command


for _name in STAGES:
    if _name != "splits":
        app.command(_name)(_stage(_name))


@app.command()
def splits(
    overrides: list[str] = typer.Argument(None, help="key=value …", show_default=False),  # noqa: B008
    from_list: list[str] = typer.Option(  # noqa: B008
        [], help="[PART=]FILE: a published list as it is; train, val or a test's name. Repeatable."
    ),
    split_id: str = typer.Option(
        "", "--id", help="PROTOCOL/DATASET@NAME; else supervised or zero_shot, and the file's name."
    ),
    label_map: Path = typer.Option(None, help="Class names of the lists' label ids."),  # noqa: B008
    trained_on: str = typer.Option(
        "", help="Training list of its model, without a train list; else that of zero_shot."
    ),
) -> None:
    """Build every protocol's lists from the official annotations, or one from published lists."""
    from vidprompt.config.compose import compose
    from vidprompt.pipeline.stage_costs import Clock
    from vidprompt.pipeline.stages import splits as stage

    clock = Clock.start()
    config = compose(overrides or [])
    if from_list:
        stage.take_lists(config, from_list, split_id, label_map, trained_on)
    else:
        stage.run(config)
        clock.record(config.dataset.name)


@app.command()
def doctor(
    overrides: list[str] = typer.Argument(None, help="key=value …", show_default=False),  # noqa: B008
    measure: bool = typer.Option(True, help="Decode a few videos and train a step: disk and time."),
) -> None:
    """What of a dataset is there, what is missing, disk needed, time estimated; exit 1 if not ready."""
    from rich.console import Console
    from rich.markup import escape

    from vidprompt.config.compose import compose
    from vidprompt.pipeline.doctor import State, examine

    marks = {State.OK: "[green]✓[/]", State.NOTE: "[yellow]![/]", State.MISSING: "[red]✗[/]"}
    console, ready, about = Console(highlight=False), True, ""
    for finding in examine(compose(overrides or []), measure):
        ready = ready and finding.state is not State.MISSING
        subject = finding.about if finding.about != about else ""
        line = f"{marks[finding.state]} {subject:<11} {escape(finding.sentence)}"
        console.print(line, soft_wrap=True)
        about = finding.about
    if not ready:
        raise typer.Exit(1)


@app.command()
def activate(
    names: list[str] = typer.Argument(None, help="Datasets to add.", show_default=False),  # noqa: B008
    check: bool = typer.Option(False, help="Write nothing; exit 2 when a file is out of date."),
) -> None:
    """Give datasets their stages: params/pipeline.yaml → params/stages.yaml, and code → dvc.yaml."""
    from vidprompt.pipeline import matrix

    if check:
        if stale := matrix.stale():
            raise UserError(f"{', '.join(stale)} out of date: run `vidprompt activate`")
        return
    active, stages = matrix.activate(names or [])
    for name in active:
        count = {kind: sum(k.split("-")[0] == name for k in keys) for kind, keys in stages.items()}
        tests = count["evaluate"] + count["reid"]
        print(f"{name}: {count['train']} trainings, {tests} evaluations")


@app.command()
def table(
    dataset: str = typer.Argument("demo"),
    markdown: bool = typer.Option(False, help="A Markdown table instead of a drawn one."),
    readme: bool = typer.Option(False, "--readme", help="Write it between README.md's markers."),
) -> None:
    """Metrics of every protocol and method, with the floor beside them."""
    from vidprompt.reporting.table import print_table, update_readme

    if readme:
        update_readme(dataset=dataset)
        return
    print_table(dataset, markdown=markdown)


@app.command()
def cost(
    dataset: str = typer.Argument("demo"),
    check: bool = typer.Option(False, help="Write nothing; exit 2 when cost.json is stale."),
) -> None:
    """Gather what its stages cost, as DVC ran them: results/DATASET/cost.json."""
    from vidprompt.pipeline import stage_costs as measured_cost

    if not check:
        print(measured_cost.update(dataset))
    elif stale := measured_cost.stale(dataset):
        path = measured_cost.cost_file(dataset)
        raise UserError(
            f"{path} is of other inputs than dvc.lock for {len(stale)} stages, {stale[0]} is the "
            f"first: `vidprompt cost {dataset}`"
        )


@app.command()
def compare(
    a: str = typer.Argument(help="DATASET/METHOD/PROTOCOL[@REVISION], or a results folder."),
    b: str = typer.Argument("", help="Of the same form. Default: A without its revision."),
    markdown: bool = typer.Option(False, help="Markdown for a pull request."),
    json_file: Path = typer.Option(None, "--json", help="Write everything there."),  # noqa: B008
    changed: Path = typer.Option(None, help="Write every changed video there, as CSV."),  # noqa: B008
    show: int = typer.Option(10, min=0, help="How many changed videos of each kind are shown."),
) -> None:
    """Is result B better than A? Paired on their common videos, with intervals, tests and what changed."""
    from vidprompt.comparison import table as comparison_table
    from vidprompt.comparison.comparison import compare as compared
    from vidprompt.comparison.results import find_result, without_revision

    found = compared(find_result(a), find_result(b or without_revision(a)))
    if json_file:
        comparison_table.write_comparison(found, json_file)
    if changed:
        comparison_table.write_changed(found, changed)
    if markdown:
        print(comparison_table.markdown(found, show))
    else:
        comparison_table.print_comparison(found, show)


@app.command()
def review(
    base: str = typer.Argument(
        "", help="A revision. Default: where HEAD left origin/main or main."
    ),
    out: Path = typer.Option("cache/review", help="Folder for review.md, review.html, pictures."),  # noqa: B008
    pull: bool = typer.Option(False, help="Ask DVC's remotes for predictions not in its cache."),
    pictures: bool = typer.Option(True, help="Draw what changed."),
) -> None:
    """What changed since a revision, and do the results follow from code and params? Exit 1 if not."""
    from vidprompt.review.build import build_review
    from vidprompt.review.output import write_review

    found = build_review(base, remotes=pull, draw=pictures, out=out)
    path = write_review(found, out)
    for finding in found.findings:
        print(f"{finding.subject}: {finding.sentence}")
    for unchecked in found.unchecked:
        print(f"not checked: {unchecked}")
    print(f"{path}: {found.summary}")
    if not found.passed:
        raise typer.Exit(1)


@app.command()
def multirun(
    overrides: list[str] = typer.Argument(None, help="key=value or key=1,2 …", show_default=False),  # noqa: B008
    jobs: int = typer.Option(1, "--jobs", "-j", min=1, help="How many to run at once."),
    show: bool = typer.Option(False, "--list", help="Only say what there is to do."),
    again: bool = typer.Option(False, help="Do it all again, finished or not."),
    into: Path = typer.Option(None, help="A page with marks NAME:begin, NAME:end for the table."),  # noqa: B008
) -> None:
    """Train and evaluate every combination of swept keys; one table of means over seeds."""
    from vidprompt import sweep

    if show:
        for name, steps in sweep.pending(overrides or [], again=again).items():
            print(f"{name}: {', '.join(steps) or 'done'}")
        return
    result = sweep.run(overrides or [], jobs=jobs, again=again, into=into)
    print(f"\n{result.table}\n\n{result.page}")
    if result.failed:
        raise typer.Exit(1)


@app.command()
def metrics(
    predictions: Path = typer.Argument(help="cache/predictions/DATASET/METHOD/PROTOCOL.parquet"),  # noqa: B008
    as_json: bool = typer.Option(False, "--json", help="As metrics.json has them."),
) -> None:
    """Every number of a result again, from its kept predictions alone."""
    from rich.console import Console

    from vidprompt.recompute.metrics import drawn, recomputed

    found = recomputed(predictions)
    if as_json:
        print(json.dumps(found, indent=1, sort_keys=True))
    else:
        Console().print(drawn(found))


@app.command()
def parameters(
    overrides: list[str] = typer.Argument(None, help="key=value …", show_default=False),  # noqa: B008
    classes: int = typer.Option(400, help="Classes of class-specific contexts."),
) -> None:
    """How many parameters of each part of a method are trained, and how many frozen."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from vidprompt.config.compose import compose
    from vidprompt.models.backbones.loading import load_backbone
    from vidprompt.models.factory import configured_model
    from vidprompt.pipeline.parameter_table import parameter_table

    config = compose(overrides or [])
    shape = {**vars(config.backbone), "weights": None, "pretrained": None}
    with torch.device("meta"):  # shapes alone: nothing is downloaded or filled
        names = [f"class {i}" for i in range(classes)]
        model = configured_model(config, names, load_backbone(shape))
    shown = Table("part", "trained", "frozen", title=f"{model.method} on {model.backbone.tag}")
    for column in shown.columns[1:]:
        column.justify = "right"
    for part in parameter_table(model):
        shown.add_row(part.name, f"{part.trained:,}", f"{part.frozen:,}", end_section=False)
    Console().print(shown)


@app.command("import-checkpoint")
def import_checkpoint(
    file: Path = typer.Argument(help="EZ-CLIP's, T2L's or Vita-CLIP's file."),  # noqa: B008
    out: Path = typer.Argument(help="Folder for model.safetensors."),  # noqa: B008
    backbone: str = typer.Option(
        "", help="What it was trained on: a file of params/backbone, or NAME:TAG. Default: its own."
    ),
    classes: Path = typer.Option(None, help="Class names, a line each, in the order of training."),  # noqa: B008
) -> None:
    """Take over a checkpoint of a published implementation."""
    from vidprompt.published.conversion import import_to_folder

    for line in import_to_folder(file, out, backbone, classes):
        print(line)


@app.command("export-checkpoint")
def export_checkpoint(
    checkpoint: Path = typer.Argument(help="A model.safetensors of ours."),  # noqa: B008
    out: Path = typer.Argument(help="A .pt file for the published implementation."),  # noqa: B008
    backbone: str = typer.Option(help="What it was trained on: of params/backbone, or NAME:TAG."),
) -> None:
    """Write a checkpoint as the published implementation names it, frozen weights and all."""
    from vidprompt.published.conversion import export_file

    print(export_file(checkpoint, out, backbone))


@app.command()
def parity(
    golden: Path = typer.Argument(help="A golden .json; its .npz lies beside it."),  # noqa: B008
) -> None:
    """Compare with numbers of a published implementation; exit 1 when they are not the same."""
    from vidprompt.published.parity import check

    result = check(golden)
    print(json.dumps(result, indent=1, sort_keys=True))
    if not result["passed"]:
        raise typer.Exit(1)


@app.command("check-store")
def check_store(
    remove: bool = typer.Option(False, "--remove", help="Delete what is not the demo's."),
) -> None:
    """Does the DVC remote inside git hold the demo and nothing else, within its 20 MB? Exit 2 if not."""
    from vidprompt.registry import in_git_store

    if remove:
        for name in in_git_store.remove_foreign():
            print(f"deleted {name}")
    print(in_git_store.check_store())


registry_commands.add_to(app)


@app.callback()
def _messages(
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Show debug messages, too."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Show errors only."),
) -> None:
    from vidprompt.system.logging import configure

    configure("DEBUG" if verbose else "ERROR" if quiet else "")


def _options_first(arguments: list[str]) -> list[str]:
    """-v and -q may stand behind the command's name; what is behind `--` stays as it is."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    moved = [word for word in arguments[:end] if word in _MESSAGE_OPTIONS]
    return moved + [word for word in arguments[:end] if word not in moved] + arguments[end:]


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and exit 2."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("vidprompt").propagate = False  # what other packages do to the root logger
    try:
        app(_options_first(sys.argv[1:]))
    except (UserError, OSError) as error:
        message, code = _failure(error)
        logger.debug("traceback", exc_info=True)
        if message:
            logger.error(message)
        raise SystemExit(code) from None


def _failure(error: UserError | OSError) -> tuple[str, int]:
    """The message and the exit status of an error that is no defect; raises any other again.

    Of several processes that all raise it, the first alone has a message.
    """
    if isinstance(error, UserError):
        silent = error.of_all and os.environ.get("RANK", "0") != "0"
        code = TRANSIENT_EXIT if error.exit_code == 2 and transient(error) else error.exit_code
        return "" if silent else str(error), code
    if transient(error):
        return f"{error} (it may pass: run it again)", TRANSIENT_EXIT
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        raise error
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}: make room or allow it", 2


if __name__ == "__main__":
    main()
