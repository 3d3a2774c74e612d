"""Do the results follow from code and parameters? What dvc.lock records against what is here.

DVC says which stages have changed. What is absent here (data, caches, models in a fresh clone) is compared
by dvc.lock alone: a dependency has to be what another stage put out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprompt.provenance.dvc_project import DvcProject, first_line, tree_md5
from vidprompt.provenance.revision import Revision, parents
from vidprompt.reporting.markdown import plain
from vidprompt.system.errors import UserError

AGAIN = "`dvc repro`"
MOST_SUBJECT, MOST_SENTENCE = 200, 600  # characters


@dataclass(frozen=True, order=True)
class Finding:
    """What is not as it should be: a file or a stage, and a sentence about it.

    Both may hold text out of files under review: one line of printable characters is kept of it, not Markdown
    (`markdown.sentence` makes it that).
    """

    subject: str
    sentence: str

    def __post_init__(self) -> None:
        for name, most in (("subject", MOST_SUBJECT), ("sentence", MOST_SENTENCE)):
            object.__setattr__(self, name, plain(getattr(self, name), most))


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


def pipeline(head: Revision, store: DvcProject) -> Pipeline:
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
    findings += _of_declared(stages, head.stages)
    findings += _of_deps(changes, outs, {name: head.stages[name] for name in recorded})
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


def undeclared(stage: Any, entry: Mapping[str, Any]) -> list[str]:
    """What of a stage (DVC's) differs between dvc.yaml and its entry of dvc.lock, sorted sentences.

    DVC itself passes over what of the lock dvc.yaml no longer lists. Compared are the dependencies, the files
    and keys of parameters, and the outputs; a file of which dvc.yaml takes all keys has any. Nothing for a
    stage without a command (a .dvc file has no entry).
    """
    if not stage.cmd:
        return []
    declared: set[tuple[str, str]] = {("output", out.def_path) for out in stage.outs}
    recorded = {("output", path) for path in _paths(entry, "outs")}
    recorded |= {("dependency", path) for path in _paths(entry, "deps")}
    params = entry.get("params") or {}
    keys: dict[str, list[str]] = {}
    for dep in stage.deps:
        if hasattr(dep, "params"):
            keys[dep.def_path] = [str(key) for key in dep.params]
        else:
            declared.add(("dependency", dep.def_path))
    declared |= {("parameter file", file) for file in keys}
    recorded |= {("parameter file", str(file)) for file in params}
    for file in keys.keys() & params.keys():
        if keys[file]:
            declared |= {("parameter", f"{file}: {key}") for key in keys[file]}
            recorded |= {("parameter", f"{file}: {key}") for key in params[file] or ()}
    return [
        *(
            f"{kind} `{name}` is in dvc.lock and not in dvc.yaml"
            for kind, name in sorted(recorded - declared)
        ),
        *(
            f"{kind} `{name}` is in dvc.yaml and not in dvc.lock"
            for kind, name in sorted(declared - recorded)
        ),
    ]


def _paths(entry: Mapping[str, Any], key: str) -> set[str]:
    return {str(one.get("path")) for one in entry.get(key) or ()}


def _of_declared(stages: Iterable[Any], entries: Mapping[str, Any]) -> Iterator[Finding]:
    """What `undeclared` says, each sentence once with the stages it is about."""
    said: dict[str, list[str]] = {}
    for stage in stages:
        if stage.addressing in entries:
            for sentence in undeclared(stage, entries[stage.addressing]):
                said.setdefault(sentence, []).append(stage.addressing)
    for sentence, names in said.items():
        if len(names) == 1:
            yield Finding(names[0], f"{sentence}: {AGAIN}")
        else:
            kinds = ", ".join(sorted({name.partition("@")[0] for name in names}))
            yield Finding("dvc.yaml", f"{sentence}, of {len(names)} stages ({kinds}): {AGAIN}")


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
    changes: Mapping[str, Any], outs: Mapping[str, _Out], recorded: Mapping[str, Mapping[str, Any]]
) -> Iterator[Finding]:
    """Code, data and parameters that have changed since, each once with the stages that read it."""
    readers: dict[tuple[str, str], list[str]] = {}
    for stage, found in changes.items():
        if stage not in recorded:
            continue
        for path, state in found["deps"].items():
            # what the lock has not at all `undeclared` has named
            new = state == "new" and path not in _paths(recorded[stage], "deps")
            if not new and not _of_others(path, state, outs):
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
    stages: Iterable[Any], outs: Mapping[str, _Out], store: DvcProject
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


def below(path: str, folder: str) -> bool:
    """Does it lie in the folder?"""
    return path.startswith(f"{folder}/")


def _written(path: str, outs: Mapping[str, _Out], listing: Any) -> tuple[bool, str | None]:
    """The MD5 that outputs give a path, None when no output is there; first: can that be said?"""
    if path in outs:
        return True, outs[path].md5 or None
    for parent in parents(path):
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


def _left_over(head: Revision, outs: Mapping[str, _Out]) -> Iterator[Finding]:
    """Files in results/ that are called as what stages write, and which none writes."""
    names = {Path(path).name for path, out in outs.items() if not out.cached}
    for path in head.files:
        if path.startswith("results/") and Path(path).name in names and path not in outs:
            yield Finding(
                path, "no stage of dvc.yaml writes it: activate its dataset, or delete it"
            )
