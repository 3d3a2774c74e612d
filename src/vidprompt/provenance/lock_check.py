"""Checks that a revision's results follow from its code, data and parameters, by dvc.lock.

`dvc status` calls everything changed that is not checked out. Here a dependency that is absent has to be,
by dvc.lock, what another stage wrote; code, parameters and committed results have to be those on record.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from vidprompt.config.plugins import LINKS
from vidprompt.provenance.code import (
    SOURCE_FOLDER,
    STAGE_FOLDER,
    SourceTree,
    plugin_sources,
    running_sources,
)
from vidprompt.provenance.dvc_project import DvcProject, tree_md5
from vidprompt.provenance.lock_report import Difference, Finding, LockReport
from vidprompt.provenance.plugin_links import find_linked
from vidprompt.provenance.project_record import RECORD
from vidprompt.provenance.revision import parents
from vidprompt.system.errors import UserError, first_line

_AGAIN = "`dvc repro`"
_OUR_COMMAND = re.compile(r"(?:^|[\s;&|(\"'/])vidprompt(?:\.[\w.]+)?\s+([\w-]+)")


# -- the check --------------------------------------------------------------------------------------


def check_upstream(project: DvcProject, outputs: Iterable[str]) -> LockReport:
    """Check all stages that `outputs` (paths of outputs or metrics) follow from.

    UserError where no stage writes one of them, or DVC cannot read the pipeline.
    """
    from dvc.exceptions import DvcException

    try:
        stages = {
            stage.addressing: stage for path in outputs for stage in _upstream(project.repo, path)
        }
        return _check(project, list(stages.values()))
    except DvcException as error:
        raise project.unreadable(error) from error


def check_project(project: DvcProject) -> LockReport:
    """Check all stages, and that dvc.lock and results/ have nothing that no stage of dvc.yaml writes.

    Files that DVC cannot read are a finding. UserError while another DVC command runs.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    try:
        with project.repo.lock:
            stages = list(project.repo.index.stages)
            return replace(_check(project, stages), others=tuple(_left_over(project, stages)))
    except LockError as error:
        raise UserError("Another DVC command is at work here: wait for it to end") from error
    except DvcException as error:
        unreadable = Finding("dvc.yaml, dvc.lock", f"DVC cannot read them: {first_line(error)}")
        return LockReport(others=(unreadable,))


def _left_over(project: DvcProject, stages: Iterable[Any]) -> Iterator[Finding]:
    """Entries of dvc.lock without a stage, and files named as results that no stage writes."""
    for name in sorted(project.revision.stages.keys() - {_name(stage) for stage in stages}):
        yield Finding(name, "dvc.lock has it and dvc.yaml has not: delete its entry")
    outs = {_path(out): out for stage in stages for out in stage.outs}
    names = {PurePosixPath(path).name for path, out in outs.items() if path and not out.use_cache}
    for path in project.revision.files:
        is_result = path.startswith("results/") and PurePosixPath(path).name in names
        if is_result and path not in outs:
            yield Finding(
                path, "no stage of dvc.yaml writes it: activate its dataset, or delete it"
            )


def _upstream(repo: Any, path: str) -> list[Any]:
    from dvc.exceptions import OutputNotFoundError

    try:
        (out,) = repo.find_outs_by_path(repo.fs.join(repo.root_dir, *path.split("/")))
    except OutputNotFoundError as error:
        raise UserError(
            f"{path} is no output of a stage in dvc.yaml: is its dataset active?"
        ) from error
    return list(repo.stage.collect(out.stage.addressing, with_deps=True))


@dataclass(frozen=True)
class _Output:
    """An output: its MD5 in dvc.lock (empty: none), and its state in DVC's words (empty: as recorded)."""

    md5: str
    is_cached: bool
    state: str


def _check(project: DvcProject, stages: list[Any]) -> LockReport:
    outs = {
        _path(out): _Output(
            str(out.hash_info.value or ""), out.use_cache, next(iter(out.status().values()), "")
        )
        for stage in stages
        for out in stage.outs
        if _path(out)
    }
    lock, code = project.revision.stages, _Code(project)
    differences: list[Difference] = []
    links = unlinked = 0
    for stage in stages:
        name = _name(stage)
        differences += _of_stage(stage, name, lock.get(name), code)
        if name in lock:
            differences += _of_inputs(stage, name, lock[name], outs, code)
        differences += _of_outputs(stage, name, outs)
        for path, read, written in _links(stage, outs, project):
            links += 1
            if written is None:
                unlinked += 1
            elif written != read:
                problem = (
                    f"dvc.lock says it read `{path}` as {read}, and that it was written as {written}: "
                    "it was edited, or stages ran apart"
                )
                differences.append(Difference(name, path, problem, remedy=_AGAIN))
    for path in code.ignored():
        problem = "stages run it and .dvcignore hides it from DVC: take it out of there"
        differences.append(Difference(".dvcignore", path, problem, path))
    return LockReport(
        differences=tuple(differences),
        stages=sum(_name(stage) in lock for stage in stages),
        links=links,
        unlinked=unlinked,
        absent=sum(o.is_cached and o.state in ("deleted", "not in cache") for o in outs.values()),
    )


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _path(entry: Any) -> str:
    """The path of a dependency or output, relative to the root; empty for one outside."""
    if not entry.is_in_repo:
        return ""
    return "/".join(entry.repo.fs.relparts(entry.fs_path, entry.repo.root_dir))


def _name(stage: Any) -> str:
    """A stage's name in dvc.lock; the path of a .dvc file."""
    name, file = getattr(stage, "name", None), str(stage.path_in_repo)
    if not name:
        return file
    return str(name) if file == "dvc.yaml" else f"{file}:{name}"


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


# -- a stage, its code, inputs and outputs ----------------------------------------------------------


def _of_stage(
    stage: Any, name: str, entry: Mapping[str, Any] | None, code: _Code
) -> Iterator[Difference]:
    if stage.frozen and not stage.is_import:
        problem = "it is frozen, so DVC does not compare its dependencies: unfreeze it"
        yield Difference(name, "is frozen", problem)
    if not stage.cmd:
        return
    if entry is None:
        problem = "dvc.lock has no such stage, it has not run"
        yield Difference(name, "has not run", problem, remedy=_AGAIN)
        return
    if stage.changed_stage():
        problem = "its command is not the one that dvc.lock records"
        yield Difference(name, "its command", problem, remedy=_AGAIN)
    for sentence in undeclared(stage, entry):
        yield Difference(name, sentence, sentence, remedy=_AGAIN)
    for command in dict.fromkeys(_OUR_COMMAND.findall(str(stage.cmd))):
        for sentence, remedy in code.uncovered(command, _paths(entry, "deps")):
            yield Difference(name, sentence, sentence, remedy=remedy)


class _Code:
    """The code that the stages of a revision run: the package's sources in the repository, or, where a commit
    has none (a project of `vidprompt init`), the installed package's."""

    def __init__(self, project: DvcProject) -> None:
        revision, start = project.revision, f"{SOURCE_FOLDER}/"
        if revision.commit:
            names = [path.removeprefix(start) for path in revision.files if path.startswith(start)]
            read = cache(lambda name: revision.read(start + name) or b"")
            installed = not names and RECORD in revision.files
            self._tree = running_sources() if installed else SourceTree(frozenset(names), read)
        else:  # files that git ignores are imported, too
            self._tree = SourceTree.of_folder(revision.root / SOURCE_FOLDER)
        self._repo = project.repo
        self._files: dict[str, list[str]] = {}

    def uncovered(self, command: str, deps: set[str]) -> Iterator[tuple[str, str]]:
        """Problem and remedy where dvc.lock's dependencies leave out files that a stage runs."""
        if not self._tree.files:
            return
        if command not in self._tree.stages():
            module = f"{SOURCE_FOLDER}/{STAGE_FOLDER}/{command}.py"
            yield f"the code of `vidprompt {command}` is not known: there is no {module}", ""
            return
        try:
            files = self._run_by(command)
        except (SyntaxError, ValueError) as error:
            yield f"the imports of `vidprompt {command}` cannot be read ({first_line(error)})", ""
            return
        missing = [f for f in files if f not in deps and not any(p in deps for p in parents(f))]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            verbs = ("are", "are no dependencies") if more else ("is", "is no dependency")
            remedy = f"run `vidprompt activate`, then {_AGAIN}"
            yield f"`{missing[0]}`{more} {verbs[0]} run by it and {verbs[1]}", remedy

    def md5(self, path: str) -> str:
        """The MD5 that DVC gives a file or folder of the code (of an installed plug-in); else empty."""
        if path.startswith(f"{LINKS}/"):
            return _plugin_md5(path)
        start = f"{SOURCE_FOLDER}/"
        inner = path.removeprefix(start) if path.startswith(start) else ""
        if inner in self._tree.files:
            return _md5(self._tree.read(inner))
        below = [name for name in self._tree.files if inner and _is_below(name, inner)]
        files = {name.removeprefix(f"{inner}/"): _md5(self._tree.read(name)) for name in below}
        return tree_md5(files) if files else ""

    def _run_by(self, command: str) -> list[str]:
        """Paths of a stage's files, sorted."""
        if command not in self._files:
            files = self._tree.stage_files(command)
            self._files[command] = sorted(f"{SOURCE_FOLDER}/{name}" for name in files)
        return self._files[command]

    def ignored(self) -> list[str]:
        """The files of all stages checked so far that .dvcignore hides from DVC, sorted."""
        fs, root = self._repo.fs, self._repo.root_dir
        return [
            path
            for path in sorted({path for files in self._files.values() for path in files})
            if self._repo.dvcignore.is_ignored(fs, fs.join(root, *path.split("/")))
        ]


def _plugin_md5(path: str) -> str:
    """Of the installed package that a link `plugins/<package>` leads to; empty where there is none."""
    plugin = find_linked(path)
    if plugin is None or len(PurePosixPath(path).parts) > 2:
        return ""
    tree = plugin_sources(plugin)
    md5s = {name: _md5(tree.read(name)) for name in tree.files}
    return next(iter(md5s.values())) if plugin.path and plugin.path.is_file() else tree_md5(md5s)


def undeclared(stage: Any, entry: Mapping[str, Any]) -> list[str]:
    """What dvc.yaml and dvc.lock do not both list for a stage (DVC's), as sorted sentences.

    DVC itself passes over what only dvc.lock lists. Compared are dependencies, the files and keys of
    parameters, and outputs; where dvc.yaml takes all keys of a file, any are right. Nothing for a stage
    without a command (a .dvc file has no entry).
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
        f"{kind} `{name}` is in {there} and not in {other}"
        for there, other, entries in (
            ("dvc.lock", "dvc.yaml", recorded - declared),
            ("dvc.yaml", "dvc.lock", declared - recorded),
        )
        for kind, name in sorted(entries)
    ]


def _paths(entry: Mapping[str, Any], key: str) -> set[str]:
    return {str(one.get("path")) for one in entry.get(key) or ()}


def _of_inputs(
    stage: Any, name: str, entry: Mapping[str, Any], outs: Mapping[str, _Output], code: _Code
) -> Iterator[Difference]:
    """Code, data and parameters that are not those on record; outputs are left to `_of_outputs`.

    Code that a commit lacks is the installed package's.
    """
    words = {"deleted": "is gone", "new": "is not recorded in dvc.lock"}
    for dep in stage.deps:
        path = _path(dep) or str(dep.def_path)
        for state in dep.status().values():
            if path.startswith(f"{LINKS}/") and isinstance(state, dict):
                continue  # a plug-in's parameters: its package, which has them, is compared as code
            if isinstance(state, dict):  # a parameter file's keys
                for key, one in state.items():
                    problem = words.get(one, "has changed")
                    yield Difference(name, path, problem, f"{path}: {key}", True, _AGAIN)
                continue
            installed = code.md5(path) if state == "deleted" else ""
            if installed:
                if installed != dep.hash_info.value:
                    package = "plug-in" if path.startswith(f"{LINKS}/") else "vidprompt"
                    problem = f"of the installed {package} is not what the stage ran"
                    yield Difference(name, path, problem, path, True, _AGAIN)
                continue
            is_undeclared = state == "new" and path not in _paths(entry, "deps")
            if not is_undeclared and not _follows_from_outputs(path, state, outs):
                problem = words.get(state, "has changed")
                yield Difference(name, path, problem, path, True, _AGAIN)


def _follows_from_outputs(path: str, state: str, outs: Mapping[str, _Output]) -> bool:
    """Whether outputs explain a dependency's state: they are absent, or differ themselves."""
    around = {
        p: o for p, o in outs.items() if p == path or _is_below(p, path) or _is_below(path, p)
    }
    if state == "deleted":
        return any(out.is_cached or out.state for out in around.values())
    return any(o.state == "modified" or (o.state and _is_below(p, path)) for p, o in around.items())


def _of_outputs(stage: Any, name: str, outs: Mapping[str, _Output]) -> Iterator[Difference]:
    """Outputs that are not as recorded: edited by hand, or not committed."""
    for out in stage.outs:
        path = _path(out)
        known = outs.get(path)
        if known is None:
            continue
        if known.state == "modified":
            problem = f"it is not what `{name}` wrote: MD5 {out.get_hash().value} here, {known.md5} recorded"
            yield Difference(name, path, problem, path)
        elif (
            known.state == "deleted"
            and not known.is_cached
            and not out.repo.scm.is_ignored(out.fs_path)
        ):
            yield Difference(name, path, f"`{name}` wrote it and it is not here: restore it", path)
        elif not known.md5 and not stage.cmd:
            yield Difference(name, path, f"`{name}` records no MD5 of it: `dvc commit`", path)


# -- links ------------------------------------------------------------------------------------------


def _links(
    stage: Any, outs: Mapping[str, _Output], project: DvcProject
) -> Iterator[tuple[str, str, str | None]]:
    """Each dependency that others write: its path, its MD5 as read and as written; None: not known."""
    for dep in stage.deps:
        path = _path(dep) if dep.hash_info else ""
        written = _written(path, outs, project) if path else ""
        if written != "":
            yield path, str(dep.hash_info.value), written


def _written(path: str, outs: Mapping[str, _Output], project: DvcProject) -> str | None:
    """The MD5 that outputs give a path; empty where no output is there, None where it is not known."""
    if path in outs:
        return outs[path].md5
    for parent in parents(path):
        if parent in outs:
            entries = project.listing(outs[parent].md5)
            if entries is None:
                return None
            rest = path.removeprefix(f"{parent}/")
            part = {p.removeprefix(f"{rest}/"): m for p, m in entries.items() if _is_below(p, rest)}
            return entries.get(rest) or (tree_md5(part) if part else "nothing")
    files: dict[str, str] = {}
    for out, known in outs.items():
        if not _is_below(out, path):
            continue
        name = out.removeprefix(f"{path}/")
        if known.md5.endswith(".dir"):
            entries = project.listing(known.md5)
            if entries is None:
                return None
            files |= {f"{name}/{inner}": md5 for inner, md5 in entries.items()}
        else:
            files[name] = known.md5
    return tree_md5(files) if files else ""
