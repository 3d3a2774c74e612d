"""Checks that a model's results are reproducible: committed, by dvc.lock, of its weights, and shared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from shlex import quote

from vidprompt.config import paths
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.dvc_remotes import Remotes, remotes_with
from vidprompt.provenance.git import changed_files, try_git
from vidprompt.provenance.lock_check import check_upstream
from vidprompt.provenance.revision import Revision
from vidprompt.recompute.results import metrics_differences
from vidprompt.registry.checks import Check
from vidprompt.registry.declared import DeclaredModel, ModelResult
from vidprompt.registry.model_files import (
    Weights,
    backbone_files,
    find_backbone,
)
from vidprompt.reporting.markdown import first_of
from vidprompt.system.errors import DataError, UserError

MOST_SHOWN = 5  # files or stages in a sentence


def check_tree(root: Path) -> Check:
    """Whether everything is committed: a version is a commit."""
    files = changed_files(root)
    if not files:
        return Check("tree", "git", "clean", "clean")
    problem = (
        f"the tree is not as committed ({first_of(files, MOST_SHOWN)}): a version is a commit, so "
        "commit or remove them first"
    )
    return Check("tree", "git", f"{len(files)} changed", "clean", problem)


def check_pipeline(
    model: DeclaredModel, results: list[ModelResult], project: DvcProject
) -> Iterator[Check]:
    """Whether all that the results follow from is as dvc.lock records it."""
    metrics = {
        paths.results(one.dataset, model.method, one.protocol) / "metrics.json" for one in results
    }
    datasets = {model.dataset, *(one.dataset for one in results)}
    validations = {paths.validation(dataset) for dataset in datasets}
    outputs = sorted(path.as_posix() for path in metrics | validations)
    try:
        report = check_upstream(project, [model.path, *outputs])
    except UserError as error:
        yield Check("pipeline", "dvc.lock", "–", "up to date", str(error))
        return
    stages, problem = report.outdated, ""
    if stages:
        problem = (
            f"{model.name}'s results are not of this code and these parameters: out of date are "
            f"{first_of(stages, MOST_SHOWN, '; ')}; run `dvc repro` and commit what it changes"
        )
    value = f"{len(stages)} stages out of date" if stages else "up to date"
    yield Check("pipeline", "dvc.lock", value, "up to date", problem)
    if report.unlinked:
        value = f"{report.unlinked} of {report.links} not followed"
        yield Check("links", "dvc.lock", value, "all", was_done=False)
    else:
        yield Check("links", "dvc.lock", f"{report.links} followed", "all")


def check_weights(
    model: DeclaredModel, results: list[ModelResult], weights: Weights
) -> Iterator[Check]:
    """Whether every result is of these weights."""
    if not results:
        problem = (
            f"no metrics.json in results/ says that it is of {model.path}: is a protocol evaluated with "
            f"{model.run}? `dvc repro`"
        )
        yield Check("weights", model.path, "no results", "results", problem)
    for one in results:
        problem = (
            f"results/{one.dataset}/{model.method}/{one.protocol}/metrics.json is of other weights "
            f"({one.digest}) than {model.path} ({weights.digest}): `dvc repro` or `dvc checkout`"
        )
        is_same = one.digest == weights.digest
        name = one.name(model)
        yield Check("weights", name, one.digest, weights.digest, "" if is_same else problem)


def check_numbers(model: DeclaredModel, one: ModelResult, project: DvcProject) -> Check:
    """Whether a result's numbers follow from the predictions that dvc.lock names.

    Not done where no store has these.
    """
    kind, name, equal = "recomputed", one.name(model), "equal"
    metrics = (paths.results(one.dataset, model.method, one.protocol) / "metrics.json").as_posix()
    path = paths.predictions(one.dataset, model.method, one.protocol).as_posix()
    md5 = project.tracked_md5(path)
    if md5 is None:
        problem = (
            f"dvc.lock of {project.revision.label} names no {path}, so nobody can compute {metrics} again: "
            "a stage of dvc.yaml has to write them; `dvc repro`"
        )
        return Check(kind, name, "no predictions", equal, problem)
    file = project.find(md5, path)
    if file is None:
        return Check(kind, name, "not recomputed", equal, was_done=False)
    try:
        differences = "; ".join(metrics_differences(file, one.result))
    except (DataError, TypeError, AttributeError, KeyError) as error:
        differences = f"they cannot be compared ({error!r})"
    if not differences:
        return Check(kind, name, equal, equal)
    problem = (
        f"{metrics} does not follow from its predictions: {differences}; `dvc repro`, and commit what it "
        "changes"
    )
    return Check(kind, name, "differs", equal, problem)


def check_remotes(model: DeclaredModel, weights: Weights, project: DvcProject) -> Iterator[Check]:
    """Whether others can get what `load` needs: the weights, and the backbone's own files."""
    revision = project.revision
    commit = revision.commit or "HEAD"
    files = backbone_files(find_backbone(model, project), project)
    inside = [path for path in files if not PurePosixPath(path).is_absolute()]
    tracked = {path: md5s for path in inside if (md5s := project.tracked_objects(path))}
    found, names = remotes_with(project, {model.path: (weights.md5,), **tracked})
    for path in (model.path, *files):
        if path in found:
            what = "the weights" if path == model.path else "the backbone's"
            yield _check_remote(path, found[path], names, what, revision)
        elif path not in inside:
            problem = (
                f"the backbone's {path} is a file of this machine, so nobody else could load "
                f"{model.name}: `dvc add` it in the repository, and name that in params/backbone"
            )
            yield Check("remote", path, "only on this machine", "in a remote", problem)
        elif try_git(revision.root, "cat-file", "-e", f"{commit}:./{path}") is not None:
            yield Check("remote", path, "git", "in a remote")
        else:
            problem = f"the backbone's {path} of {revision.label} is kept neither by DVC nor by git"
            yield Check("remote", path, "nowhere", "in a remote", f"{problem}: `dvc add` it")


def _check_remote(
    path: str, remotes: Remotes, names: Sequence[str], what: str, revision: Revision
) -> Check:
    if remotes.complete:
        return Check("remote", path, ", ".join(remotes.complete), "in a remote")
    push = f"`dvc push -r {names[0] if names else 'REMOTE'} {quote(path)}`"
    if revision.commit:
        push += f" with {revision.label} checked out"
    if not names:
        push = f"`dvc remote add REMOTE URL`, then {push}"
    problems = [*remotes.failed, *(f"{name}: damaged there, delete it" for name in remotes.damaged)]
    problems += [
        f"{name}: only on this machine, it is not in .dvc/config" for name in remotes.local
    ]
    shown = "; ".join(problems) or ", ".join(names)
    searched = f" ({shown})" if shown else ""
    problem = (
        f"no remote that .dvc/config names{searched} has {what} {path} of {revision.label}, so nobody else "
        f"could load them: {push}, and commit it if the remote is a folder of this repository"
    )
    value = "only on this machine" if remotes.local else "damaged" if remotes.damaged else "nowhere"
    return Check("remote", path, value, "in a remote", problem)
