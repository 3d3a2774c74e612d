"""Do the results follow from code and parameters? What dvc.lock records against what is here.

DVC says which stages have changed. What is absent here (data, caches, models in a fresh clone) is compared
by dvc.lock alone: a dependency has to be what another stage put out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprompt.errors import UserError
from vidprompt.review.sides import Side
from vidprompt.review.store import Store, below, each_parent, first_line, tree_md5

AGAIN = "`dvc repro`"


@dataclass(frozen=True, order=True)
class Finding:
    """What is not as it should be: a file or a stage, and a sentence about it."""

    subject: str
    sentence: str


@dataclass(frozen=True)
class Pipeline:
    """What was found of the pipeline: `absent` outputs are not here, `unlinked` dependencies could not be
    followed because a folder's listing is nowhere."""

    findings: tuple[Finding, ...]
    stages: int = 0
    absent: int = 0
    unlinked: int = 0


@dataclass(frozen=True)
class _Out:
    """An output: its stage, MD5 as recorded (empty: none), whether DVC caches it, and its state."""

    stage: str
    md5: str
    cached: bool
    state: str  # as `dvc status` says; empty when it is as recorded


def pipeline(head: Side, store: Store) -> Pipeline:
    """Every stage of dvc.yaml against dvc.lock and the files on disk."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    try:
        with store.repo.lock:
            stages = list(store.repo.index.stages)
            changes = {stage.addressing: _changes(stage) for stage in stages}
            outs = _outs(stages, store.root, changes)
            texts = list(_of_outs(stages, outs, store.root))
            links = list(_links(stages, outs, store))
    except LockError as error:
        raise UserError("Another DVC command is at work here: wait for it to end") from error
    except DvcException as error:
        unreadable = Finding("dvc.yaml, dvc.lock", f"DVC cannot read them: {first_line(error)}")
        return Pipeline((unreadable,))
    recorded = {name for name in head.stages if name in changes}
    findings = texts + list(_of_stages(stages, changes, recorded))
    findings += _of_deps(changes, outs, recorded)
    findings += [link for link in links if link is not None]
    for name in sorted(head.stages.keys() - changes.keys()):
        findings.append(Finding(name, "dvc.lock has it and dvc.yaml has not: delete its entry"))
    findings += _left_over(head, outs)
    absent = sum(out.cached and out.state in ("deleted", "not in cache") for out in outs.values())
    return Pipeline(
        findings=tuple(sorted(set(findings))),
        stages=len(recorded),
        absent=absent,
        unlinked=sum(link is None for link in links),
    )


def _changes(stage: Any) -> dict[str, Any]:
    """`deps`, `params` and `outs` → path → what DVC says of it; `command`: another one."""
    found: dict[str, Any] = {"deps": {}, "params": {}, "outs": {}, "command": False}
    for change in stage.status(check_updates=False).get(stage.addressing, ()):
        if change == "changed command":
            found["command"] = True
        elif isinstance(change, dict):
            found["outs"] |= change.get("changed outs", {})
            for path, state in change.get("changed deps", {}).items():
                found["params" if isinstance(state, dict) else "deps"][_slashes(path)] = state
    return found


def _slashes(path: Any) -> str:
    return Path(str(path)).as_posix()


def _path(out: Any, root: Path) -> str:
    return Path(out.fs_path).relative_to(root.resolve()).as_posix()


def _inside(out: Any, root: Path) -> bool:
    return Path(out.fs_path).is_relative_to(root.resolve())


def _outs(stages: Iterable[Any], root: Path, changes: Mapping[str, Any]) -> dict[str, _Out]:
    return {
        _path(out, root): _Out(
            stage=stage.addressing,
            md5=str(out.hash_info.value or ""),
            cached=out.use_cache,
            state=str(changes[stage.addressing]["outs"].get(str(out), "")),
        )
        for stage in stages
        for out in stage.outs
        if _inside(out, root)
    }


def _of_stages(
    stages: Iterable[Any], changes: Mapping[str, Any], recorded: set[str]
) -> Iterator[Finding]:
    for stage in stages:
        name = stage.addressing
        if stage.frozen and not stage.is_import:
            yield Finding(
                name, "it is frozen, so DVC does not look at what it depends on: unfreeze it"
            )
        if not stage.cmd:
            continue
        if name not in recorded:
            yield Finding(name, f"dvc.lock has no such stage, it has not run: {AGAIN}")
        elif changes[name]["command"]:
            yield Finding(name, f"its command is not the one that dvc.lock records: {AGAIN}")


def _of_outs(stages: Iterable[Any], outs: Mapping[str, _Out], root: Path) -> Iterator[Finding]:
    """Outputs on disk that are not what was recorded: with both hashes, edited by hand or not committed."""
    for stage in stages:
        for out in stage.outs:
            path = _path(out, root) if _inside(out, root) else ""
            state = outs[path].state if path else ""
            if state == "modified":
                here, recorded = str(out.get_hash().value), outs[path].md5
                source = stage.addressing if stage.cmd else _path_of(stage, root)
                yield Finding(
                    path,
                    f"it is not what {'`' + source + '`'} wrote: MD5 {here} here, {recorded} recorded",
                )
            elif state == "deleted" and not outs[path].cached:
                yield Finding(path, f"`{stage.addressing}` wrote it and it is not here: restore it")


def _path_of(stage: Any, root: Path) -> str:
    return Path(stage.path).relative_to(root.resolve()).as_posix()


def _of_deps(
    changes: Mapping[str, Any], outs: Mapping[str, _Out], recorded: set[str]
) -> Iterator[Finding]:
    """Code, data and parameters that have changed since, each once with the stages that read it."""
    readers: dict[tuple[str, str], list[str]] = {}
    for stage, found in changes.items():
        if stage not in recorded:
            continue
        for path, state in found["deps"].items():
            if not _of_others(path, state, outs):
                readers.setdefault((path, state), []).append(stage)
        for path, keys in found["params"].items():
            for key, state in keys.items():
                readers.setdefault((f"{path}: {key}", state), []).append(stage)
    for (path, state), stages in readers.items():
        said = {"deleted": "is gone", "new": "is not recorded in dvc.lock"}
        kinds = ", ".join(sorted({name.partition("@")[0] for name in stages}))
        count = f"{len(stages)} stage{'s' if len(stages) > 1 else ''}"
        yield Finding(
            path, f"{said.get(state, 'has changed')} since {count} ran ({kinds}): {AGAIN}"
        )


def _of_others(path: str, state: str, outs: Mapping[str, _Out]) -> bool:
    """Is a dependency accounted for by outputs: absent here, or itself found to differ?"""
    around = [o for p, o in outs.items() if p == path or below(p, path) or below(path, p)]
    if state == "deleted":
        return any(out.cached for out in around) or any(out.state for out in around)
    return any(out.state for out in around)


def _links(
    stages: Iterable[Any], outs: Mapping[str, _Out], store: Store
) -> Iterator[Finding | None]:
    """In dvc.lock, what a stage read has to be what another wrote. None for one that cannot be followed."""
    listings: dict[str, dict[str, str] | None] = {}

    def listing(md5: str) -> dict[str, str] | None:
        if md5 not in listings:
            listings[md5] = store.listing(md5)
        return listings[md5]

    for stage in stages:
        for dep in stage.deps:
            if not dep.hash_info or not _inside(dep, store.root):
                continue
            path, read = _path(dep, store.root), str(dep.hash_info.value)
            known, written = _written(path, outs, listing)
            if not known:
                yield None
            elif written is not None and written != read:
                yield Finding(
                    stage.addressing,
                    f"dvc.lock says it read `{path}` as {read}, and that it was written as {written}: "
                    f"it was edited, or stages ran apart; {AGAIN}",
                )


def _written(path: str, outs: Mapping[str, _Out], listing: Any) -> tuple[bool, str | None]:
    """The MD5 that outputs give a path, None when no output is there; first: can that be said?"""
    if path in outs:
        return True, outs[path].md5 or None
    for parent in each_parent(path):
        if parent in outs:
            entries = listing(outs[parent].md5)
            if entries is None:
                return False, None
            rest = path.removeprefix(f"{parent}/")
            part = {p.removeprefix(f"{rest}/"): m for p, m in entries.items() if below(p, rest)}
            return True, entries.get(rest) or (tree_md5(part) if part else "nothing")
    files: dict[str, str] = {}
    for out, entry in outs.items():
        if not below(out, path):
            continue
        name = out.removeprefix(f"{path}/")
        if entry.md5.endswith(".dir"):
            entries = listing(entry.md5)
            if entries is None:
                return False, None
            files |= {f"{name}/{inner}": md5 for inner, md5 in entries.items()}
        else:
            files[name] = entry.md5
    return True, tree_md5(files) if files else None


def _left_over(head: Side, outs: Mapping[str, _Out]) -> Iterator[Finding]:
    """Files in results/ that are called as what stages write, and which none writes."""
    names = {Path(path).name for path, out in outs.items() if not out.cached}
    for path in head.files:
        if path.startswith("results/") and Path(path).name in names and path not in outs:
            yield Finding(
                path, "no stage of dvc.yaml writes it: activate its dataset, or delete it"
            )
