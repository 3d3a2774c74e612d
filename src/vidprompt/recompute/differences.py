"""Compares a JSON file's numbers with recomputed ones, and says in a sentence what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vidprompt.reporting.markdown import count_of, single_line

TOLERANCE = 2e-6  # numbers in JSON files have six decimals
MOST_SHOWN = 60  # characters of a key or a value
# keys that follow from the lists (recompute/lists.py) and not from the predictions; n is compared where it is
LIST_KEYS = {"id", "run", "listed", "coverage", "skipped", "n"}


def tree_differences(wanted: Any, recorded: Any, path: str = "") -> Iterator[str]:
    """A few words for each place where two JSON values differ: the recomputed one and a file's."""
    if isinstance(wanted, Mapping) and isinstance(recorded, Mapping):
        for key in sorted({*wanted, *recorded}):
            place = f"{path}.{shown(key)}" if path else shown(key)
            if key in wanted and key in recorded:
                yield from tree_differences(wanted[key], recorded[key], place)
            elif key in wanted:
                yield f"`{place}` is missing"
            elif key not in LIST_KEYS:
                yield f"`{place}` follows from nothing"
    elif isinstance(wanted, list) and isinstance(recorded, list) and len(wanted) == len(recorded):
        for i, (one, two) in enumerate(zip(wanted, recorded, strict=True)):
            yield from tree_differences(one, two, f"{path}[{i}]")
    elif not is_equal(wanted, recorded):
        yield value_difference(path, wanted, recorded)


def value_difference(path: str, wanted: Any, recorded: Any) -> str:
    """The words for one value that is not as it should be."""
    return f"`{path}` is {shown(recorded)} and should be {shown(wanted)}"


def is_equal(one: Any, two: Any) -> bool:
    """Whether two values are equal, numbers to the digits that JSON files have."""
    if isinstance(one, int | float) and isinstance(two, int | float):
        return abs(one - two) <= TOLERANCE
    return bool(one == two)


def shown(value: Any) -> str:
    """A key or value of a file as text between backticks may have it."""
    return single_line(value, MOST_SHOWN).replace("`", "'")


def summarize(differences: Sequence[str], reason: str) -> list[str]:
    """One sentence: the first difference, how many more there are, and the reason; none for none."""
    if not differences:
        return []
    more = len(differences) - 1
    others = f", and {count_of(more, 'other number')} {'is' if more == 1 else 'are'} not"
    return [f"{differences[0]}{others if more else ''}: {reason}"]
