"""Does a revision's dvc.lock still say how its results are made? What is not on disk is judged by the lock.

`dvc status` calls everything changed that is not checked out. A model can be judged without its frames
and features: what counts is that the code, the parameters and the committed results are those that
dvc.lock has, and that each stage was run on what the one before it left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from vidprompt.provenance.dvc_project import DvcProject, first_line
from vidprompt.system.errors import UserError

Listing = Callable[[str], dict[str, str] | None]


@dataclass(frozen=True)
class Followed:
    """`outdated`: stages with what changed, sorted. Of `links` (what a stage read and another wrote)
    those in `unlinked` could not be compared, because a folder's listing is nowhere to be had; sorted."""

    outdated: tuple[str, ...]
    links: int
    unlinked: tuple[str, ...]


def follow(project: DvcProject, outputs: Iterable[str]) -> Followed:
    """All stages that `outputs`, paths of outputs or metrics, follow from.

    UserError where no stage makes one of them, or DVC cannot read the pipeline.
    """
    from dvc.exceptions import DvcException

    try:
        return _follow(project, outputs)
    except DvcException as error:
        raise UserError(
            f"DVC cannot read {project.revision.shown} ({first_line(error)}): mend dvc.yaml and dvc.lock"
        ) from error


def _follow(project: DvcProject, outputs: Iterable[str]) -> Followed:
    found = (stage for path in outputs for stage in _upstream(project.repo, path))
    stages = {stage.addressing: stage for stage in found}
    outs = {_path(out): out for stage in stages.values() for out in stage.outs}
    cached = {path for path, out in outs.items() if out.use_cache}
    lock = project.revision.stages
    changed, unlinked, links = {}, set(), 0
    for stage in stages.values():
        said = _changes(stage, cached) + _undeclared(stage, lock)
        for path, same in _links(stage, outs, project.listing):
            links += 1
            if same is None:
                unlinked.add(path)
            elif not same and path not in said:
                said.append(path)
        changed[_name(stage)] = said
    outdated = [f"{name} ({_few(found)})" for name, found in sorted(changed.items()) if found]
    return Followed(tuple(outdated), links, tuple(sorted(unlinked)))


def _undeclared(stage: Any, lock: Mapping[str, Any]) -> list[str]:
    """What dvc.yaml and dvc.lock do not both name: DVC looks only at what dvc.yaml still does."""
    from vidprompt.provenance.proof import undeclared

    entry = lock.get(getattr(stage, "name", None) or "")
    return undeclared(stage, entry) if stage.cmd and isinstance(entry, dict) else []


def _links(
    stage: Any, outs: Mapping[str, Any], listed: Listing
) -> Iterator[tuple[str, bool | None]]:
    """What a stage read that others write: its path, and did it read what was written? None: not known."""
    from vidprompt.provenance.dvc_project import tree_md5

    for dep in stage.deps:
        if not dep.hash_info:
            continue
        path, read = _path(dep), str(dep.hash_info.value)
        around = [str(parent) for parent in PurePosixPath(path).parents if str(parent) in outs]
        inside = {out: outs[out] for out in outs if out.startswith(f"{path}/")}
        if path in outs:
            yield str(dep.def_path), str(outs[path].hash_info.value) == read
        elif around:
            entries = listed(str(outs[around[0]].hash_info.value))
            same = None if entries is None else _part(entries, path, around[0]) == read
            yield str(dep.def_path), same
        elif inside:
            files = _files(inside, path, listed)
            yield str(dep.def_path), None if files is None else tree_md5(files) == read


def _part(entries: Mapping[str, str], path: str, folder: str) -> str:
    """The MD5 of a file, or of a folder, in a folder whose listing is `entries`."""
    from vidprompt.provenance.dvc_project import tree_md5

    rest = path.removeprefix(f"{folder}/")
    files = {p.removeprefix(f"{rest}/"): m for p, m in entries.items() if p.startswith(f"{rest}/")}
    return entries.get(rest) or (tree_md5(files) if files else "")


def _files(outs: Mapping[str, Any], folder: str, listed: Listing) -> dict[str, str] | None:
    """Path → MD5 of all that outputs leave in a folder; None where a listing is not to be had."""
    files: dict[str, str] = {}
    for out, about in outs.items():
        name, md5 = out.removeprefix(f"{folder}/"), str(about.hash_info.value)
        if not md5.endswith(".dir"):
            files[name] = md5
            continue
        entries = listed(md5)
        if entries is None:
            return None
        files |= {f"{name}/{inner}": one for inner, one in entries.items()}
    return files


def _upstream(repo: Any, path: str) -> list[Any]:
    from dvc.exceptions import OutputNotFoundError

    try:
        (out,) = repo.find_outs_by_path(repo.fs.join(repo.root_dir, *path.split("/")))
    except OutputNotFoundError as error:
        raise UserError(
            f"{path} is no output of a stage in dvc.yaml: is its dataset active?"
        ) from error
    return list(repo.stage.collect(out.stage.addressing, with_deps=True))


def _changes(stage: Any, cached: set[str]) -> list[str]:
    found = ["its command"] if stage.changed_stage() else []
    for entry in (*stage.deps, *stage.outs):
        status = entry.status()
        if not status:
            continue
        path = _path(entry)
        if set(_flat(status)) <= {"deleted", "not in cache"} and _made(path, cached):
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


def _made(path: str, cached: Iterable[str]) -> bool:
    """Is what is not here an output that DVC keeps, in one, or with some in it? `_links` compares them."""
    return any(
        path == out or path.startswith(f"{out}/") or out.startswith(f"{path}/") for out in cached
    )


def _path(entry: Any) -> str:
    return str(entry.fs.normpath(entry.fs_path)).replace("\\", "/")


def _name(stage: Any) -> str:
    return str(getattr(stage, "name", None) or stage.path_in_repo)


def _few(found: Sequence[str]) -> str:
    more = f" and {len(found) - 2} more" if len(found) > 2 else ""
    return ", ".join(found[:2]) + more
