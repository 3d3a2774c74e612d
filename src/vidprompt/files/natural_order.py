"""Order numbered file names as people count: 2.jpg before 10.jpg; and find gaps in their numbers."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from vidprompt.system.suggestions import first_names

_NUMBER = re.compile(r"([0-9]+)")
NAMED = 3  # gaps named in a sentence


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A sort key by which numbers in names count as numbers; equal ones are in the order of characters.

    The suffix counts last, so that `1.png` and `2.jpg` are in order.
    """
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 (called for every image of a dataset)
    parts = _NUMBER.split(stem.casefold())
    parts[1::2] = [int(number) for number in parts[1::2]]
    return [*parts, suffix.casefold()], name


def numbering_faults(names: Sequence[str]) -> str:
    """A sentence about gaps and repeats in the numbers of files, given in natural order; "" without any.

    Only names that differ in one number are judged. The usual distance of two numbers is the step, so that
    every fifth frame of a video has no gap.
    """
    numbers = _numbers(names)
    if numbers is None or len(numbers) < 2:
        return ""
    steps = Counter(b - a for a, b in pairwise(numbers))
    repeated = [names[i] for i, (a, b) in enumerate(pairwise(numbers), 1) if a == b]
    sentences = []
    step, _ = min(steps.items(), key=lambda item: (-item[1], item[0]))
    if step > 0:
        gaps = [(a + step, b - step) for a, b in pairwise(numbers) if b - a > step]
        if gaps:
            missing = sum((last - first) // step + 1 for first, last in gaps)
            named = [f"{a}" if a >= b else f"{a}–{b}" for a, b in gaps[: NAMED + 1]]
            plural = "images are" if missing > 1 else "image is"
            sentences.append(
                f"{missing:,} {plural} missing in the numbers {numbers[0]} to {numbers[-1]}: "
                f"{first_names(named, NAMED)}."
            )
    if repeated:
        who = "image repeats" if len(repeated) == 1 else "images repeat"
        sentences.append(f"{len(repeated):,} {who} a number: {first_names(repeated, NAMED)}.")
    return " ".join(sentences)


def _numbers(names: Sequence[str]) -> list[int] | None:
    """The one number by which the names differ; None where they differ in more, or have none."""
    parts = [_NUMBER.split(os.path.splitext(name)[0].casefold()) for name in names]  # noqa: PTH122
    if any(len(one) != len(parts[0]) or one[::2] != parts[0][::2] for one in parts):
        return None
    differ = [
        place
        for place in range(1, len(parts[0]), 2)
        if any(int(one[place]) != int(parts[0][place]) for one in parts)
    ]
    if len(differ) != 1:
        return None
    return [int(one[differ[0]]) for one in parts]
