"""What is wrong with a command, found without running it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import typer
import yaml
from tests.docs.configuration import overrides_problem
from tests.docs.pages import ROOT
from tests.docs.shell import Words, placeholder

from vidprompt.cli.main import app, message_options_first
from vidprompt.cli.overrides import _OPTIONS as PATH_OPTIONS
from vidprompt.config.overrides import override_of

FOLDERS = ("benchmarks", "deploy", "docs", "flows", "params", "src", "tests", "tools")


def problem(words: Words, made: frozenset[str] = frozenset(), exact: bool = False) -> str:
    """What is wrong with a command; empty: nothing that can be seen.

    `made`: files that the page makes. `exact`: compose the very configuration of each command.
    """
    program = Path(words[0]).name
    if words[:3] == ("prefect", "deployment", "run"):
        return _deployment_problem(words[3])
    wrong = _missing_files(words, made)
    if arguments := _of_vidprompt(words):
        wrong = wrong or vidprompt_problem(arguments, True, made, exact)
    elif program == "make":
        wrong = wrong or _make_problem(words[1:])
    elif program == "dvc":
        wrong = wrong or _dvc_problem(words[1:])
    return wrong


def _of_vidprompt(words: Words) -> Words:
    """The arguments of `vidprompt`, however it is started; empty for other programs."""
    if Path(words[0]).name == "vidprompt":
        return words[1:]
    if "vidprompt.cli" in words:
        return words[words.index("vidprompt.cli") + 1 :]
    return ()


def _missing_files(words: Words, made: frozenset[str]) -> str:
    for word in words:
        path = word.partition("=")[2] or word
        first = path.partition("/")
        named = first[0] in FOLDERS and first[1] and not set("*:") & set(path)
        if named and not placeholder(path) and path not in made and not (ROOT / path).exists():
            return f"there is no {path}"
    return ""


# -- vidprompt ------------------------------------------------------------------------------------


@cache
def _group() -> Any:
    return typer.main.get_command(app)


def vidprompt_problem(
    words: Sequence[str],
    complete: bool,
    made: frozenset[str] = frozenset(),
    exact: bool = False,
) -> str:
    """What the parser, or the composition of its `key=value`, says against the arguments of `vidprompt`.

    `complete` False: required arguments may be missing, as in a sentence.
    """
    arguments = [word for word in message_options_first(list(words)) if word != "…"]
    while arguments and arguments[0].startswith("-"):
        arguments.pop(0)
    if not arguments or placeholder(arguments[0]):
        return ""
    name, *rest = arguments
    command = _group().commands.get(name)
    if command is None:
        return f"no command {name}"
    if "--help" in rest:
        return ""
    try:
        values = command.make_context(name, rest).params
    except Exception as error:
        if not complete and type(error).__name__ in ("MissingParameter", "BadOptionUsage"):
            return ""
        return getattr(error, "message", "") or str(error)
    overrides = list(values.get("overrides") or [])
    for option, (key, *_) in PATH_OPTIONS.items():
        if path := values.get(option.strip("-").replace("-", "_")):
            overrides.append(override_of(key, path))
    if "overrides" not in values:
        return ""
    return overrides_problem(name, overrides, made, exact)


# -- others ---------------------------------------------------------------------------------------


@cache
def make_targets() -> frozenset[str]:
    text = "\n".join((ROOT / name).read_text("utf-8") for name in ("Makefile", "development.mk"))
    lines = re.findall(r"^([a-z][\w ]*):(?!=)", text, re.MULTILINE)
    return frozenset(name for line in lines for name in line.split())


def _make_problem(words: Words) -> str:
    targets = [word for word in words if not word.startswith("-") and "=" not in word]
    unknown = [name for name in targets if name not in make_targets() and not placeholder(name)]
    return f"make has no target {unknown[0]}" if unknown else ""


@cache
def _deployments() -> frozenset[str]:
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]
    content += yaml.safe_load((ROOT / "deploy/docker.yaml").read_text("utf-8"))["deployments"]
    return frozenset(
        f"{one['entrypoint'].rpartition(':')[2].replace('_', '-')}/{one['name']}" for one in content
    )


def _deployment_problem(name: str) -> str:
    known = placeholder(name) or name in _deployments()
    return "" if known else f"no deployment {name}: {sorted(_deployments())}"


def _dvc_problem(words: Words) -> str:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    for word in words:
        name, at, _ = word.partition("@")
        if words[0] == "repro" and at and name not in stages:
            return f"dvc.yaml has no stage {name}"
        if match := re.fullmatch(r"(params/[\w/@.-]+):([\w.]+)=.*", word):
            node: Any = yaml.safe_load((ROOT / match[1]).read_text("utf-8"))
            for key in match[2].split("."):
                if not isinstance(node, dict) or key not in node:
                    return f"{match[1]} has no {match[2]}"
                node = node[key]
    return ""


@cache
def extras() -> frozenset[str]:
    """The optional dependencies of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return frozenset(project["optional-dependencies"])
