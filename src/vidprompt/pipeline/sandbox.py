"""Makes a folder laid out as the project, so that stages run in it with inputs of their own choice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from vidprompt.config import paths
from vidprompt.config.overrides import PATHS
from vidprompt.config.params_files import PARAMS
from vidprompt.config.schema import Config
from vidprompt.system.errors import UserError

INPUTS = ("data", "cache/manifest", "cache/frames")
OWN = ("cache", "models", "results")  # folders that a sandbox fills itself


def input_paths(config: Config) -> set[str]:
    """What a sandbox links to of the paths of a configuration: top folders, and of those in OWN the files.

    Raises UserError for a path that leads out of the project and is not absolute.
    """
    names = set()
    for key in PATHS:
        group, _, name = key.partition(".")
        given = config.values[group].get(name)
        if not given or Path(given).is_absolute():
            continue
        if key == "trainer.start_from":
            given = paths.starting_checkpoint(given)
        path = Path(os.path.normpath(given))
        top = path.parts[0] if path.parts else PARAMS
        if top == "..":
            raise UserError(
                f"{key}={given} leads out of the project, and this runs in folders of their own: "
                "give an absolute path"
            )
        if top in OWN and group != "dataset":
            names.add(str(path))
        elif top not in (*OWN, PARAMS):
            names.add(top)
    return names


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
