"""Options with a fixed set of values."""

from __future__ import annotations

from collections.abc import Sequence

from vidprompt.system.errors import UserError


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Raises UserError for a value that is none of an option's choices."""
    if value not in choices:
        raise UserError(f"{option} is {value!r}; choose one of {', '.join(choices)}")
