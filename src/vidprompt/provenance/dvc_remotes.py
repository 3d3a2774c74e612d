"""Finds which DVC remotes have all objects of a file, and which of them others can reach."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidprompt.provenance.dvc_project import DvcProject, path_in_git
from vidprompt.provenance.git import find_commit
from vidprompt.provenance.revision import Revision
from vidprompt.system.errors import first_line


@dataclass(frozen=True)
class Remotes:
    """Remotes by what they have of a file, sorted names.

    `complete` have all of its objects; `local` too, but only this machine's configuration names them;
    `failed` could not be read (`name: why`); `damaged` have an object with other content.
    """

    complete: list[str] = field(default_factory=list)
    local: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def remotes_with(
    project: DvcProject, wanted: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Remotes], tuple[str, ...]]:
    """Path → the remotes by what they have of its objects; and the repository's remotes, the default first.

    `wanted`: path → MD5s. Objects of a remote that is a folder are read, since it may hold anything; of
    other storage it counts that they exist. A folder of the repository has what git has of it.
    """
    found = {path: Remotes() for path in wanted}
    revision, repo = project.revision, project.repo
    shared = _shared(revision.root)
    default = repo.config["core"].get("remote")
    for name in sorted(repo.config["remote"]):
        url = str(repo.config["remote"][name].get("url", ""))
        for path, md5s in wanted.items():
            try:
                store = repo.cloud.get_remote_odb(name, "register")
                states = {_state(store, md5, revision) for md5 in md5s}
            except Exception as error:  # each kind of storage has its own
                # tags have it as their message, so without this machine's path of the repository
                line = first_line(error).replace(f"{revision.root.absolute()}/", "")
                found[path].failed.append(f"{name}: {line}")
                continue
            if "damaged" in states:
                found[path].damaged.append(name)
            elif states == {"there"}:
                is_shared = shared.get(name) == url
                (found[path].complete if is_shared else found[path].local).append(name)
    return found, tuple(sorted(shared, key=lambda name: (name != default, name)))


def _shared(root: Path) -> dict[str, str]:
    """Name → URL by .dvc/config alone: others have no .dvc/config.local, and not this user's settings."""
    from dvc.config import Config

    remotes = Config(str(root.absolute() / ".dvc"), validate=False).load_one("repo")["remote"]
    return {name: str(settings.get("url", "")) for name, settings in remotes.items()}


def _state(store: Any, md5: str, revision: Revision) -> str:
    """`there`, `missing` or `damaged`."""
    if store.fs.protocol != "local":
        return "there" if store.exists(md5) else "missing"
    file, root = Path(store.oid_to_path(md5)), revision.root.absolute()
    head = find_commit(root, "HEAD")
    if head is None or not file.is_relative_to(root):
        contents = [file.read_bytes()] if file.is_file() else []
    else:
        commits = [Revision(root, commit) for commit in sorted({revision.commit or head, head})]
        found = [(one, path_in_git(store, md5, one)) for one in commits]
        contents = [one.read(path) or b"" for one, path in found if path]
    if not contents:
        return "missing"
    hashes = {hashlib.md5(content, usedforsecurity=False).hexdigest() for content in contents}
    return "there" if md5.removesuffix(".dir") in hashes else "damaged"
