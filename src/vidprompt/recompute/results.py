"""Recomputes all results of a revision from their predictions and lists, and reports what differs.

A number that was edited is noticed even where dvc.lock was edited with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidprompt.config import paths
from vidprompt.metrics.predictions import read_predictions
from vidprompt.metrics.result import ProtocolResult
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.lock_report import Finding
from vidprompt.recompute.differences import summarize, tree_differences
from vidprompt.recompute.lists import health_differences, list_differences, read_lists
from vidprompt.recompute.metrics import recompute_metrics
from vidprompt.recompute.tables import is_same_table, recompute_tables
from vidprompt.system.errors import DataError, UserError


@dataclass(frozen=True)
class RecomputeReport:
    """Findings in results, tables and lists, and what was not compared.

    `done` results were recomputed; of `without` no store has the predictions. `unlisted`: datasets whose
    manifest or split files no store has.
    """

    findings: tuple[Finding, ...]
    done: int
    without: int
    unlisted: tuple[str, ...] = ()


def recompute_results(project: DvcProject) -> RecomputeReport:
    """Recompute every metrics.json with its tables, and the lists and the health of each dataset."""
    revision = project.revision
    findings, done, without = [], 0, 0
    lists = {dataset: read_lists(project, dataset) for dataset in revision.datasets}
    for dataset, known in lists.items():
        findings += [Finding(*found) for found in health_differences(project, dataset, known)]
    for result, metrics in revision.results.items():
        folder, path = paths.results(*result), paths.predictions(*result).as_posix()
        sentences = list_differences(metrics, result, lists[result[0]].splits)
        predictions = project.find(revision.output_md5s.get(path, ""), path)
        if predictions is None:
            without += 1
        else:
            done += 1
            sentences += metrics_differences(predictions, metrics)
            findings += _table_findings(project, predictions, folder)
        findings += [Finding((folder / "metrics.json").as_posix(), one) for one in sentences]
    unlisted = [name for name, one in lists.items() if one.manifest is None or one.splits is None]
    return RecomputeReport(tuple(findings), done, without, tuple(sorted(unlisted)))


def metrics_differences(predictions: Path, result: ProtocolResult) -> list[str]:
    """Sentences for the numbers of a metrics.json that do not follow from its predictions."""
    others = [
        name
        for kind, _, name in (p.partition("/") for p in result.plugins or {})
        if kind == "metrics"
    ]
    try:
        wanted = recompute_metrics(predictions, others)
    except DataError:
        return ["its predictions, as dvc.lock names them, cannot be read: `dvc repro`"]
    except UserError as error:  # a plug-in that is not installed here
        return [f"its numbers cannot be computed again: {error}"]
    content = result.to_json()
    recorded = {"summary": content["summary"]}
    if "tests" in wanted:
        recorded["tests"] = {name: split["tests"] for name, split in content["splits"].items()}
    return summarize([*tree_differences(wanted, recorded)], "the predictions say otherwise")


def _table_findings(project: DvcProject, file: Path, folder: Path) -> list[Finding]:
    """CSV tables that are not those of the predictions; a table that is absent dvc.lock's check reports."""
    try:
        tables = recompute_tables(read_predictions(file))
    except DataError:
        return []  # reported with metrics.json
    problem = "it is not the table that follows from the predictions: `dvc repro`"
    findings = []
    for name, table in tables.items():
        path = (folder / name).as_posix()
        content = project.revision.read(path)
        if content is not None and not is_same_table(table, content):
            findings.append(Finding(path, problem))
    return findings
