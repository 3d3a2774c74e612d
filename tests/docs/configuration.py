"""The `key=value` arguments of a command: are there such keys, files and values?"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import yaml
from tests.docs.pages import ROOT
from tests.docs.shell import placeholder

from vidprompt.config.compose import compose_values
from vidprompt.config.layers import OPEN
from vidprompt.config.names import PROTOCOLS
from vidprompt.config.overrides import parse_value, split_override
from vidprompt.config.schema import Config
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice

# beginnings of arguments that are the command's own and no key of the configuration
OWN_KEYS = {
    "compare-methods": ("methods=", "budget=", "seed="),
    "tune": ("methods=", "tune=", "tune."),
}


def overrides_problem(
    command: str, overrides: Sequence[str], made: frozenset[str], exact: bool
) -> str:
    """What is wrong with the overrides of a command of `vidprompt`; empty: nothing.

    `made`: files that the page makes. `exact`: compose each configuration as the command does.
    """
    free, given = list[str](), list[str]()
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
        values = composed(*given) if exact else _checked(given)
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
