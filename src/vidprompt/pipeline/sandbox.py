"""Makes a folder laid out as the project, so that stages run in it with inputs of their own choice."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from vidprompt.config.compose import PARAMS

INPUTS = ("data", "cache/manifest", "cache/frames")


def make_sandbox(folder: Path, names: Iterable[str]) -> None:
    """Link `names` (relative to the working directory, the project) into `folder`, and copy params/ there.

    Names that the project lacks are left out. Parameters are copied because they may be edited meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted({*names}):
        if Path(name).exists():
            replace_link(Path(name), folder / name)
    shutil.rmtree(folder / PARAMS, ignore_errors=True)
    shutil.copytree(PARAMS, folder / PARAMS)


def replace_link(target: Path, link: Path) -> None:
    """Make `link` a symbolic link to `target`, whatever was there; an equal one is kept."""
    goal = target.absolute()
    if link.is_symlink() and link.readlink() == goal:
        return
    link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(goal)
