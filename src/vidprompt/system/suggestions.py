"""Names in sentences: the valid ones for an unknown one, and the first of many."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

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


def first_names(names: Sequence[str], count: int) -> str:
    """The first `count` names with commas between them, and `, …` where there are more."""
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")
