"""The YAML files of `params/`: the project's, and those that plug-ins' packages bring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidprompt.config.plugins import package_params
from vidprompt.files.text import read_text
from vidprompt.system.errors import UserError, first_line

PARAMS = "params"


def params_folder() -> Path:
    """`params/` of the current directory, which has to be a project's root. Raises UserError."""
    folder = Path.cwd() / PARAMS
    if not (folder / "config.yaml").is_file():
        raise UserError(
            f"no {PARAMS}/config.yaml in {Path.cwd()}: run vidprompt in a project's root"
        )
    return folder


def params_file(name: str) -> Path:
    """The file `params/<name>.yaml` (`method/ez_clip`): the project's, else that of a plug-in's package.

    The project's, where there is none of that name. Raises UserError where two packages have one.
    """
    file, _ = find_params(name)
    return file


def params_names(group: str) -> list[str]:
    """The files of a group by name, the project's and those of plug-ins' packages; sorted."""
    folders = [params_folder(), *(one.folder for one in package_params())]
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})


def is_backbone_file(name: str) -> bool:
    """Whether a name is that of a file of params/backbone, and not open_clip's; False outside a project."""
    return (Path.cwd() / PARAMS / "config.yaml").is_file() and name in params_names("backbone")


def find_params(name: str) -> tuple[Path, str]:
    """`params_file`, and its name in messages."""
    own = params_folder() / f"{name}.yaml"
    if not own.is_file():
        found = [one for one in package_params() if (one.folder / f"{name}.yaml").is_file()]
        if len(found) > 1:
            origins = " and ".join(one.origin for one in found)
            raise UserError(
                f"{PARAMS}/{name}.yaml is in {origins}: uninstall one, or write the project's own"
            )
        if found:
            return found[0].folder / f"{name}.yaml", found[0].label(name)
    return own, f"{PARAMS}/{name}.yaml"


def read_yaml(file: Path) -> dict[str, Any]:
    """A file of params/. Raises UserError, naming the line, for one that is not YAML, or no mapping."""
    import yaml

    try:
        content = yaml.safe_load(read_text(file, only_utf8=True)) or {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{file}{line} is not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise UserError(f"{file} is not YAML: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is not a mapping")
    return content
