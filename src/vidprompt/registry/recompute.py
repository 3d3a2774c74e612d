"""A result again from its predictions: metrics.json is a file in git that a hand can write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidprompt.config import paths
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.registry.checks import Check
from vidprompt.registry.declared import Declared, Judged
from vidprompt.system.errors import DataError

WANTED = "as its predictions say"


def recount(one: Judged, model: Declared, project: DvcProject) -> Check:
    """Do the numbers follow from the predictions that the revision's dvc.lock names?

    Not done, and so shown, where these are neither here nor in DVC's cache or a remote.
    """
    about = one.shown(model.dataset)
    metrics = paths.results(one.dataset, model.method, one.protocol) / "metrics.json"
    path = paths.predictions(one.dataset, model.method, one.protocol).as_posix()
    md5 = project.tracked_md5(path)
    if md5 is None:
        problem = (
            f"dvc.lock of {project.revision.shown} names no {path}, so nobody can compute "
            f"{metrics.as_posix()} again: a stage of dvc.yaml has to write them; `dvc repro`"
        )
        return Check("recount", about, "no predictions", WANTED, problem)
    file = project.find(md5, path)
    if file is None:
        return Check("recount", about, "not computed again", WANTED, done=False)
    differing = _differing(file, one.result.to_json())
    if differing:
        problem = (
            f"{metrics.as_posix()} does not follow from its predictions: {differing}; `dvc repro`, and "
            "commit what it changes"
        )
        return Check("recount", about, "differs", WANTED, problem)
    return Check("recount", about, "computed again", WANTED)


def _differing(file: Path, metrics: Any) -> str:
    from vidprompt.recompute.results import metrics_differences

    try:
        return "; ".join(metrics_differences(file, metrics))
    except (DataError, TypeError, AttributeError, KeyError) as error:
        return f"they cannot be compared ({error!r})"
