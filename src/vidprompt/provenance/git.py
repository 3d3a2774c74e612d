"""Runs git in a repository: its output, or its own reason where it cannot read the repository."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from vidprompt.system.errors import UserError

# English messages; nothing is written where it is only read, as an index in another user's repository
_ENVIRONMENT = {"LC_ALL": "C", "LANGUAGE": "", "GIT_OPTIONAL_LOCKS": "0"}
_NO_PASSWORD = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "SSH_ASKPASS": "true"}
_NO_REPOSITORY = re.compile(r"not a git repository \(or any")
LONGEST = 600  # characters of git's reason


def git(root: Path, *arguments: str) -> str:
    """What a git command prints. UserError with git's reason when it fails."""
    done = _run(root, *arguments)
    if done.returncode:
        command = " ".join(arguments[2:4] if arguments[0] == "-c" else arguments[:2])
        raise UserError(f"git {command} failed in {root.absolute()}: {_reason(done.stderr)}")
    return done.stdout.decode(errors="replace")


def try_git(root: Path, *arguments: str) -> bytes | None:
    """What a git command prints; None when it fails, as for an unknown name, or outside a repository.

    UserError where git is not installed or does not read the repository, with its reason.
    """
    done = _run(root, *arguments)
    if done.returncode == 0:
        return done.stdout
    if done.returncode != 1:  # which is an answer: there is no such thing
        _check_readable(root)
    return None


def read_remote(root: Path, *arguments: str, timeout_s: float) -> str:
    """What a git command prints that asks a remote, without a password. UserError when it fails."""
    try:
        done = _run(root, *arguments, timeout_s=timeout_s, environment=_NO_PASSWORD)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"no answer within {timeout_s:g} s") from error
    if done.returncode:
        raise UserError(_reason(done.stderr))
    return done.stdout.decode(errors="replace")


def find_commit(root: Path, name: str) -> str | None:
    """The full name of the commit that `name` (branch, tag, hash) is; None for an unknown name."""
    options = ("--verify", "--quiet", "--end-of-options")
    commit = try_git(root, "rev-parse", *options, f"{name}^{{commit}}")
    return commit.decode().strip() if commit else None


def is_repository(root: Path) -> bool:
    """Whether a folder is in a git repository. UserError as `try_git`."""
    return try_git(root, "rev-parse", "--git-dir") is not None


def check_repository(root: Path) -> None:
    """UserError where there is no git repository: versions are its tags."""
    if not is_repository(root):
        raise UserError(
            f"{root.absolute()} is no git repository, and models are registered as tags of one: "
            "run this in a clone"
        )


def check_identity(root: Path) -> None:
    """UserError where git has no name and e-mail address for a tag's maker, but would guess them."""
    try:
        git(root, "-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
    except UserError as error:
        reason = str(error).rpartition("; ")[2]
        raise UserError(
            f"git does not know who writes the tags ({reason}): `git config user.name NAME` and "
            "`git config user.email ADDRESS`, with --global for all of your repositories"
        ) from error


def shallow_note(root: Path) -> str:
    """To be added to a message on a missing commit: that the clone is shallow, where it is; else nothing."""
    shallow = try_git(root, "rev-parse", "--is-shallow-repository") or b""
    if shallow.strip() != b"true":
        return ""
    return " (this clone is shallow: `git fetch --unshallow` brings the rest of the history)"


def changed_files(root: Path) -> list[str]:
    """Files that differ from HEAD or are not committed, relative to the repository; sorted."""
    status = git(root, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all")
    return sorted(entry[3:] for entry in status.split("\0") if entry)


def _check_readable(root: Path) -> None:
    """UserError where there is a repository that git does not read: of another user, damaged, not allowed."""
    done = _run(root, "rev-parse", "--git-dir")
    if done.returncode == 0 or _NO_REPOSITORY.search(done.stderr.decode(errors="replace")):
        return
    reason = _reason(done.stderr)
    if "config --global" in reason and not os.environ.get("HOME"):
        reason += " (it writes to the home folder, and HOME is not set: set it, or use --system)"
    raise UserError(f"git does not read the repository of {root.absolute()}: {reason}")


def _reason(stderr: bytes) -> str:
    """Git's message on one line, without its hints."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines()]
    kept = [re.sub("^(fatal|error): ", "", one) for one in lines if not one.startswith("hint:")]
    text = "; ".join(one for one in kept if one).replace(":; ", ": ")
    return text[:LONGEST] or "no reason given"


def _run(
    root: Path,
    *arguments: str,
    timeout_s: float | None = None,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL if timeout_s else None,
            env=os.environ | _ENVIRONMENT | (environment or {}),
        )
    except (FileNotFoundError, PermissionError) as error:
        raise UserError("git is not installed: revisions and tags are read with it") from error
