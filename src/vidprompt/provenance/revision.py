"""A project as it lies on disk, or as a commit of git has it: the same files are asked for either way."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vidprompt.system.errors import DataError, UserError


@dataclass(frozen=True)
class Revision:
    """`root` is the project's folder, `commit` a full name; empty: as on disk."""

    root: Path
    commit: str = ""

    @property
    def shown(self) -> str:
        """For a sentence: the short commit, or the workspace."""
        return self.commit[:7] or "the workspace"

    def read(self, path: str) -> bytes | None:
        """A file's bytes, None where there is none. `path` is POSIX, relative to the root."""
        if self.commit:
            return try_git(self.root, "show", f"{self.commit}:./{path}")
        file = self.root / path
        return file.read_bytes() if file.is_file() else None

    def yaml(self, path: str) -> dict[str, Any]:
        """A YAML file's mapping, empty where there is no file. UserError when it is none."""
        try:
            content = yaml.safe_load(self.read(path) or b"")
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            first = str(error).splitlines()[0]
            raise UserError(f"{path} of {self.shown} is not YAML: {first}") from error
        if content is not None and not isinstance(content, dict):
            raise UserError(f"{path} of {self.shown} is not a mapping")
        return content or {}

    def json(self, path: str) -> dict[str, Any] | None:
        """A JSON file's mapping, None where there is no file. DataError when it is none."""
        content = self.read(path)
        if content is None:
            return None
        try:
            found = json.loads(content)
            if not isinstance(found, dict):
                raise TypeError("it is not a mapping")
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{path} of {self.shown} cannot be read ({error}): run `dvc repro`"
            ) from error
        return found

    def files(self, folder: str) -> list[str]:
        """All files below a folder, as paths of the root, sorted."""
        if self.commit:
            names = ("ls-tree", "-r", "-z", "--name-only", self.commit, "--", f"{folder}/")
            listed = (try_git(self.root, *names) or b"").decode().split("\0")
            return sorted(name for name in listed if name)
        found = (self.root / folder).rglob("*")
        return sorted(p.relative_to(self.root).as_posix() for p in found if p.is_file())


def head(root: Path) -> Revision:
    """The commit that is checked out. UserError outside git, or before the first commit."""
    check_repository(root)
    found = try_git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if found is None:
        raise UserError(f"{root.absolute()} has no commit: a version is one, so commit first")
    return Revision(root, found.decode().strip())


def check_repository(root: Path) -> None:
    """UserError where there is no git repository: versions are its tags."""
    if try_git(root, "rev-parse", "--git-dir") is None:
        raise UserError(
            f"{root.absolute()} is no git repository, and models are registered as tags of one: "
            "run this in a clone"
        )


def changed_files(root: Path) -> list[str]:
    """What is not as committed, or not committed at all, relative to the repository; sorted."""
    status = git(root, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all")
    return sorted(entry[3:] for entry in status.split("\0") if entry)


def git(root: Path, *arguments: str) -> str:
    """What git prints. UserError with its last line when it fails."""
    done = _git(root, *arguments)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise UserError(f"git {' '.join(arguments[:2])} failed in {root.absolute()}: {said[-1]}")
    return done.stdout.decode()


def try_git(root: Path, *arguments: str) -> bytes | None:
    """What git prints, None when it fails."""
    done = _git(root, *arguments)
    return done.stdout if done.returncode == 0 else None


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True)
    except FileNotFoundError as error:
        raise UserError("git is not installed: models are registered as its tags") from error
