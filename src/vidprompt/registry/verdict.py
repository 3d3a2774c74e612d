"""Whether a model may have a stage: every check that `vidprompt register` makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vidprompt.metrics.result import Measure, summary_measures
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.dvc_remotes import Remotes
from vidprompt.provenance.revision import Revision, changed_files, try_git
from vidprompt.registry.checks import Check, Verdict
from vidprompt.registry.declared import (
    Declared,
    Judged,
    find_model,
    others_runs,
    results_of,
)
from vidprompt.registry.git_tags import check_tags
from vidprompt.registry.policy import FILE, Gates, read_policy
from vidprompt.registry.recompute import recount
from vidprompt.registry.weights import Weights, find_weights
from vidprompt.reporting.measures import Cell, percent
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

FIRST_FILES = 5
ROUNDED = 1e-6  # of shares in metrics.json, and a little


def judge(
    name: str,
    stage: str,
    revision: Revision,
    *,
    tree: bool = True,
    remote: bool = True,
) -> Verdict:
    """Make every check, in the order in which `register` refuses.

    Of a commit, what is judged is what git and dvc.lock have of it; of the workspace, what is on disk.
    The gates are those of params/registry.yaml as it lies on disk. `tree`, `remote`: look whether the
    tree is clean, and for the weights and the backbone in the remotes and for tags at origin. Raises
    UserError for an unknown model or stage, or a registry.yaml that cannot be used.
    """
    checks = [check_tree(revision.root)] if tree else []
    model, policy = find_model(revision, name), read_policy(Revision(revision.root))
    gates = policy.gates(name, stage)
    if remote:
        checks.append(check_tags(revision.root, name))
    with DvcProject(revision) as dvc:
        checks += _checks(model, gates, dvc, remote)
    return Verdict(name, stage, revision.shown, tuple(checks))


def verdicts(
    dataset: str,
    stage: str = "candidate",
    *,
    project: Path | str = ".",
    tree: bool = False,
    remote: bool = False,
) -> list[Verdict]:
    """Of every declared model of a dataset, would it pass? What cannot be judged fails with the reason.

    The workspace is judged, as a run has left it. Raises UserError only where dvc.yaml or
    params/registry.yaml cannot be read, or there is no such stage.
    """
    from vidprompt.registry.declared import declared_models

    revision = Revision(Path(project))
    read_policy(revision).check_stage(stage)
    found = []
    for model in declared_models(revision).values():
        if model.dataset != dataset:
            continue
        try:
            found.append(judge(model.name, stage, revision, tree=tree, remote=remote))
        except UserError as error:
            check = Check("gates", model.name, "–", "", str(error))
            found.append(Verdict(model.name, stage, revision.shown, (check,)))
    return found


def _checks(model: Declared, gates: Gates, project: DvcProject, remote: bool) -> Iterator[Check]:
    revision = project.revision
    judged = results_of(model, revision)
    yield from _pipeline(model, judged, project)
    try:
        weights = find_weights(model, project)
    except UserError as error:
        yield Check("weights", model.path, "–", "to be had", str(error))
        return
    yield from _weights(judged, weights, model)
    for one in judged:
        yield recount(one, model, project)
    if remote:
        yield from _remote(model, weights, project)
    datasets = sorted({model.dataset, *(one.dataset for one in judged)})
    for dataset in datasets:
        yield from _data(dataset, gates, revision)
    for one in judged:
        yield _coverage(one, gates, model)
    yield from _minima(judged, gates, model)
    yield from _not_worse(gates, model, weights, revision)


def check_tree(root: Path) -> Check:
    """Is everything committed? A version is a commit."""
    files = changed_files(root)
    if not files:
        return Check("tree", "git", "clean", "clean")
    more = f" and {len(files) - FIRST_FILES} more" if len(files) > FIRST_FILES else ""
    problem = (
        f"the tree is not as committed ({', '.join(files[:FIRST_FILES])}{more}): a version is a commit, "
        "so commit or remove them first"
    )
    return Check("tree", "git", f"{len(files)} changed", "clean", problem)


def _pipeline(model: Declared, judged: list[Judged], project: DvcProject) -> Iterator[Check]:
    """Is all that the results follow from as dvc.lock has it, and of one piece?"""
    from vidprompt.config import paths
    from vidprompt.provenance.lock_check import check_upstream

    results = {paths.results(j.dataset, model.method, j.protocol) / "metrics.json" for j in judged}
    validations = {paths.validation(dataset) for dataset in {model.dataset, *_datasets(judged)}}
    outputs = sorted(path.as_posix() for path in {*results, *validations})
    try:
        found = check_upstream(project, [model.path, *outputs])
    except UserError as error:
        yield Check("pipeline", "dvc.lock", "–", "up to date", str(error))
        return
    stages, problem = found.outdated, ""
    if stages:
        more = f" and {len(stages) - FIRST_FILES} more" if len(stages) > FIRST_FILES else ""
        problem = (
            f"{model.name}'s results are not of this code and these parameters: out of date are "
            f"{'; '.join(stages[:FIRST_FILES])}{more}; run `dvc repro` and commit what it changes"
        )
    said = f"{len(stages)} stages out of date" if stages else "up to date"
    yield Check("pipeline", "dvc.lock", said, "up to date", problem)
    if found.unlinked:
        said = f"{found.unlinked} of {found.links} not followed"
        yield Check("links", "dvc.lock", said, "all", done=False)
    else:
        yield Check("links", "dvc.lock", f"{found.links} followed", "all")


def _datasets(judged: list[Judged]) -> set[str]:
    return {one.dataset for one in judged}


def _weights(judged: list[Judged], weights: Weights, model: Declared) -> Iterator[Check]:
    """Every result is of these weights."""
    if not judged:
        problem = (
            f"no metrics.json in results/ says that it is of {model.path}: is a protocol evaluated with "
            f"{model.run}? `dvc repro`"
        )
        yield Check("weights", model.path, "no results", "results", problem)
    for one in judged:
        about = one.shown(model.dataset)
        if one.digest == weights.digest:
            yield Check("weights", about, weights.digest, weights.digest)
            continue
        problem = (
            f"results/{one.dataset}/{model.method}/{one.protocol}/metrics.json is of other weights "
            f"({one.digest}) than {model.path} ({weights.digest}): `dvc repro` or `dvc checkout`"
        )
        yield Check("weights", about, one.digest, weights.digest, problem)


def _remote(model: Declared, weights: Weights, project: DvcProject) -> Iterator[Check]:
    """Can others get what `load` needs: the weights, and the backbone's files that are no download?"""
    from vidprompt.provenance.dvc_remotes import remotes_with
    from vidprompt.registry.fetching import FILES, backbone_of

    revision = project.revision
    spec = backbone_of(model, revision)
    files = sorted(str(spec[key]) for key in FILES if spec.get(key))
    inside = [path for path in files if not PurePosixPath(path).is_absolute()]
    wanted = {path: project.tracked_objects(path) for path in inside}
    wanted = {model.path: (weights.md5,), **{path: md5s for path, md5s in wanted.items() if md5s}}
    found, names = remotes_with(project, wanted)
    for path in (model.path, *files):
        if path in found:
            what = "the weights" if path == model.path else "the backbone's"
            yield _shared(path, found[path], names, what, revision)
        elif path not in inside:
            problem = (
                f"the backbone's {path} is a file of this machine, so nobody else could load "
                f"{model.name}: `dvc add` it in the repository, and name that in params/backbone"
            )
            yield Check("remote", path, "only on this machine", "in a remote", problem)
        elif _in_git(path, revision):
            yield Check("remote", path, "git", "in a remote")
        else:
            problem = f"the backbone's {path} of {revision.shown} is kept neither by DVC nor by git"
            yield Check("remote", path, "nowhere", "in a remote", f"{problem}: `dvc add` it")


def _in_git(path: str, revision: Revision) -> bool:
    at = f"{revision.commit or 'HEAD'}:./{path}"
    return try_git(revision.root, "cat-file", "-e", at) is not None


def _shared(
    path: str, found: Remotes, names: Sequence[str], what: str, revision: Revision
) -> Check:
    if found.there:
        return Check("remote", path, ", ".join(found.there), "in a remote")
    how = f"`dvc push -r {names[0] if names else 'REMOTE'} {path}`"
    if revision.commit:
        how += f" with {revision.shown} checked out"
    if not names:
        how = f"`dvc remote add REMOTE URL`, then {how}"
    seen = [*found.failed, *(f"{name}: damaged there, delete it" for name in found.damaged)]
    seen += [f"{name}: only on this machine, it is not in .dvc/config" for name in found.own]
    asked = f" ({'; '.join(seen)})" if seen else f" ({', '.join(names)})" if names else ""
    problem = (
        f"no remote that .dvc/config names{asked} has {what} {path} of {revision.shown}, so nobody else "
        f"could load them: {how}, and commit it if the remote is a folder of this repository"
    )
    said = "only on this machine" if found.own else "damaged" if found.damaged else "nowhere"
    return Check("remote", path, said, "in a remote", problem)


def _data(dataset: str, gates: Gates, revision: Revision) -> Iterator[Check]:
    """Validation and broken videos of a dataset."""
    if gates.validation:
        path = f"results/{dataset}/validation.json"
        success = (revision.json(path) or {}).get("success")
        said = (
            {True: "passed", False: "failed"}.get(bool(success), "")
            if success is not None
            else "none"
        )
        problem = "" if success is True else f"{path} says {said}, and it must have passed"
        yield Check("validation", dataset, said, "passed", problem)
    if gates.max_broken_share < 1:
        path = f"results/{dataset}/health.json"
        health = revision.json(path) or {}
        share = _broken(health)
        wanted = f"≤ {percent(gates.max_broken_share)}%"
        problem = (
            f"{percent(share)}% of {dataset}'s videos cannot be used ({path}): {wanted} is allowed"
        )
        yield Check(
            "broken",
            dataset,
            f"{percent(share)}%",
            wanted,
            "" if share <= gates.max_broken_share else problem,
        )


def _broken(health: Mapping[str, Any]) -> float:
    """The share of videos that cannot be used; all where the file does not say numbers."""
    videos, usable = health.get("videos"), health.get("usable")
    if not isinstance(videos, int) or not isinstance(usable, int) or not 0 <= usable <= videos:
        return 1.0
    return 1 - usable / videos if videos else 1.0


def _coverage(one: Judged, gates: Gates, model: Declared) -> Check:
    about, share = one.shown(model.dataset), one.result.coverage
    wanted = f"≥ {percent(gates.coverage)}%"
    problem = ""
    if not abs(share * one.result.listed - one.result.n) <= ROUNDED * one.result.listed:
        problem = f"{about}'s coverage is not its n of its listed videos: `dvc repro`"
    elif not share >= gates.coverage:
        problem = f"{about} tested {percent(share)}% of what it lists, and {wanted} is asked for"
    return Check("coverage", about, f"{percent(share)}%", wanted, problem)


def _minima(judged: list[Judged], gates: Gates, model: Declared) -> Iterator[Check]:
    """The lower end of each gated measure's interval."""
    by_name = {one.shown(model.dataset): one for one in judged}
    for result, minima in sorted(gates.minimum.items()):
        one = by_name.get(result)
        there = summary_measures(one.result) if one else {}
        for measure, minimum in sorted(minima.items()):
            about, wanted = f"{result} {measure}", f"lower end ≥ {percent(minimum)}"
            if one is None:
                problem = f"{FILE} asks for {about}, and {model.name} has no such result: "
                problem += suggestion(result, by_name)
                yield Check("minimum", about, "–", wanted, problem)
            elif measure not in there:
                problem = f"{FILE} asks for {about}, and {result} has no such measure: "
                problem += suggestion(measure, sorted(there))
                yield Check("minimum", about, "–", wanted, problem)
            elif others := others_runs(one, there[measure]):
                problem = (
                    f"{about} is made of other trainings, too ({', '.join(others)}), and says nothing of "
                    f"{model.name} alone: take it out of {FILE}, or gate a result of {model.run} alone"
                )
                yield Check("minimum", about, "of several trainings", wanted, problem)
            else:
                yield _minimum(about, there[measure], minimum, wanted)


def _minimum(about: str, found: Measure, minimum: float, wanted: str) -> Check:
    cell = Cell.of(found)
    if cell.low is None:
        problem = f"{about} is {cell.text}% and has no interval whose lower end could be judged"
    elif cell.low < minimum or cell.value < minimum:
        problem = f"{about} is {cell.text}%, and its lower end must be at least {percent(minimum)}"
    else:
        problem = ""
    return Check("minimum", about, cell.text, wanted, problem)


def _not_worse(
    gates: Gates, model: Declared, weights: Weights, revision: Revision
) -> Iterator[Check]:
    """Against the model that is in the stage `not_worse_than`, by the paired tests."""
    from vidprompt.registry.stage_comparison import against, compared_with

    if not gates.not_worse_than or try_git(revision.root, "rev-parse", "HEAD") is None:
        return
    other = compared_with(model, gates.not_worse_than, weights, revision)
    if isinstance(other, str):
        yield Check("not_worse", gates.not_worse_than, other, "not worse")
        return
    for result, minima in sorted(gates.minimum.items()):
        yield from against(other, result, sorted(minima), model, revision)
