"""Which methods a command compares: `methods=all`, or names."""

from __future__ import annotations

from collections.abc import Sequence

from vidprompt.config.names import METHODS
from vidprompt.config.overrides import split_override
from vidprompt.config.plugins import plugins
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice

ALL = "all"


def method_names() -> list[str]:
    """Every method there is: this package's in the order of its tables, then those of plug-ins."""
    return list(dict.fromkeys([*METHODS, *(one.name for one in plugins("methods"))]))


def chosen_methods(text: str) -> list[str]:
    """`all`, or names with commas between them, each once. UserError for an unknown or empty name."""
    if text == ALL:
        return method_names()
    names = list(dict.fromkeys(text.strip("[]").replace(" ", "").split(",")))
    for name in names:
        check_choice("methods", name, [*method_names(), ALL])
    if ALL in names:
        raise UserError("methods=all is every method: name some, or all")
    return names


def take_own(arguments: Sequence[str], own: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The values of a command's own keys, and the other arguments. UserError for one that is there twice."""
    found: dict[str, str] = {}
    others = []
    for argument in arguments:
        key, value = split_override(argument)
        if key not in own:
            others.append(argument)
        elif key in found:
            raise UserError(f"{key} is given twice: {key}={found[key]} and {argument}")
        else:
            found[key] = value
    return found, others
