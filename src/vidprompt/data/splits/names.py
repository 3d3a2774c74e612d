"""Names of split files, and the measure that each is averaged into.

The draws of a protocol are averaged: `few_shot_2shot_seed1` and its other seeds are the measure `2shot`, the
official test splits another, random halves a third. A published list has a name that no draw has, and is not
averaged.
"""

from __future__ import annotations

import re

# Protocol → (rest of a drawn split's name, its measure). Digits may be absent, so that the measure's own name
# counts as a drawn split's too.
_DRAWN: dict[str, tuple[tuple[str, str], ...]] = {
    "supervised": ((r"split[123]", "supervised"),),
    "zero_shot": (
        (r"split[123](?:_val)?", "zero_shot"),
        (r"(half|partition|seed)[0-9]*(_test|_val)?", r"zero_shot_\1\2"),
        (r"(\w+_minus_\w+)", r"zero_shot_\1"),
    ),
    "base_to_novel": ((r"[0-9]+shot_seed[0-9]+|full", "base_to_novel"),),
    "few_shot": ((r"([0-9]+shot(?:_nested)?)_seed[0-9]+", r"\1"),),
}


def measure_of(name: str) -> str | None:
    """The measure of a drawn split file (its name without `.json`); None for a published list's name."""
    if name == "reid":
        return name
    for protocol, forms in _DRAWN.items():
        for form, measure in forms:
            match = re.fullmatch(f"{protocol}_(?:{form})", name)
            if match:
                return match.expand(measure)
    return None
