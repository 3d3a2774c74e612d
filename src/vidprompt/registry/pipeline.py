"""Does a revision's dvc.lock still say how its results are made? What is not on disk is judged by the lock.

`dvc status` calls everything changed that is not checked out. A model can be judged without its frames
and features: what counts is that the code, the parameters and the committed results are those that
dvc.lock has, and that each stage was run on what the one before it left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vidprompt.errors import UserError
from vidprompt.registry.revision import Revision
from vidprompt.registry.storage import project


def outdated(revision: Revision, outputs: Iterable[str]) -> list[str]:
    """Stages that `outputs` follow from, and that are out of date, each with what changed; sorted.

    `outputs` are paths of outputs or metrics. UserError where no stage makes one of them.
    """
    from dvc.exceptions import DvcException

    try:
        with project(revision) as repo:
            stages = {
                stage.addressing: stage for path in outputs for stage in _upstream(repo, path)
            }
            cached = {_path(out): out for s in stages.values() for out in s.outs if out.use_cache}
            changed = {_name(stage): _changes(stage, cached) for stage in stages.values()}
    except DvcException as error:
        first = str(error).splitlines()[0]
        raise UserError(f"DVC cannot read the pipeline of {revision.shown}: {first}") from error
    return [f"{name} ({_few(found)})" for name, found in sorted(changed.items()) if found]


def _upstream(repo: Any, path: str) -> list[Any]:
    from dvc.exceptions import OutputNotFoundError

    try:
        (out,) = repo.find_outs_by_path(repo.fs.join(repo.root_dir, *path.split("/")))
    except OutputNotFoundError as error:
        raise UserError(
            f"{path} is no output of a stage in dvc.yaml: is its dataset active?"
        ) from error
    return list(repo.stage.collect(out.stage.addressing, with_deps=True))


def _changes(stage: Any, cached: dict[str, Any]) -> list[str]:
    found = ["its command"] if stage.changed_stage() else []
    for entry in (*stage.deps, *stage.outs):
        status = entry.status()
        if not status:
            continue
        path = _path(entry)
        if set(_flat(status)) <= {"deleted", "not in cache"} and _made(path, entry, cached):
            continue
        found.append(str(entry.def_path))
    return found


def _flat(status: dict[str, Any]) -> list[str]:
    """What DVC says of an entry: a word, or (of parameters) a word a key."""
    return [
        word
        for said in status.values()
        for word in (said.values() if isinstance(said, dict) else [said])
    ]


def _made(path: str, entry: Any, cached: dict[str, Any]) -> bool:
    """Is what is not here an output that DVC keeps, and the one that the lock names?"""
    if path in cached:
        return bool(cached[path].hash_info == entry.hash_info)
    return any(path.startswith(f"{out}/") or out.startswith(f"{path}/") for out in cached)


def _path(entry: Any) -> str:
    return str(entry.fs.normpath(entry.fs_path)).replace("\\", "/")


def _name(stage: Any) -> str:
    return str(getattr(stage, "name", None) or stage.path_in_repo)


def _few(found: Sequence[str]) -> str:
    more = f" and {len(found) - 2} more" if len(found) > 2 else ""
    return ", ".join(found[:2]) + more
