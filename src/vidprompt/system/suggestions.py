"""The sentence for an unknown name: the nearest valid name and all of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from vidprompt.system.errors import UserError


def suggestion(wrong: str, valid: Iterable[str]) -> str:
    """`did you mean b? valid: a, b`; without the question where no valid name is close to `wrong`."""
    names = list(valid)
    near = difflib.get_close_matches(wrong, names, n=1)
    question = f"did you mean {near[0]}? " if near else ""
    return f"{question}valid: {', '.join(names) or 'none'}"


def check_choice(option: str, value: str, choices: Iterable[str]) -> None:
    """Raises UserError when `value` is not one of the choices of an option."""
    names = list(choices)
    if value not in names:
        raise UserError(f"{option}={value}: {suggestion(value, names)}")
