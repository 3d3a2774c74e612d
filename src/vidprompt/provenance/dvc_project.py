"""Reads a revision's DVC project: tracked files and their objects in the cache and the remotes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from vidprompt.files.atomic import replacing
from vidprompt.provenance.git import try_git
from vidprompt.provenance.revision import Revision
from vidprompt.system.errors import UserError, first_line

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
CACHE = "the cache"


class DvcProject:
    """The DVC project of a revision, and the reader of DVC's objects. Use it in a `with`.

    Cache and remotes are those that are configured now: those of an old revision may be gone. An object
    counts only if its content has its MD5, since a store may be part of what is judged. A remote that fails
    is not read again. UserError where there is no DVC project, or DVC cannot read it.

    Args:
        revision: whose pipeline it is; a remote inside the repository is also read from its commit.
        remotes: False to look for objects on disk and in the cache only.
    """

    def __init__(self, revision: Revision, *, remotes: bool = True) -> None:
        self.revision, self.root = revision, revision.root.absolute()
        self.errors: dict[str, Exception] = {}  # remote → why it could not be read
        self.damaged: list[tuple[str, str]] = []  # store, MD5 of an object with other content
        self._use_remotes = remotes
        self._stack = ExitStack()
        self._files: dict[str, Path | None] = {}
        self._listings: dict[str, dict[str, str] | None] = {}

    def __enter__(self) -> DvcProject:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        root, config = str(self.root), None
        try:
            if self.revision.commit:
                with Repo(root) as now:
                    config = {key: dict(now.config[key]) for key in ("core", "cache", "remote")}
            repo = Repo(root, rev=self.revision.commit or None, config=config)
        except DvcException as error:
            raise UserError(f"DVC has no project in {root}: {first_line(error)}") from error
        self.repo: Any = self._stack.enter_context(repo)
        self._remotes = sorted(repo.config["remote"]) if self._use_remotes else []
        self._folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="vidprompt-")))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        from dvc.exceptions import DvcException

        self._stack.close()
        if isinstance(error, DvcException):  # a dvc.lock with merge conflicts, for one
            raise self.unreadable(error) from error

    def unreadable(self, error: Exception) -> UserError:
        """What to raise where DVC cannot read the revision's files."""
        return UserError(
            f"DVC cannot read {self.revision.label} ({first_line(error)}): correct dvc.yaml and dvc.lock"
        )

    # -- objects --

    def find(self, md5: str, path: str = "") -> Path | None:
        """A file whose content has this MD5: at `path` on disk, in the cache, or from a remote.

        None where no store has it. It may lie in a temporary folder of this project's.
        """
        if not isinstance(md5, str) or not _MD5.fullmatch(md5):
            return None
        if (file := self._files.get(md5)) is not None:
            return file
        on_disk = self.root / path
        if path and has_md5(on_disk, md5):
            return on_disk
        if md5 not in self._files:
            cached = Path(self.repo.cache.local.oid_to_path(md5))
            checked = self._checked(CACHE, cached, md5) if cached.is_file() else None
            self._files[md5] = checked or self._in_remotes(md5)
        return self._files[md5]

    def _in_remotes(self, md5: str) -> Path | None:
        for name in self._remotes:
            if name in self.errors:
                continue
            copy = self._folder / md5
            try:
                store = self.repo.cloud.get_remote_odb(name)
                if store.exists(md5):
                    store.fs.get_file(store.oid_to_path(md5), str(copy))
                elif path := path_in_git(store, md5, self.revision):
                    copy.write_bytes(self.revision.read(path) or b"")
                else:
                    continue
            except Exception as error:  # each kind of storage has its own; try the next one
                self.errors[name] = error
                continue
            if file := self._checked(name, copy, md5):
                return file
        return None

    def _checked(self, store: str, file: Path, md5: str) -> Path | None:
        if has_md5(file, md5):
            return file
        self.damaged.append((store, md5))
        return None

    @property
    def problems(self) -> tuple[str, ...]:
        """A line for each remote that failed and each damaged object."""
        failed = (f"{name} ({type(error).__name__})" for name, error in self.errors.items())
        damaged = (
            f"{name} (damaged: what it has as {md5} is not that)" for name, md5 in self.damaged
        )
        return *failed, *damaged

    def searched(self, md5: str) -> str:
        """The stores that `find` looked in for an object that it did not find, with their problems."""
        shown = []
        for name in (CACHE, *self._remotes):
            if (name, md5) in self.damaged:
                shown.append(f"{name} (damaged)")
            elif name in self.errors:
                shown.append(f"{name} ({first_line(self.errors[name])})")
            else:
                shown.append(name)
        return ", ".join(shown)

    def listing(self, md5: str) -> dict[str, str] | None:
        """The files of a folder (`….dir`), path in it → MD5; None where no store has the listing."""
        if md5 not in self._listings:
            file = self.find(md5) if str(md5).endswith(".dir") else None
            try:
                entries = json.loads(file.read_bytes()) if file else None
                self._listings[md5] = (
                    None if entries is None else {str(e["relpath"]): str(e["md5"]) for e in entries}
                )
            except (ValueError, KeyError, TypeError):
                self._listings[md5] = None
        return self._listings[md5]

    def find_in_folder(self, folder_md5: str, folder: str, name: str) -> Path | None:
        """The file `name` of a tracked `folder` whose listing has an MD5 (empty: None)."""
        md5 = (self.listing(folder_md5) or {}).get(name)
        return self.find(md5, f"{folder}/{name}") if md5 else None

    # -- tracked files --

    def tracked_md5(self, path: str) -> str | None:
        """The MD5 by which DVC tracks a file of the revision; None where it does not track it.

        UserError where the file lies in a tracked folder whose listing no store has.
        """
        md5s = self.tracked_objects(path)
        return md5s[-1] if md5s else None

    def tracked_objects(self, path: str) -> tuple[str, ...]:
        """MD5s of all objects that a tracked file needs: of its folder's listing, if any, and its own.

        Empty where DVC does not track the file. UserError as `tracked_md5`.
        """
        from dvc.exceptions import OutputNotFoundError

        full = self.repo.fs.join(self.repo.root_dir, *path.split("/"))
        try:
            out = self.repo.find_outs_by_path(full, strict=False)[0]
        except OutputNotFoundError:
            return ()
        if not out.use_cache or not out.hash_info.value:
            return ()
        whole = str(out.hash_info.value)
        if full == out.fs_path:
            return (whole,)
        entries = self.listing(whole)
        if entries is None:
            raise self._nowhere(whole, str(out.def_path))
        md5 = entries.get("/".join(self.repo.fs.relparts(full, out.fs_path)))
        return (whole, md5) if md5 else ()

    def tracks(self, path: str) -> bool:
        """Whether DVC or git tracks a file of the revision."""
        return self.tracked_md5(path) is not None or self.revision.read(path) is not None

    def copy(self, path: str, target: Path) -> None:
        """Write a tracked file of the revision to `target`, from DVC's stores or from git.

        UserError where DVC and git do not track it, and, with the stores, where none has it.
        """
        md5 = self.tracked_md5(path)
        if md5 is not None:
            file = self.find(md5, path)
            if file is None:
                raise self._nowhere(md5, path)
            with replacing(target) as temporary:
                shutil.copyfile(file, temporary)
            return
        content = self.revision.read(path)
        if content is None:
            raise UserError(f"{path} of {self.revision.label} is tracked neither by DVC nor by git")
        with replacing(target) as temporary:
            temporary.write_bytes(content)

    def _nowhere(self, md5: str, path: str) -> UserError:
        label = self.revision.label
        return UserError(
            f"{path} of {label} is nowhere (looked in {self.searched(md5)}): where it was made, "
            f"`dvc push -r REMOTE {quote(path)}` with {label} checked out"
        )


def has_md5(file: Path, md5: str) -> bool:
    """Whether it is a file with this MD5 (a folder's listing: with `.dir` after it)."""
    return file.is_file() and file_md5(file) == md5.removesuffix(".dir")


def file_md5(file: Path) -> str:
    """The MD5 of a file's bytes, by which DVC names it."""
    with file.open("rb") as content:
        hashed = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False))
    return hashed.hexdigest()


def path_in_git(store: Any, md5: str, revision: Revision) -> str | None:
    """Where the revision's commit has an object of a remote that is a folder of the repository.

    None for another remote, an object that the commit lacks, or a revision without a commit.
    """
    if store.fs.protocol != "local" or not revision.commit:
        return None
    path, root = Path(store.oid_to_path(md5)), revision.root.absolute()
    if not path.is_relative_to(root):
        return None
    inside = path.relative_to(root).as_posix()
    tracked = try_git(root, "cat-file", "-e", f"{revision.commit}:./{inside}") is not None
    return inside if tracked else None


def tree_md5(files: dict[str, str]) -> str:
    """The MD5 (`….dir`) that DVC gives a folder of these files (path in it → MD5)."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.tree import Tree

    tree = Tree()
    for path, md5 in files.items():
        tree.add(tuple(path.split("/")), Meta(), HashInfo("md5", md5))
    tree.digest()
    return str(tree.hash_info.value)
