"""Reads and writes versions and stages, which are git tags of GTO's.

`NAME@v0.1.0` is a version, `NAME#staging#2` assigns a stage to its commit. Tags are read from one
`git for-each-ref` and ordered by their numbers: dates have seconds, and two assignments within one would
have no order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from vidprompt.provenance.revision import Revision, check_repository, git
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

LATEST = "latest"
BUMPS = ("major", "minor", "patch")
_FORMAT = "%(refname:strip=2)%00%(*objectname)%00%(creatordate:iso-strict)"


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
class _Event:
    """The assignment of a stage to a commit, or (`cancels`) its removal."""

    number: int
    date: datetime
    stage: str
    commit: str
    cancels: bool


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
    from gto.constants import Action
    from gto.tag import parse_name

    check_repository(root)
    made: dict[str, dict[str, tuple[str, datetime]]] = {}
    gone: dict[str, dict[str, datetime]] = {}
    events: dict[str, list[_Event]] = {}
    for line in git(root, "for-each-ref", "refs/tags", f"--format={_FORMAT}").splitlines():
        tag, commit, date = line.split("\0")
        about = parse_name(tag, raise_on_fail=False)
        if not about or not commit:  # another tag, or a light one, which GTO does not count either
            continue
        name, action, when = about["name"], about.get("action"), datetime.fromisoformat(date)
        if action is Action.REGISTER:
            made.setdefault(name, {})[about["version"]] = (commit, when)
        elif action is Action.DEREGISTER:
            gone.setdefault(name, {})[about["version"]] = when
        elif action in (Action.ASSIGN, Action.UNASSIGN):
            event = _Event(
                about.get("counter", 0), when, about["stage"], commit, action is Action.UNASSIGN
            )
            events.setdefault(name, []).append(event)
    found = {}
    for name in sorted(made):
        lost = {
            v for v, when in gone.get(name, {}).items() if when >= made[name].get(v, ("", when))[1]
        }
        kept = {v: about for v, about in made[name].items() if v not in lost}
        found[name] = replace(
            _history(name, kept, events.get(name, [])), withdrawn=tuple(sorted(lost))
        )
    return found


def _history(name: str, made: dict[str, tuple[str, datetime]], events: Iterable[_Event]) -> History:
    from gto.versions import SemVer

    of_commit = {commit: version for version, (commit, _) in made.items()}
    in_order = sorted(events, key=lambda e: (e.number, e.date))
    lines: dict[str, list[str]] = {}
    current: dict[str, dict[str, int]] = {}  # stage → version → place of its last assignment
    for place, event in enumerate(in_order):
        version = of_commit.get(event.commit)
        if version is None:
            continue
        line, given = lines.setdefault(event.stage, []), current.setdefault(event.stage, {})
        if event.cancels:
            line[:] = [one for one in line if one != version]
        elif version in line:  # assigned again: a rollback, what came after it is over
            del line[line.index(version) + 1 :]
        else:
            line.append(version)
        given.pop(version, None)
        if not event.cancels:
            given[version] = place
    holders = {
        stage: max(given, key=lambda v: given[v]) for stage, given in current.items() if given
    }
    in_stages = sorted(holders, key=lambda stage: current[stage][holders[stage]])
    versions = [
        Version(
            name,
            version,
            commit,
            when.isoformat(),
            tuple(s for s in in_stages if holders[s] == version),
        )
        for version, (commit, when) in made.items()
    ]
    versions.sort(key=lambda one: SemVer(one.version), reverse=True)
    return History(name, tuple(versions), {stage: tuple(line) for stage, line in lines.items()})


def history(root: Path, name: str) -> History:
    """The history of one model; empty where nothing is registered."""
    return histories(root).get(name) or History(name, (), {})


def resolve(root: Path, selector: str) -> Version:
    """The version that `NAME@v0.1.0`, `NAME@latest` or `NAME@production` selects.

    UserError, with the valid ones, for an unknown name, version or stage, and a stage without a version.
    """
    name, at, wanted = selector.partition("@")
    found = histories(root)
    if name not in found:
        raise UserError(
            f"no version of {name!r} is registered here ({suggestion(name, found)}): `vidprompt register "
            f"{name} --stage candidate` registers one, `git fetch --tags` brings those of others"
        )
    one = found[name]
    if not one.versions:
        raise UserError(f"{name} has no version that is still registered")
    there = [version.version for version in one.versions]
    held = [stage for version in one.versions for stage in version.stages]
    if not at or not wanted:
        choices = ", ".join(f"{name}@{part}" for part in (LATEST, *held, *there))
        raise UserError(f"{selector!r}: which version? {choices}")
    if wanted == LATEST:
        return one.versions[0]
    if wanted in there:
        return one.get(wanted)
    holder = one.holder(wanted)
    if holder is None:
        choices = suggestion(wanted, [LATEST, *held, *there])
        raise UserError(f"{name} has no version {wanted!r}, and none is in such a stage: {choices}")
    return holder


def assign(version: Version, stage: str, root: Path, message: str) -> str:
    """Assign a stage to a version; the tag. UserError when it cannot be written."""
    import gto.api
    from gto.exceptions import GTOException
    from scmrepo.exceptions import SCMError

    try:
        made = gto.api.assign(
            str(root), version.name, stage, version=version.version, message=message, force=True
        )
    except (GTOException, SCMError) as error:
        raise UserError(f"{version.selector} cannot be given {stage}: {error}") from error
    return str(made.tag)


def register(revision: Revision, name: str, version: str, message: str) -> tuple[Version, str]:
    """Register a commit as a version; the version and its tag. UserError when it cannot be written."""
    import gto.api
    from gto.exceptions import GTOException
    from scmrepo.exceptions import SCMError

    root = revision.root
    try:
        made = gto.api.register(str(root), name, revision.commit, version=version, message=message)
    except (GTOException, SCMError) as error:
        raise UserError(f"{name} {version} cannot be registered: {error}") from error
    return history(root, name).get(version), str(made.tag)
