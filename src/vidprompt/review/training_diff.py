"""Trainings whose record changed: how long they ran, on how much, and where the loss ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidprompt.review.sides import Side

_TRAINING = re.compile(r"results/([^/]+)/([^/]+)/runs/([^/]+)/training\.json")
SHOWN = ("videos", "steps", "kept_step")


@dataclass(frozen=True)
class Training:
    """A run; `base` and `head`: `videos`, `steps`, `kept_step` and `loss`, None where it has none."""

    dataset: str
    method: str
    run: str
    base: dict[str, float] | None
    head: dict[str, float] | None


def trainings(base: Side, head: Side) -> list[Training]:
    """Runs with another training.json, sorted."""
    found = []
    for path in sorted({*base.files, *head.files}):
        match = _TRAINING.fullmatch(path)
        if match and base.read(path) != head.read(path):
            sides = [_numbers(side.try_json(path)) for side in (base, head)]
            found.append(Training(match[1], match[2], match[3], *sides))
    return found


def _numbers(record: Any) -> dict[str, float] | None:
    if not isinstance(record, Mapping):
        return None
    last = record.get("last")
    values = {key: record.get(key) for key in SHOWN}
    values["loss"] = last.get("loss") if isinstance(last, Mapping) else record.get("loss")
    return {k: v for k, v in values.items() if isinstance(v, int | float)}
