"""Makes all checks of a model for a stage: reproducibility, then the gates of params/registry.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vidprompt.metrics.result import Measure, summary_measures
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.git import find_commit
from vidprompt.provenance.revision import Revision
from vidprompt.registry.checks import Check, GateReport
from vidprompt.registry.declared import (
    DeclaredModel,
    ModelResult,
    declared_models,
    find_model,
    model_results,
    other_runs,
)
from vidprompt.registry.git_tags import check_tags
from vidprompt.registry.model_files import Weights, find_weights
from vidprompt.registry.policy import FILE, Gates, read_policy
from vidprompt.registry.reproducibility import (
    check_numbers,
    check_pipeline,
    check_remotes,
    check_tree,
    check_weights,
)
from vidprompt.registry.stage_comparison import comparison_checks, find_compared
from vidprompt.reporting.measures import Cell, percent
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

TOLERANCE = 1e-6  # shares in metrics.json have six decimals


def check_model(
    name: str, stage: str, revision: Revision, *, tree: bool = True, remote: bool = True
) -> GateReport:
    """Make every check, in the order in which `register` refuses.

    A commit is judged by what git and dvc.lock have of it, the workspace by what is on disk; the gates are
    those of params/registry.yaml on disk.

    Args:
        tree: check that everything is committed.
        remote: check that remotes have weights and backbone, and that origin's tags are here.

    UserError for an unknown model or stage, or a registry.yaml that cannot be used.
    """
    checks = [check_tree(revision.root)] if tree else []
    model = find_model(revision, name)
    gates = read_policy(Revision(revision.root)).gates(name, stage)
    if remote:
        checks.append(check_tags(revision.root, name))
    with DvcProject(revision) as project:
        checks += _checks(model, gates, project, remote)
    return GateReport(name, stage, revision.label, tuple(checks))


def gate_reports(
    dataset: str,
    stage: str = "candidate",
    *,
    project: Path | str = ".",
    tree: bool = False,
    remote: bool = False,
) -> list[GateReport]:
    """Check the workspace's declared models of a dataset, as `check_model` does.

    A model that cannot be checked has failed, with the reason. UserError only for an unknown stage, and where
    dvc.yaml or params/registry.yaml cannot be used.
    """
    revision = Revision(Path(project))
    read_policy(revision).check_stage(stage)
    reports = []
    for model in declared_models(revision).values():
        if model.dataset != dataset:
            continue
        try:
            reports.append(check_model(model.name, stage, revision, tree=tree, remote=remote))
        except UserError as error:
            check = Check("gates", model.name, "–", "", str(error))
            reports.append(GateReport(model.name, stage, revision.label, (check,)))
    return reports


def _checks(
    model: DeclaredModel, gates: Gates, project: DvcProject, remote: bool
) -> Iterator[Check]:
    revision = project.revision
    results = model_results(model, revision)
    yield from check_pipeline(model, results, project)
    try:
        weights = find_weights(model, project)
    except UserError as error:
        yield Check("weights", model.path, "–", "to be had", str(error))
        return
    yield from check_weights(model, results, weights)
    for one in results:
        yield check_numbers(model, one, project)
    if remote:
        yield from check_remotes(model, weights, project)
    for dataset in sorted({model.dataset, *(one.dataset for one in results)}):
        yield from _check_data(dataset, gates, revision)
    for one in results:
        yield _check_coverage(one, gates, model)
    yield from _check_minima(results, gates, model)
    yield from _check_not_worse(gates, model, weights, revision)


def _check_data(dataset: str, gates: Gates, revision: Revision) -> Iterator[Check]:
    """Validation and broken videos of a dataset."""
    if gates.validation:
        path = f"results/{dataset}/validation.json"
        success = (revision.json(path) or {}).get("success")
        value = "none" if success is None else "passed" if success else "failed"
        problem = "" if success is True else f"{path} says {value}, and it must have passed"
        yield Check("validation", dataset, value, "passed", problem)
    if gates.max_broken_share < 1:
        path = f"results/{dataset}/health.json"
        share = _broken_share(revision.json(path) or {})
        value, required = f"{percent(share)}%", f"≤ {percent(gates.max_broken_share)}%"
        problem = f"{value} of {dataset}'s videos cannot be used ({path}): {required} is allowed"
        is_right = share <= gates.max_broken_share
        yield Check("broken", dataset, value, required, "" if is_right else problem)


def _broken_share(health: Mapping[str, Any]) -> float:
    """The share of videos that cannot be used; 1 where the file does not say numbers."""
    videos, usable = health.get("videos"), health.get("usable")
    if not isinstance(videos, int) or not isinstance(usable, int) or not 0 <= usable <= videos:
        return 1.0
    return 1 - usable / videos if videos else 1.0


def _check_coverage(one: ModelResult, gates: Gates, model: DeclaredModel) -> Check:
    name, result = one.name(model), one.result
    required = f"≥ {percent(gates.coverage)}%"
    problem = ""
    if not abs(result.coverage * result.listed - result.n) <= TOLERANCE * result.listed:
        problem = f"{name}'s coverage is not its n of its listed videos: `dvc repro`"
    elif not result.coverage >= gates.coverage:
        problem = f"{name} tested {percent(result.coverage)}% of what it lists, and {required} is required"
    return Check("coverage", name, f"{percent(result.coverage)}%", required, problem)


def _check_minima(
    results: list[ModelResult], gates: Gates, model: DeclaredModel
) -> Iterator[Check]:
    """The lower end of each gated measure's interval."""
    by_name = {one.name(model): one for one in results}
    for result, minima in sorted(gates.minimum.items()):
        one = by_name.get(result)
        measures = summary_measures(one.result) if one else {}
        for measure, minimum in sorted(minima.items()):
            subject, required = f"{result} {measure}", f"lower end ≥ {percent(minimum)}"
            value = "–"
            if one is None:
                problem = f"{FILE} requires {subject}, and {model.name} has no such result: "
                problem += suggestion(result, by_name)
            elif measure not in measures:
                problem = f"{FILE} requires {subject}, and {result} has no such measure: "
                problem += suggestion(measure, sorted(measures))
            elif others := other_runs(one, measures[measure]):
                value = "of several trainings"
                problem = (
                    f"{subject} is made of other trainings, too ({', '.join(others)}), and says nothing of "
                    f"{model.name} alone: take it out of {FILE}, or gate a result of {model.run} alone"
                )
            else:
                value, problem = _compare_minimum(subject, measures[measure], minimum)
            yield Check("minimum", subject, value, required, problem)


def _compare_minimum(subject: str, measure: Measure, minimum: float) -> tuple[str, str]:
    """The measure as text, and the problem where its interval's lower end is below the minimum."""
    cell = Cell.of(measure)
    problem = ""
    if cell.low is None:
        problem = f"{subject} is {cell.text}% and has no interval whose lower end could be judged"
    elif cell.low < minimum or cell.value < minimum:
        problem = (
            f"{subject} is {cell.text}%, and its lower end must be at least {percent(minimum)}"
        )
    return cell.text, problem


def _check_not_worse(
    gates: Gates, model: DeclaredModel, weights: Weights, revision: Revision
) -> Iterator[Check]:
    """Paired tests with the model that is in the stage `not_worse_than`."""
    if not gates.not_worse_than or find_commit(revision.root, "HEAD") is None:
        return
    other = find_compared(model, gates.not_worse_than, weights, revision)
    if isinstance(other, str):
        yield Check("not_worse", gates.not_worse_than, other, "not worse")
        return
    for result, minima in sorted(gates.minimum.items()):
        yield from comparison_checks(other, result, sorted(minima), model, revision)
