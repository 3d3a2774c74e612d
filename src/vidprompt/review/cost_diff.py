"""What changed in the cost of stages: seconds and peak memory, from cost.json of both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidprompt.pipeline.stage_costs import Entries, cost_file, current_inputs, parsed_costs
from vidprompt.review.sides import Side


@dataclass(frozen=True)
class Change:
    """A stage that was measured anew. Where the machines differ nothing is compared."""

    stage: str
    base: Mapping[str, Any]
    head: Mapping[str, Any]

    @property
    def same_machine(self) -> bool:
        return bool(self.base.get("machine") == self.head.get("machine"))

    def ratio(self, key: str) -> float | None:
        """Head's number over base's."""
        one, two = (side.get(key) for side in (self.base, self.head))
        numbers = isinstance(one, int | float) and isinstance(two, int | float)
        return two / one if numbers and one and self.same_machine else None


@dataclass(frozen=True)
class CostDiff:
    """Of one dataset; `known`: which side has a cost.json. `stale`: head's entries of other inputs than
    its dvc.lock."""

    dataset: str
    known: tuple[bool, bool]
    changed: tuple[Change, ...]
    added: Entries
    removed: tuple[str, ...]
    stale: tuple[str, ...]
    totals: tuple[float, float]  # seconds of the stages that both have


def costs(base: Side, head: Side) -> list[CostDiff]:
    """Each dataset of which either side has a cost.json."""
    found = []
    for dataset in sorted({*base.datasets, *head.datasets}):
        files = [side.read(cost_file(dataset).as_posix()) for side in (base, head)]
        if files[0] is None and files[1] is None:
            continue
        one, two = (_entries(file) for file in files)
        both = sorted(one.keys() & two.keys())
        wanted = current_inputs(head.stages, dataset)
        found.append(
            CostDiff(
                dataset=dataset,
                known=(files[0] is not None, files[1] is not None),
                changed=tuple(Change(s, one[s], two[s]) for s in both if one[s] != two[s]),
                added={s: two[s] for s in sorted(two.keys() - one.keys())},
                removed=tuple(sorted(one.keys() - two.keys())),
                stale=tuple(sorted(s for s in two if two[s].get("inputs") != wanted.get(s))),
                totals=(_seconds(one, both), _seconds(two, both)),
            )
        )
    return found


def _entries(content: bytes | None) -> Entries:
    try:
        return parsed_costs(content) if content else {}
    except ValueError:
        return {}


def _seconds(entries: Entries, stages: Sequence[str]) -> float:
    return round(sum(float(entries[stage].get("seconds", 0)) for stage in stages), 1)
