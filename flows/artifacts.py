"""Artifacts in the Prefect UI: data health, report, pictures, changed metrics, gates, model cards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.dvc_stage import Children
from flows.pictures import loss_curves, measure_bars
from flows.progress import artifact_key
from vidprompt.config import paths
from vidprompt.reporting.markdown import table
from vidprompt.reporting.measures import percent, points
from vidprompt.reporting.rendering import data_uri
from vidprompt.review.markdown import MARKS
from vidprompt.review.result_diff import ResultDiff
from vidprompt.system.errors import UserError

REPORTS_URL = "http://127.0.0.1:4210"  # where `make up` serves results/
SHOWN_BROKEN = 20
CANDIDATE = "candidate"


def after_kind(kind: str, dataset: str) -> None:
    """Create the artifact of a kind of stages, if there is one."""
    if kind == "validate":
        _run_optional(data_health, dataset)
    elif kind == "report":
        _run_optional(report, dataset)


def _run_optional(show: Any, *arguments: Any) -> None:
    """Run a task whose failure does not fail the flow."""
    state = show(*arguments, return_state=True)
    if not state.is_completed():
        get_run_logger().warning(f"not shown: {state.message}")


def check_base(base: str) -> None:
    """Raises UserError for a revision that git does not know; without a commit nothing is compared."""
    from vidprompt.review.sides import find_sides

    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    if shutil.which("git") and not subprocess.run(command, capture_output=True).returncode:
        find_sides(Path(), base)


@task(task_run_name="data health", cache_policy=NO_CACHE)
def data_health(dataset: str) -> None:
    """How many videos are usable, which are not and why, and which expectations failed."""
    health = json.loads(paths.health(dataset).read_text("utf-8"))
    validation = json.loads(paths.validation(dataset).read_text("utf-8"))
    create_markdown_artifact(
        "\n".join(_health_lines(dataset, health, validation)),
        key=artifact_key(f"{dataset} data health"),
        description=f"{health['usable']:,} of {health['videos']:,} videos of {dataset} are usable",
    )


def _health_lines(
    dataset: str, health: dict[str, Any], validation: dict[str, Any]
) -> Iterator[str]:
    state = "passed" if validation["success"] else "FAILED"
    yield f"# {dataset}: validation {state}"
    yield (
        f"{health['usable']:,} of {health['videos']:,} videos are usable "
        f"({percent(health['coverage'])} %); {health['unlisted']:,} more files are in no list."
    )
    yield "\n| Health | Videos | What it means |\n|---|---:|---|"
    for name, reason in sorted(health["reasons"].items(), key=lambda item: -item[1]["videos"]):
        yield f"| {name} | {reason['videos']:,} | {reason['sentence']} |"
    yield "\n| Expectation | Checked | Failed |\n|---|---:|---:|"
    for one in sorted(validation["expectations"], key=lambda one: (one["success"], one["name"])):
        mark = "✓" if one["success"] else ("✗" if one["severity"] == "error" else "!")
        yield f"| {mark} {one['name']} | {one['checked']:,} | {one['failed']:,} |"
    broken = health["broken"]
    if broken:
        yield f"\n<details><summary>The first broken videos ({len(broken):,} in all)</summary>\n"
        yield "| Video | What is wrong |\n|---|---|"
        yield from (f"| {b['video_id']} | {b['detail']} |" for b in broken[:SHOWN_BROKEN])
        yield "\n</details>"


@task(task_run_name="pictures", cache_policy=NO_CACHE)
def report(dataset: str) -> None:
    """A link to the HTML report, and pictures of the results."""
    server = os.environ.get("VIDPROMPT_REPORTS_URL", REPORTS_URL).rstrip("/")
    address = f"{server}/{dataset}/report.html"
    create_link_artifact(
        address,
        link_text=f"Report of {dataset}",
        key=artifact_key(f"{dataset} report"),
        description=f"{paths.report(dataset)}; `make up` serves it",
    )
    losses = loss_curves(dataset)
    pictures = {"Every protocol": measure_bars(dataset), "Training losses": losses}
    sections = [
        f"## {title}\n\n![{title}]({data_uri(png)})\n" for title, png in pictures.items() if png
    ]
    create_markdown_artifact(
        f"# {dataset}\n\n[The whole report]({address})\n\n" + "\n".join(sections),
        key=artifact_key(f"{dataset} pictures"),
        description=f"Results of {dataset}, drawn when they were made",
    )


@task(task_run_name="metrics against {base}", cache_policy=NO_CACHE)
def metrics(dataset: str, base: str) -> None:
    """Every result that differs from the base revision: paired verdict, difference, both values."""
    from vidprompt.provenance.dvc_project import DvcProject
    from vidprompt.review.result_diff import result_diffs
    from vidprompt.review.sides import find_sides

    log = get_run_logger()
    try:
        one, two = find_sides(Path(), base)
        with DvcProject(two, remotes=False) as project:
            diffs, _ = result_diffs(one, two, project)
    except UserError as error:  # no git, no commit, no such revision: no reason to fail a training
        log.warning(str(error))
        return
    changed = [result for result in diffs if result.result[0] == dataset]
    lines = [f"# {dataset} against {base} ({one.commit[:7]})", ""]
    rows = [row for result in changed for row in _changes(result)]
    heads = ("Result", "Verdict", "Difference", "Base → now")
    lines += table(heads, rows, "llrr") if rows else ["No result has changed."]
    notes = sorted({note for result in changed for note in result.notes})
    create_markdown_artifact(
        "\n".join([*lines, "", *(f"- {note}" for note in notes)]),
        key=artifact_key(f"{dataset} metrics"),
        description=f"{len(changed)} results of {dataset} differ from {base}",
    )


def _changes(result: ResultDiff) -> Iterator[tuple[str, ...]]:
    """Narrow rows: what the interface shows beside the details of a run."""
    name = "/".join(result.result[1:])
    for line in result.changes:
        both = " → ".join(percent(cell.value) if cell else "–" for cell in (line.base, line.head))
        spreads = " → ".join(cell.spread or "–" if cell else "–" for cell in (line.base, line.head))
        ends = f"<br>{points(line.ci95[0])} to {points(line.ci95[1])}" if line.ci95 else ""
        difference = "–" if line.difference is None else f"**{points(line.difference)}**{ends}"
        mark = MARKS.get(line.kind, line.kind.value)
        yield f"{name}<br>{line.measure}", mark, difference, f"**{both}**<br>{spreads}"


@task(task_run_name="verdict", cache_policy=NO_CACHE)
def verdict(dataset: str) -> None:
    """Check the gates of a candidate for the dataset's models as they are now."""
    from vidprompt.registry.checks import markdown
    from vidprompt.registry.gates import gate_reports

    log = get_run_logger()
    try:
        reports = gate_reports(dataset, CANDIDATE)
    except UserError as error:  # params/registry.yaml: no reason to fail a training either
        log.warning(str(error))
        return
    lines = [f"# Models of {dataset}: gates of {CANDIDATE}", ""]
    for one in reports:
        state = "passes" if one.passed else "does not pass"
        log.info(f"{one.model} {state} the gates of {CANDIDATE}")
        lines += [f"## {one.model} {state}", "", markdown(one), ""]
        if one.passed:
            command = f"vidprompt register {one.model} --stage {CANDIDATE}"
            lines += [f"After the results are committed: `{command}`", ""]
    create_markdown_artifact(
        "\n".join(lines),
        key=artifact_key(f"{dataset} verdict"),
        description=f"{sum(one.passed for one in reports)} of {len(reports)} models pass",
    )


def at_end(dataset: str, base: str) -> None:
    """Create the artifacts at the end of a run."""
    _run_optional(metrics, dataset, base)
    _run_optional(verdict, dataset)


@task(task_run_name="metrics of {model}", cache_policy=NO_CACHE)
def cross_dataset_metrics(model: str, dataset: str, folder: str) -> None:
    """The metrics of a registered model on a dataset that it was not trained on, from a results folder."""
    from vidprompt.registry.cross_dataset import HEADS, result_table

    title, rows, note = result_table(Path(folder))
    lines = [f"# {title}", "", *table(HEADS, rows, "lrr"), "", note, "", f"Folder: `{folder}`"]
    create_markdown_artifact(
        "\n".join(lines), key=artifact_key(f"{model} on {dataset}"), description=title
    )


@task(task_run_name="card of {model}", cache_policy=NO_CACHE)
def model_card(model: str, children: Children) -> None:
    """The model card of what was registered."""
    lines = children.run(["vidprompt", "card", "--", model], keep_empty=True)
    create_markdown_artifact(
        "\n".join(lines), key=artifact_key(f"card {model}"), description=f"Model card of {model}"
    )
