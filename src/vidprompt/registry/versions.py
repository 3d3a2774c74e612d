"""Reads and writes versions and stages, which are git tags of GTO's.

`NAME@v0.1.0` is a version, `NAME#staging#2` assigns a stage to its commit. Tags are read from one
`git for-each-ref` and ordered by their numbers: dates have seconds, and two assignments within one would
have no order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Any

from vidprompt.provenance.git import check_repository, git
from vidprompt.provenance.revision import Revision
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

LATEST = "latest"
BUMPS = ("major", "minor", "patch")
_FORMAT = "%(refname:strip=2)%00%(*objectname)%00%(creatordate:iso-strict)"
_Tag = tuple[dict[str, Any], str, datetime]  # as GTO reads its name, the commit, the date


@dataclass(frozen=True)
class Version:
    """A registered version; `stages` that it is in now, in the order of their assignment."""

    name: str
    version: str
    commit: str
    date: str  # ISO 8601
    stages: tuple[str, ...] = ()

    @property
    def selector(self) -> str:
        """`ez-clip-demo@v0.1.0`."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class History:
    """A model's versions, newest first.

    `line`: stage → versions that were in it, oldest first, without those it was rolled back from.
    `withdrawn`: deregistered version numbers, which are not used again.
    """

    name: str
    versions: tuple[Version, ...]
    line: dict[str, tuple[str, ...]]
    withdrawn: tuple[str, ...] = ()

    def get(self, version: str) -> Version:
        """A version by its number. UserError, with the valid ones, for another."""
        for one in self.versions:
            if one.version == version:
                return one
        there = [one.version for one in self.versions]
        raise UserError(f"{self.name} has no version {version!r}: {suggestion(version, there)}")

    def at(self, commit: str) -> Version | None:
        """The version of a commit; None where it has none."""
        return next((one for one in self.versions if one.commit == commit), None)

    def holder(self, stage: str) -> Version | None:
        """The version that is in a stage now; None where none is."""
        return next((one for one in self.versions if stage in one.stages), None)

    def before(self, stage: str) -> Version | None:
        """The version that was in a stage before the present one; None where none was."""
        line, now = self.line.get(stage, ()), self.holder(stage)
        earlier = line[: line.index(now.version)] if now and now.version in line else line
        return self.get(earlier[-1]) if earlier else None

    def next(self, bump: str) -> str:
        """The number of a new version, v0.1.0 for the first. UserError for an unknown `bump`."""
        from gto.versions import SemVer

        if bump not in BUMPS:
            raise UserError(f"a version cannot be bumped by {bump!r}: {suggestion(bump, BUMPS)}")
        numbers = [*(one.version for one in self.versions), *self.withdrawn]
        if not numbers:
            return "v0.1.0"
        newest = max(map(SemVer, numbers))
        return str(newest.bump(**{f"bump_{one}": one == bump for one in BUMPS}).version)


def histories(root: Path) -> dict[str, History]:
    """Name → history of every model with version tags, sorted. UserError outside git."""
    from gto.tag import parse_name

    check_repository(root)
    tags: dict[str, list[_Tag]] = {}
    for line in git(root, "for-each-ref", "refs/tags", f"--format={_FORMAT}").splitlines():
        tag, commit, date = line.split("\0")
        parsed = parse_name(tag, raise_on_fail=False)
        if (
            parsed and commit
        ):  # neither another tag, nor a light one, which GTO does not count either
            tags.setdefault(parsed["name"], []).append(
                (parsed, commit, datetime.fromisoformat(date))
            )
    found = {name: _history(name, tags[name]) for name in sorted(tags)}
    return {name: one for name, one in found.items() if one is not None}


def _history(name: str, tags: Iterable[_Tag]) -> History | None:
    """The history that a model's tags make; None without the tag of a version."""
    from gto.constants import Action
    from gto.versions import SemVer

    registered: dict[str, tuple[str, datetime]] = {}  # version → commit, date
    withdrawn: dict[str, datetime] = {}
    events = []  # assignments of a stage to a commit, or their removal
    for tag, commit, date in tags:
        action = tag.get("action")
        if action is Action.REGISTER:
            registered[tag["version"]] = commit, date
        elif action is Action.DEREGISTER:
            withdrawn[tag["version"]] = date
        elif action in (Action.ASSIGN, Action.UNASSIGN):
            is_removal = action is Action.UNASSIGN
            events.append((tag.get("counter", 0), date, tag["stage"], commit, is_removal))
    if not registered:
        return None
    lost = {v for v, date in withdrawn.items() if v not in registered or date >= registered[v][1]}
    kept = {v: entry for v, entry in registered.items() if v not in lost}
    version_of = {commit: version for version, (commit, _) in kept.items()}
    lines: dict[str, list[str]] = {}
    assigned: dict[tuple[str, str], None] = {}  # stage and version, in the order of assignment
    for _, _, stage, commit, is_removal in sorted(events, key=lambda event: event[:2]):
        version = version_of.get(commit)
        if version is None:
            continue
        line = lines.setdefault(stage, [])
        assigned.pop((stage, version), None)
        if is_removal:
            line[:] = [one for one in line if one != version]
            continue
        assigned[stage, version] = None
        if version in line:  # assigned again: a rollback, what came after it is over
            del line[line.index(version) + 1 :]
        else:
            line.append(version)
    holders: dict[str, str] = {}  # stage → version, the last assignment first
    for stage, version in reversed(assigned):
        holders.setdefault(stage, version)
    versions = []
    for version in sorted(kept, key=SemVer, reverse=True):
        stages = tuple(stage for stage in reversed(holders) if holders[stage] == version)
        commit, date = kept[version]
        versions.append(Version(name, version, commit, date.isoformat(), stages))
    line_of = {stage: tuple(line) for stage, line in lines.items()}
    return History(name, tuple(versions), line_of, tuple(sorted(lost)))


def history(root: Path, name: str) -> History:
    """The history of one model; empty where nothing is registered."""
    return histories(root).get(name) or History(name, (), {})


def resolve(root: Path, selector: str) -> Version:
    """The version that `NAME@v0.1.0`, `NAME@latest` or `NAME@production` selects.

    UserError, with the valid ones, for an unknown name, version or stage, and a stage without a version.
    """
    name, _, wanted = selector.partition("@")
    found = histories(root)
    if name not in found:
        raise UserError(
            f"no version of {name!r} is registered here ({suggestion(name, found)}): `vidprompt register "
            f"{quote(name)} --stage candidate` registers one, `git fetch --tags` brings those of others"
        )
    one = found[name]
    if not one.versions:
        raise UserError(f"{name} has no version that is still registered")
    numbers = [version.version for version in one.versions]
    choices = [LATEST, *(stage for version in one.versions for stage in version.stages), *numbers]
    if not wanted:
        valid = ", ".join(f"{name}@{choice}" for choice in choices)
        raise UserError(f"{selector!r}: which version? {valid}")
    if wanted == LATEST:
        return one.versions[0]
    if wanted in numbers:
        return one.get(wanted)
    holder = one.holder(wanted)
    if holder is None:
        raise UserError(
            f"{name} has no version {wanted!r}, and none is in such a stage: {suggestion(wanted, choices)}"
        )
    return holder


def assign(version: Version, stage: str, root: Path, message: str) -> str:
    """Assign a stage to a version; the tag. UserError when it cannot be written."""
    from gto.constants import Action
    from gto.tag import name_tag, parse_name

    tags = git(root, "for-each-ref", "refs/tags", "--format=%(refname:strip=2)").splitlines()
    parsed = [one for tag in tags if (one := parse_name(tag, raise_on_fail=False))]
    counts = [one.get("counter", 0) for one in parsed if one["name"] == version.name]
    tag = name_tag(Action.ASSIGN, version.name, stage=stage, simple=True)
    return _write_tag(root, f"{tag}#{max(counts, default=0) + 1}", version.commit, message)


def register(revision: Revision, name: str, version: str, message: str) -> tuple[Version, str]:
    """Register a commit as a version; the version and its tag. UserError when it cannot be written."""
    from gto.constants import Action
    from gto.tag import name_tag

    tag = name_tag(Action.REGISTER, name, version=version, simple=True)
    _write_tag(revision.root, tag, revision.commit, message)
    return history(revision.root, name).get(version), tag


def _write_tag(root: Path, tag: str, commit: str, message: str) -> str:
    """Write an annotated tag; by git, whose reasons are whole when it cannot. UserError then."""
    from gto.tag import parse_name

    if not parse_name(tag, raise_on_fail=False):
        raise UserError(
            f"{tag!r} cannot be a tag of the registry: letters, digits, -, _ and / alone"
        )
    verbatim = ("--no-sign", "--cleanup=verbatim", f"--message={message}")
    git(root, "tag", "--annotate", *verbatim, "--", tag, commit)
    return tag
