"""The two sides of a review: base, a commit of git, and head, the project as it lies on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidprompt.provenance.git import find_commit, is_repository, shallow_note, try_git
from vidprompt.provenance.revision import Revision
from vidprompt.system.errors import UserError


@dataclass(frozen=True)
class Side(Revision):
    """A revision as a report names it; head is on disk and has the name and subject of HEAD.

    `name`: ten digits of the commit. `changed`: the disk differs from the commit of that name.
    """

    name: str = ""
    subject: str = ""
    changed: bool = False


def find_sides(root: Path, base: str = "", out: Path | None = None) -> tuple[Side, Side]:
    """Base and head of a review in `root`.

    Args:
        root: the project's folder.
        base: a revision, without one origin/main, else main; the base is its merge base with HEAD.
        out: a folder whose content does not count as a change.

    UserError without git, without a commit, and for a revision that git does not know.
    """
    if not (root / "dvc.yaml").is_file():
        raise UserError("There is no dvc.yaml here: run this in the project's folder")
    head = find_commit(root, "HEAD")
    if head is None:
        if not is_repository(root):
            raise UserError(
                f"{root.absolute()} is no git repository: a review compares with a commit"
            )
        raise UserError("git has no commit here: a review compares with one")
    if base:
        other = find_commit(root, base)
        if other is None:
            raise UserError(
                f"git knows no revision {base!r} here: `git fetch`, or name another{shallow_note(root)}"
            )
    else:
        other = find_commit(root, "origin/main") or find_commit(root, "main")
        if other is None:
            raise UserError(
                "There is neither origin/main nor main: name the revision to compare with"
                f"{shallow_note(root)}"
            )
    left = (try_git(root, "merge-base", other, head) or b"").decode().strip()
    if not left and (note := shallow_note(root)):
        raise UserError(f"It is not known where HEAD left {base or 'main'}{note}")
    left = left or other  # two histories: the base as it is
    pathspecs = ["."]
    if out is not None and out.resolve().is_relative_to(root.resolve()):
        pathspecs.append(f":(exclude,top,literal){_from_top(root, out)}")
    status = try_git(root, "status", "--porcelain", "-uall", "--", *pathspecs) or b""
    return (
        Side(root, left, left[:10], _subject(root, left)),
        Side(root, "", head[:10], _subject(root, head), changed=bool(status.strip())),
    )


def _from_top(root: Path, path: Path) -> str:
    """A path below `root`, relative to git's working tree."""
    top = (try_git(root, "rev-parse", "--show-toplevel") or b"").decode().strip()
    return path.resolve().relative_to(Path(top).resolve()).as_posix()


def _subject(root: Path, commit: str) -> str:
    subject = try_git(root, "show", "--no-patch", "--format=%s", commit) or b""
    return subject.decode("utf-8", "replace").strip()
