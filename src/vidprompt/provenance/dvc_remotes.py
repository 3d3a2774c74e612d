"""Whether others can get what a model is loaded from: the remotes that the repository itself configures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprompt.provenance.dvc_project import DvcProject, first_line, path_in_git
from vidprompt.provenance.revision import Revision, find_commit


@dataclass(frozen=True)
class Remotes:
    """Names, sorted. `there` have all that was asked for; `own` have it too, but only this machine knows
    them; `failed` could not be asked (`name: why`); `damaged` hold other bytes under its name."""

    there: tuple[str, ...]
    own: tuple[str, ...]
    failed: tuple[str, ...]
    damaged: tuple[str, ...]


def remotes_with(
    project: DvcProject, wanted: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Remotes], tuple[str, ...]]:
    """Path → which remotes have all of its objects; and the names of those that the repository
    configures, the default one first.

    Files are read where a remote is a folder, whose content may be anything; of another kind of storage
    it counts that the object is there. A folder in the repository has what git has of it.
    """
    found: dict[str, dict[str, list[str]]] = {
        path: {key: [] for key in ("there", "own", "failed", "damaged")} for path in wanted
    }
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
                said = f"{name}: {_relative(first_line(error), revision.root)}"
                found[path]["failed"].append(said)
                continue
            if "damaged" in states:
                found[path]["damaged"].append(name)
            elif states == {"there"}:
                found[path]["there" if shared.get(name) == url else "own"].append(name)
    remotes = {
        path: Remotes(**{key: tuple(names) for key, names in about.items()})
        for path, about in found.items()
    }
    return remotes, tuple(sorted(shared, key=lambda name: (name != default, name)))


def _shared(root: Path) -> dict[str, str]:
    """Name → URL, as .dvc/config has it: others have no .dvc/config.local, and not this user's settings."""
    from dvc.config import Config

    remotes = Config(str(root.absolute() / ".dvc"), validate=False).load_one("repo")["remote"]
    return {name: str(about.get("url", "")) for name, about in remotes.items()}


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
    return "there" if any(_matches(content, md5) for content in contents) else "damaged"


def _matches(content: bytes, md5: str) -> bool:
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == md5.removesuffix(".dir")


def _relative(text: str, root: Path) -> str:
    """Paths of this machine are of no use to who reads a tag."""
    return text.replace(f"{root.absolute()}/", "")
