"""What DVC keeps of a revision: looked for in the cache and in every remote that is configured today."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vidprompt.atomic import replacing
from vidprompt.errors import UserError
from vidprompt.registry.revision import Revision, try_git


@contextmanager
def project(revision: Revision) -> Iterator[Any]:
    """The DVC project of a revision (a `dvc.repo.Repo`), with today's cache and remotes: those of an old
    revision may be gone. UserError where there is no DVC project."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    root = str(revision.root.absolute())
    try:
        with Repo(root) as now:
            settings = {key: dict(now.config[key]) for key in ("core", "cache", "remote")}
        repo = Repo(root, rev=revision.commit or None, config=settings)
    except DvcException as error:
        raise UserError(f"{root} is no project of DVC's: {error}") from error
    with repo:
        yield repo


def tracked_md5(revision: Revision, path: str) -> str | None:
    """The MD5 by which DVC keeps a file, None where it does not keep it; the file need not be here.

    UserError where it is in a folder that DVC keeps, and what that holds is nowhere to be read.
    """
    with project(revision) as repo:
        return _tracked(repo, revision, path)


def _tracked(repo: Any, revision: Revision, path: str) -> str | None:
    from dvc.exceptions import OutputNotFoundError

    full = repo.fs.join(repo.root_dir, *path.split("/"))
    try:
        out = repo.find_outs_by_path(full, strict=False)[0]
    except OutputNotFoundError:
        return None
    if not out.use_cache or not out.hash_info.value:
        return None
    if full == out.fs_path:
        return str(out.hash_info.value)
    inside = "/".join(repo.fs.relparts(full, out.fs_path))
    listed = json.loads(_content(repo, out.hash_info.value, str(out.def_path), revision))
    return next((str(one["md5"]) for one in listed if one["relpath"] == inside), None)


def remotes_with(revision: Revision, md5: str) -> tuple[list[str], list[str]]:
    """Remotes that have a file, and of the others that could not be asked `name: why`; sorted."""
    there, failed = [], []
    with project(revision) as repo:
        for name in sorted(repo.config["remote"]):
            try:
                store = repo.cloud.get_remote_odb(name, "register")
                if store.exists(md5) or _in_git(store, md5, revision):
                    there.append(name)
            except Exception as error:  # each kind of storage has its own
                failed.append(f"{name}: {_first(error)}")
    return there, failed


def remote_names(root: Path) -> list[str]:
    """The remotes configured now, the default one first."""
    with project(Revision(root)) as repo:
        default = repo.config["core"].get("remote")
        return sorted(repo.config["remote"], key=lambda name: (name != default, name))


def fetch(revision: Revision, path: str, to: Path) -> None:
    """Write a tracked file of a revision, whatever is checked out.

    It comes from git, DVC's cache, or any remote. UserError, with what was tried, where none has it.
    """
    with project(revision) as repo:
        md5 = _tracked(repo, revision, path)
        content = _content(repo, md5, path, revision) if md5 else revision.read(path)
    if content is None:
        raise UserError(f"{path} of {revision.shown} is tracked neither by DVC nor by git")
    with replacing(to) as temporary:
        temporary.write_bytes(content)


def _content(repo: Any, md5: str, path: str, revision: Revision) -> bytes:
    """An object of DVC's, from the first store that has it undamaged."""
    tried = []
    for name in ("", *sorted(repo.config["remote"])):
        where = name or "the cache"
        try:
            store = repo.cloud.get_remote_odb(name, "fetch") if name else repo.cache.local
            content = _read(store, md5, revision)
        except Exception as error:  # each kind of storage has its own: the next one may have it
            tried.append(f"{where} ({_first(error)})")
            continue
        if content is None:
            tried.append(where)
        elif hashlib.md5(content, usedforsecurity=False).hexdigest() != md5.partition(".")[0]:
            tried.append(f"{where} (damaged)")
        else:
            return content
    raise UserError(
        f"{path} of {revision.shown} is nowhere (looked in {', '.join(tried)}): where it was made, "
        f"`dvc push -r REMOTE {path}` with {revision.shown} checked out"
    )


def _read(store: Any, md5: str, revision: Revision) -> bytes | None:
    """An object's bytes, None where a store has it not."""
    if store.exists(md5):
        return bytes(store.fs.cat_file(store.oid_to_path(md5)))
    path = _in_git(store, md5, revision)
    return revision.read(path) if path else None


def _in_git(store: Any, md5: str, revision: Revision) -> str | None:
    """Where a store that is a folder of the repository has an object in the revision's commit: on disk it
    has those of what is checked out."""
    if store.fs.protocol != "local":
        return None
    path, root = Path(store.oid_to_path(md5)), revision.root.absolute()
    if not revision.commit or not path.is_relative_to(root):
        return None
    inside = path.relative_to(root).as_posix()
    return (
        inside
        if try_git(root, "cat-file", "-e", f"{revision.commit}:./{inside}") is not None
        else None
    )


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
