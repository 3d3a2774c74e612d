"""A name that is none of the valid ones: what a refusal says about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def valid(wrong: str, names: Iterable[str]) -> str:
    """`did you mean b? valid: a, b`; the guess only where one is close."""
    known = list(names)
    near = difflib.get_close_matches(wrong, known, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"{guess}valid: {', '.join(known) or 'none'}"
