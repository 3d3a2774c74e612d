"""Checks and pushes the model tags of a git remote: without them it is not known what is in a stage."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from vidprompt.provenance.git import git, read_remote, try_git
from vidprompt.registry.checks import Check
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import first_names

logger = logging.getLogger(__name__)

REMOTE = "origin"
SECONDS = 30  # for an answer


def check_tags(root: Path, name: str) -> Check:
    """Whether all versions and stages of a model that origin has are here, and the same.

    Not done where there is no such remote, or it does not answer.
    """
    subject, required = f"{REMOTE}'s of {name}", "all here"
    if try_git(root, "remote", "get-url", REMOTE) is None:
        return Check("tags", subject, f"there is no {REMOTE}", required, was_done=False)
    patterns = (f"refs/tags/{name}@*", f"refs/tags/{name}#*")
    try:
        listed = read_remote(root, "ls-remote", "--tags", REMOTE, *patterns, timeout_s=SECONDS)
    except UserError as error:  # in the log alone: a check's text becomes the tag's message
        logger.warning(f"{REMOTE} cannot be read: {error}")
        return Check("tags", subject, f"{REMOTE} does not answer", required, was_done=False)
    there = _tags(listed, patterns)
    here = _tags(git(root, "for-each-ref", "--format=%(objectname)%09%(refname)"), patterns)
    missing = sorted(tag for tag in there if here.get(tag) != there[tag])
    if not missing:
        return Check("tags", subject, f"{len(there)} of {len(there)}", required)
    problem = (
        f"{len(missing)} of {REMOTE}'s {len(there)} tags of {name} are not here or are others here "
        f"({first_names(missing, 3)}), so it is not known what is in "
        "a stage: `git fetch --tags`, with `--force` where one was moved"
    )
    return Check("tags", subject, f"{len(there) - len(missing)} of {len(there)}", required, problem)


def _tags(lines: str, patterns: Sequence[str]) -> dict[str, str]:
    """Tag → object of lines with both, without the commits that tags point to (`^{}`)."""
    starts, found = tuple(pattern.removesuffix("*") for pattern in patterns), {}
    for line in lines.splitlines():
        commit, _, ref = line.partition("\t")
        if ref.startswith(starts) and not ref.endswith("^{}"):
            found[ref.removeprefix("refs/tags/")] = commit
    return found


def push(root: Path, tags: Sequence[str]) -> None:
    """Push tags, all or none, with their commits to origin. UserError when it refuses."""
    try:
        git(root, "push", "--quiet", "--atomic", REMOTE, *(f"refs/tags/{tag}" for tag in tags))
    except UserError as error:
        raise UserError(
            f"the tags are made, but {REMOTE} did not take them: `{push_command(tags)}` ({error})"
        ) from error


def push_command(tags: Sequence[str]) -> str:
    """The command that pushes tags, all or none, for a shell."""
    return shlex.join(["git", "push", "--atomic", REMOTE, *tags])


def check_remote(root: Path) -> None:
    """UserError where git has no remote origin."""
    if try_git(root, "remote", "get-url", REMOTE) is None:
        raise UserError(
            f"git has no remote {REMOTE!r} to push tags to: leave --push out, or add it"
        )
