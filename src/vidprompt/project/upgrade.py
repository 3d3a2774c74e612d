"""`vidprompt upgrade`: which of a project's files are older than the installed package's.

A file is compared by three hashes: what the package had when the project was made or last upgraded
(`.vidprompt.json`), what the package has now, and what the project has.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from vidprompt.files.atomic import replacing
from vidprompt.pipeline import matrix
from vidprompt.project.code_link import renew_code_link
from vidprompt.project.skeleton import content_hash, package_version, skeleton
from vidprompt.provenance.project_record import read_record
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion


class State(Enum):
    """What a file of the package's skeleton is in a project that it is not up to date in."""

    NEW = "new in the package"
    OLDER = "older than the package's, not changed here"
    CONFLICT = "changed here and in the package"
    OUTSIDE = "a link out of the project, and the package's has changed"
    DROPPED = "no longer in the package"


APPLIED = (State.NEW, State.OLDER)


@dataclass(frozen=True)
class Finding:
    """A file that is not up to date; `diff`: from the project's to the package's, where both changed."""

    path: str
    state: State
    diff: str = ""


@dataclass(frozen=True)
class Report:
    """What of a project is older than the package; its files' version, and the installed one."""

    made_by: str
    installed: str
    findings: tuple[Finding, ...]


def examine(root: Path) -> Report:
    """Compare the project in `root` with the installed package. Raises UserError where it is no project."""
    record = read_record(root)
    files = skeleton(record.name)
    findings = [_finding(root, path, files[path], record.files.get(path)) for path in files]
    dropped = [
        Finding(path, State.DROPPED)
        for path in sorted(record.files.keys() - files.keys())
        if _is_inside(root, path) and (root / path).is_file()
    ]
    found = [finding for finding in findings if finding is not None]
    return Report(record.version, package_version(), (*found, *dropped))


def apply(root: Path, report: Report) -> list[str]:
    """Take the package's files where the project's are not changed; returns their paths."""
    record = read_record(root)
    files = skeleton(record.name)
    taken = [finding.path for finding in report.findings if finding.state in APPLIED]
    for path in taken:
        with replacing(root / path) as temporary:
            temporary.write_bytes(files[path])
    conflicts = {f.path for f in report.findings if f.state in (State.CONFLICT, State.OUTSIDE)}
    hashes = {
        path: record.files[path]
        if path in conflicts and path in record.files
        else content_hash(path, content)
        for path, content in files.items()
    }
    dropped = {f.path: record.files[f.path] for f in report.findings if f.state is State.DROPPED}
    replace(record, version=package_version(), files=hashes | dropped).write(root)
    renew_code_link(root)
    matrix.activate([])
    return taken


def keep(root: Path, paths: Sequence[str]) -> None:
    """Take the project's own version of these files for up to date. Raises UserError for other files."""
    record = read_record(root)
    files = skeleton(record.name)
    known = sorted(files.keys() | record.files.keys())
    hashes = dict(record.files)
    for path in paths:
        if path not in known:
            raise UserError(f"{path} is no file of the package's: {suggestion(path, known)}")
        if path in files:
            hashes[path] = content_hash(path, files[path])
        else:
            hashes.pop(path)
    replace(record, files=hashes).write(root)


def _finding(root: Path, path: str, content: bytes, recorded: str | None) -> Finding | None:
    """None for a file that is up to date, one that only the project changed, and one that it deleted."""
    now, file = content_hash(path, content), root / path
    if recorded == now:
        return None
    if not _is_inside(root, path):
        return Finding(path, State.OUTSIDE)
    if not file.is_file():
        return Finding(path, State.NEW) if recorded is None else None
    own = file.read_bytes()
    if content_hash(path, own) == now:
        return None
    if content_hash(path, own) == recorded:
        return Finding(path, State.OLDER)
    return Finding(path, State.CONFLICT, _diff(path, own, content))


def _is_inside(root: Path, path: str) -> bool:
    return (root / path).resolve().is_relative_to(root.resolve())


def _diff(path: str, own: bytes, content: bytes) -> str:
    def lines(text: bytes) -> Iterable[str]:
        return text.decode("utf-8", "replace").splitlines(keepends=True)

    names = (f"{path} (here)", f"{path} (package)")
    return "".join(difflib.unified_diff([*lines(own)], [*lines(content)], *names))
