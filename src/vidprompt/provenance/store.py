"""What dvc.lock names by its MD5: from DVC's cache, from disk, and from remotes where that is asked for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from vidprompt.system.errors import UserError

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


class Store:
    """Files and folders' listings by MD5; nothing is checked out. Use it in a `with`.

    What a file holds has to have the MD5, wherever it comes from: a store may be part of what is reviewed.
    Remotes are those that are configured now. One that fails is not asked again. `failed` names these, and
    stores with a file that has another MD5 than its name.
    """

    def __init__(self, root: Path, remotes: bool = False) -> None:
        self.root, self._ask = root, remotes
        self._stack = ExitStack()
        self.failed: list[str] = []
        self._checked: dict[str, Path | None] = {}

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
        if not isinstance(md5, str) or not _MD5.fullmatch(md5):
            return None
        found = self._checked.get(md5) or self._on_disk(md5, on_disk)
        if found is None and md5 not in self._checked:
            found = self._checked[md5] = self._in_cache(md5) or self._from_remotes(md5)
        return found

    def _on_disk(self, md5: str, path: str) -> Path | None:
        there = self.root / path
        return there if path and there.is_file() and _has(there, md5) else None

    def _in_cache(self, md5: str) -> Path | None:
        cached = Path(self.repo.cache.local.oid_to_path(md5))
        if not cached.is_file():
            return None
        if _has(cached, md5):
            return cached
        self._damaged("the cache", md5)
        return None

    def _from_remotes(self, md5: str) -> Path | None:
        fetched = self._folder / md5
        for name in list(self._remotes):
            try:
                remote = self.repo.cloud.get_remote_odb(name)
                if not remote.exists(md5):
                    continue
                fetched.write_bytes(remote.fs.cat_file(remote.oid_to_path(md5)))
            except Exception as error:  # each kind of storage has its own: the next one may have it
                self._remotes.remove(name)
                self.failed.append(f"{name} ({type(error).__name__})")
                continue
            if _has(fetched, md5):
                return fetched
            self._damaged(name, md5)
        return None

    def _damaged(self, name: str, md5: str) -> None:
        self.failed.append(f"{name} (damaged: what it has as {md5} is not that)")

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


def _has(file: Path, md5: str) -> bool:
    """Is this the MD5 of its content? A folder's listing has it with `.dir` after it."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "md5").hexdigest() == md5.removesuffix(".dir")


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
