"""What dvc.lock names by its MD5: from DVC's cache, from disk, and from remotes where that is asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from vidprompt.errors import UserError


class Store:
    """Files and folders' listings by MD5; nothing is checked out. Use it in a `with`.

    Remotes are those that are configured now. One that fails is not asked again: `failed` names it.
    """

    def __init__(self, root: Path, remotes: bool = False) -> None:
        self.root, self._ask = root, remotes
        self._stack = ExitStack()
        self.failed: list[str] = []

    def __enter__(self) -> Store:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            self.repo = self._stack.enter_context(Repo(str(self.root)))
        except DvcException as error:
            raise UserError(f"DVC has no project here: {first_line(error)}") from error
        self._folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="review-")))
        self._remotes = sorted(self.repo.config["remote"]) if self._ask else []
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stack.close()

    def file(self, md5: str, on_disk: str = "") -> Path | None:
        """A file with this MD5; `on_disk` is where it may lie in the workspace. None: nowhere."""
        if not md5:
            return None
        local = self.repo.cache.local
        cached = Path(local.oid_to_path(md5))
        if cached.is_file():
            return cached
        there = self.root / on_disk
        if on_disk and there.is_file():
            with there.open("rb") as file:
                if hashlib.file_digest(file, "md5").hexdigest() == md5:
                    return there
        return self._from_remotes(md5)

    def _from_remotes(self, md5: str) -> Path | None:
        fetched = self._folder / md5
        if fetched.is_file():
            return fetched
        for name in list(self._remotes):
            try:
                remote = self.repo.cloud.get_remote_odb(name)
                if remote.exists(md5):
                    fetched.write_bytes(remote.fs.cat_file(remote.oid_to_path(md5)))
                    return fetched
            except Exception as error:  # each kind of storage has its own: the next one may have it
                self._remotes.remove(name)
                self.failed.append(f"{name} ({type(error).__name__})")
        return None

    def listing(self, md5: str) -> dict[str, str] | None:
        """Of a folder (`….dir`): the files in it, path → MD5. None where it is not to be had."""
        file = self.file(md5) if md5.endswith(".dir") else None
        if file is None:
            return None
        try:
            entries: list[dict[str, Any]] = json.loads(file.read_bytes())
            return {entry["relpath"]: entry["md5"] for entry in entries}
        except (ValueError, KeyError, TypeError):
            return None

    def inside(self, recorded: dict[str, str], folder: str, name: str) -> Path | None:
        """The file `name` of a folder that dvc.lock records."""
        found = self.listing(recorded.get(folder, "")) or {}
        return self.file(found[name], f"{folder}/{name}") if name in found else None


def tree_md5(files: dict[str, str]) -> str:
    """What DVC calls a folder of these files (path in it → MD5)."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.tree import Tree

    tree = Tree()
    for path, md5 in files.items():
        tree.add(tuple(path.split("/")), Meta(), HashInfo("md5", md5))
    tree.digest()
    return str(tree.hash_info.value)


def below(path: str, folder: str) -> bool:
    """Does it lie in the folder?"""
    return path.startswith(f"{folder}/")


def first_line(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0]


def each_parent(path: str) -> Iterator[str]:
    """`a/b/c` → `a/b`, `a`."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
