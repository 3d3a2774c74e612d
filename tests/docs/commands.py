"""The commands in a block of shell lines, and what is wrong with one, found without running it."""

from __future__ import annotations

import copy
import os
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import typer
import yaml
from tests.docs.pages import ROOT

from vidprompt.cli.main import app, message_options_first
from vidprompt.cli.overrides import _OPTIONS as PATH_OPTIONS
from vidprompt.config.compose import compose_values
from vidprompt.config.layers import OPEN
from vidprompt.config.names import PROTOCOLS
from vidprompt.config.overrides import override_of, parse_value, split_override
from vidprompt.config.schema import Config
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice

Words = tuple[str, ...]
THOROUGH = "VIDPROMPT_DOCS_COMPOSE"  # set: compose the very configuration of each command
FOLDERS = ("benchmarks", "deploy", "docs", "flows", "params", "src", "tests", "tools")
# beginnings of arguments that are the command's own and no key of the configuration
OWN_KEYS = {
    "compare-methods": ("methods=", "budget=", "seed="),
    "tune": ("methods=", "tune=", "tune."),
}
_PREFIXES = ("!", "do", "else", "exec", "nohup", "sudo", "then", "time")
_ENDS = (";", "&", "&&", "||", "|", "(", ")", ";;")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
# what stands for a value of the reader's: NAME, <dataset>, $RANK, …
_PLACEHOLDER = re.compile(r".*(…|\$|<\w+>).*|([\w./]*/)?[A-Z][A-Z_]+([./].*)?", re.DOTALL)


def commands(script: str, prompt: bool = False) -> Iterator[Words]:
    """The words of each simple command; of a console (`prompt`) those behind `$ `.

    A loop `for x in a b` gives its commands for each value.
    """
    loops: dict[str, list[str]] = {}
    for line in lines(script, prompt):
        for words in _simple(line):
            if words[0] == "for" and words[2:3] == ("in",):
                loops[words[1]] = list(words[3:])
                continue
            yield from _expanded(words, loops)


def lines(script: str, prompt: bool) -> Iterator[str]:
    rest = iter(script.split("\n"))
    for line in rest:
        if prompt and not line.startswith("$ "):
            continue
        line = line.removeprefix("$ ")
        while line.rstrip().endswith("\\"):
            line = line.rstrip()[:-1] + next(rest, "").removeprefix("> ")
        if match := re.search(r"<<\s*'?(\w+)'?", line):  # the text of a here-document is no command
            for text in rest:
                if text.strip() == match[1]:
                    break
            line = line[: match.start()] + line[match.end() :]
        yield line


def _simple(line: str) -> Iterator[Words]:
    """Raises ValueError for a quote that is not closed."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    words: list[str] = []
    tokens = iter([*lexer, ";"])
    for token in tokens:
        if token in _ENDS:
            while words and (words[0] in _PREFIXES or _ASSIGNMENT.match(words[0])):
                words.pop(0)
            if words and words not in (["done"], ["fi"]):
                yield tuple(words)
            words = []
        elif set(token) <= set("<>&"):
            next(tokens, None)  # the file
        else:
            words.append(token)


def _expanded(words: Words, loops: Mapping[str, Sequence[str]]) -> Iterator[Words]:
    for name, values in loops.items():
        if any(f"${name}" in word for word in words):
            for value in values:
                yield from _expanded(
                    tuple(word.replace(f"${name}", value) for word in words), loops
                )
            return
    yield words


def placeholder(word: str) -> bool:
    """Whether a reader has to put something of theirs in its place."""
    return _PLACEHOLDER.fullmatch(word) is not None


def problem(words: Words, made: frozenset[str] = frozenset()) -> str:
    """What is wrong with a command; empty: nothing that can be seen. `made`: files that the page makes."""
    program = Path(words[0]).name
    if words[:3] == ("prefect", "deployment", "run"):
        return _deployment_problem(words[3])
    wrong = _missing_files(words, made)
    if arguments := _of_vidprompt(words):
        wrong = wrong or vidprompt_problem(arguments, made=made)
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
    words: Sequence[str], complete: bool = True, made: frozenset[str] = frozenset()
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
    return _overrides_problem(name, overrides, made)


def _overrides_problem(command: str, overrides: Sequence[str], made: frozenset[str]) -> str:
    free, given = [], []
    own = OWN_KEYS.get(command, ())
    for one in [one for one in overrides if not one.startswith(own)] if own else overrides:
        if one == "[overrides]" or (placeholder(one) and "=" not in one):
            continue
        key, _, value = one.partition("=")
        theirs = placeholder(value) or f"params/{key}/{value}.yaml" in made
        (free if theirs else given).append(one)
    if command == "multirun":
        given = [_first_of_sweep(one) for one in given]
    try:
        values = _checked(given) if THOROUGH not in os.environ else composed(*given)
    except UserError as error:
        return str(error)
    for one in free:
        key = split_override(one)[0]
        if not (ROOT / "params" / key).is_dir() and not _has(values, key):
            return f"unknown key {key}"
    return ""


def _checked(overrides: Sequence[str]) -> Mapping[str, Any]:
    """The values of nearly the same configuration: with the method and the protocol, but not the dataset.

    A composition takes a fifth of a second, and the pages have fifty. Raises UserError for a file that is not
    there, and for keys and values that the schema does not allow.
    """
    pairs = [split_override(one) for one in overrides]
    chosen = {key: value for key, value in pairs if (ROOT / "params" / key).is_dir()}
    for group, name in chosen.items():
        files = sorted(file.stem for file in (ROOT / "params" / group).glob("*.yaml"))
        check_choice(group, name, files)
    preset = _preset(chosen.get("experiment", ""))
    split = dict(pairs).get("split", preset.pop("split", ""))
    methods = {"method": "ez_clip"} | preset | chosen
    protocol = methods.get("protocol") or next(
        (one for one in PROTOCOLS if split.startswith(one)), ""
    )
    base = [f"method={methods['method']}"] + ([f"protocol={protocol}"] if protocol else [])
    parts = {key.partition(".")[0] for key, _ in pairs} - {"method", "protocol", "dataset"}
    base += [
        f"{part}={chosen[part]}" for part in sorted(parts & chosen.keys()) if _assigns(pairs, part)
    ]
    values = copy.deepcopy(dict(composed(*base)))
    for key, value in pairs:
        if key not in chosen:
            if not _has(values, key) and key.rpartition(".")[0] not in OPEN:
                raise UserError(f"unknown key {key}")
            _set(values, key, parse_value(key, value))
    Config.of(values)
    return values


@cache
def composed(*overrides: str) -> Mapping[str, Any]:
    """The checked values of a configuration. Raises UserError."""
    values = compose_values(overrides).values
    Config.of(values)
    return values


@cache
def _files_of(experiment: str) -> tuple[tuple[str, str], ...]:
    if not experiment:
        return ()
    content = yaml.safe_load((ROOT / f"params/experiment/{experiment}.yaml").read_text("utf-8"))
    entries = [one for one in content.get("defaults", []) if isinstance(one, dict)]
    chosen = {key.rpartition("/")[2]: str(name) for one in entries for key, name in one.items()}
    return tuple((chosen | {"split": content.get("split", "")}).items())


def _preset(experiment: str) -> dict[str, str]:
    """What an experiment chooses of the groups, and its split."""
    return dict(_files_of(experiment))


def _assigns(pairs: Sequence[tuple[str, str]], part: str) -> bool:
    return any(key.startswith(f"{part}.") for key, _ in pairs)


def _has(values: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


def _set(values: Any, key: str, value: Any) -> None:
    *parts, last = key.split(".")
    for part in parts:
        values = values[part]
    values[last] = value


def _first_of_sweep(override: str) -> str:
    """`a=1` of `a=1,2`, `a=choice(1,2)` and `a=range(1,3)`."""
    key, _, value = override.partition("=")
    inner = re.fullmatch(r"(?:choice|range)\((.*)\)", value)
    values = inner[1] if inner else value
    return override if values.startswith("[") else f"{key}={values.split(',')[0]}"


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
