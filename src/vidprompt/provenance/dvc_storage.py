"""What DVC keeps of a revision: looked for in the cache and in every remote that is configured today."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from vidprompt.files.atomic import replacing
from vidprompt.provenance.revision import Revision, try_git
from vidprompt.system.errors import UserError

_held: ContextVar[tuple[tuple[str, str], Any] | None] = ContextVar("_held", default=None)


@contextmanager
def project(revision: Revision) -> Iterator[Any]:
    """The DVC project of a revision (a `dvc.repo.Repo`), with today's cache and remotes: those of an old
    revision may be gone. Inside another `with` of the same revision it is that one, which has read dvc.lock
    already. UserError where there is no DVC project, or one that DVC cannot read."""
    from dvc.exceptions import DvcException

    try:
        with _opened(revision) as repo:
            yield repo
    except DvcException as error:  # a dvc.lock with marks of a merge, and what else it cannot read
        raise UserError(
            f"DVC cannot read {revision.shown} ({first_line(error)}): mend dvc.yaml and dvc.lock"
        ) from error


@contextmanager
def _opened(revision: Revision) -> Iterator[Any]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    root = str(revision.root.absolute())
    held = _held.get()
    if held is not None and held[0] == (root, revision.commit):
        yield held[1]
        return
    try:
        with Repo(root) as now:
            settings = {key: dict(now.config[key]) for key in ("core", "cache", "remote")}
        repo = Repo(root, rev=revision.commit or None, config=settings)
    except DvcException as error:
        raise UserError(f"{root} is no project of DVC's: {error}") from error
    with repo:
        token = _held.set(((root, revision.commit), repo))
        try:
            yield repo
        finally:
            _held.reset(token)


def tracked_md5(revision: Revision, path: str) -> str | None:
    """The MD5 by which DVC keeps a file, None where it does not keep it; the file need not be here.

    UserError where it is in a folder that DVC keeps, and what that holds is nowhere to be read.
    """
    with project(revision) as repo:
        return _tracked(repo, revision, path)


def objects(revision: Revision, paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Path → all that DVC needs to give it out: its MD5, before it that of the folder that it lies in.

    Empty where DVC does not keep it. UserError as `tracked_md5`.
    """
    found: dict[str, tuple[str, ...]] = {}
    with project(revision) as repo:
        for path in paths:
            md5, out = _tracked(repo, revision, path), _out(repo, path)
            whole = str(out.hash_info.value) if out else ""
            found[path] = () if md5 is None else (md5,) if md5 == whole else (whole, md5)
    return found


def _out(repo: Any, path: str) -> Any:
    """The output that a file is, or lies in; None where there is none."""
    from dvc.exceptions import OutputNotFoundError

    try:
        return repo.find_outs_by_path(repo.fs.join(repo.root_dir, *path.split("/")), strict=False)[
            0
        ]
    except OutputNotFoundError:
        return None


def _tracked(repo: Any, revision: Revision, path: str) -> str | None:
    out = _out(repo, path)
    if out is None or not out.use_cache or not out.hash_info.value:
        return None
    full = repo.fs.join(repo.root_dir, *path.split("/"))
    if full == out.fs_path:
        return str(out.hash_info.value)
    inside = "/".join(repo.fs.relparts(full, out.fs_path))
    listed = json.loads(_content(repo, out.hash_info.value, str(out.def_path), revision))
    return next((str(one["md5"]) for one in listed if one["relpath"] == inside), None)


def listing(repo: Any, md5: str, revision: Revision, failed: set[str]) -> dict[str, str] | None:
    """Of a folder (`….dir`) the files in it, path → MD5; None where it is nowhere to be had.

    `failed` gathers the remotes that could not be asked, and they are not asked again.
    """
    try:
        entries = json.loads(_content(repo, md5, md5, revision, failed))
        return {str(entry["relpath"]): str(entry["md5"]) for entry in entries}
    except (UserError, ValueError, KeyError, TypeError):
        return None


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


def _content(
    repo: Any, md5: str, path: str, revision: Revision, failed: set[str] | None = None
) -> bytes:
    """An object of DVC's, from the first store that has it undamaged and is not in `failed`."""
    tried = []
    for name in ("", *sorted({*repo.config["remote"]} - (failed or set()))):
        where = name or "the cache"
        try:
            store = repo.cloud.get_remote_odb(name, "fetch") if name else repo.cache.local
            content = _read(store, md5, revision)
        except Exception as error:  # each kind of storage has its own: the next one may have it
            tried.append(f"{where} ({first_line(error)})")
            if failed is not None and name:
                failed.add(name)
            continue
        if content is None:
            tried.append(where)
        elif not matches(content, md5):
            tried.append(f"{where} (damaged)")
        else:
            return content
    raise UserError(
        f"{path} of {revision.shown} is nowhere (looked in {', '.join(tried)}): where it was made, "
        f"`dvc push -r REMOTE {path}` with {revision.shown} checked out"
    )


def matches(content: bytes, md5: str) -> bool:
    """Is it what DVC calls by this MD5 (`….dir`: a listing)?"""
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == md5.partition(".")[0]


def _read(store: Any, md5: str, revision: Revision) -> bytes | None:
    """An object's bytes, None where a store has it not."""
    if store.exists(md5):
        return bytes(store.fs.cat_file(store.oid_to_path(md5)))
    path = in_git(store, md5, revision)
    return revision.read(path) if path else None


def in_git(store: Any, md5: str, revision: Revision) -> str | None:
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


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
