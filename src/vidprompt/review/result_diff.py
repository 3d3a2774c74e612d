"""Every number of the results that changed: base, head, difference, verdict."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa

from vidprompt.comparison.comparison import Comparison, Verdict, compare
from vidprompt.comparison.per_video import RECOGNITION, RETRIEVAL, read_per_video
from vidprompt.comparison.results import Result as Kept
from vidprompt.comparison.table import METRICS
from vidprompt.config import paths
from vidprompt.config.names import PROTOCOLS
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.revision import Result, report_order
from vidprompt.reporting.measures import Cell
from vidprompt.review.sides import Side
from vidprompt.system.errors import UserError

Key = tuple[str, str]  # an entry of summary, metric
METRIC_ORDER = (*RECOGNITION, *RETRIEVAL)


class Outcome(StrEnum):
    """A verdict, or why there is none; in the order of a summary."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "no difference shown"
    UNPAIRED = "unpaired"
    RECOMPUTED = "same predictions"
    NEW = "new"
    REMOVED = "removed"


_OUTCOMES = {
    Verdict.WORSE: Outcome.WORSE,
    Verdict.BETTER: Outcome.BETTER,
    Verdict.SAME: Outcome.SAME,
    Verdict.UNPAIRED: Outcome.UNPAIRED,
}


@dataclass(frozen=True)
class Line:
    """One measure; values as metrics.json has them, the difference on the videos that both tested."""

    measure: str
    base: Cell | None
    head: Cell | None
    outcome: Outcome
    difference: float | None = None
    ci95: tuple[float, float] | None = None
    p: float | None = None


@dataclass(frozen=True)
class ResultDiff:
    """One result that changed; `untested` measures changed too and have no test."""

    result: Result
    lines: tuple[Line, ...]
    untested: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "/".join(self.result)


def differences(base: Side, head: Side, store: DvcProject) -> tuple[list[ResultDiff], int]:
    """Every result that is not the same on both sides, in order; and how many are."""
    found, unchanged = [], 0
    for result in sorted({*base.results, *head.results}, key=report_order):
        pair = base.results.get(result), head.results.get(result)
        if pair[0] == pair[1]:
            unchanged += 1
        else:
            found.append(_difference(result, pair, (base, head), store))
    return found, unchanged


def _difference(
    result: Result,
    metrics: tuple[dict[str, Any] | None, dict[str, Any] | None],
    both: tuple[Side, Side],
    store: DvcProject,
) -> ResultDiff:
    """One result; `metrics` of the base and of the head, None where it has none."""
    one, two = metrics
    if one is None or two is None:
        outcome = Outcome.NEW if one is None else Outcome.REMOVED
        cells = _summary(two or one or {}, result[2])
        keys = sorted(cells, key=_order)
        return ResultDiff(result, tuple(_alone(key, cells[key], outcome) for key in keys))
    tracked = paths.predictions(*result).as_posix()
    names = [side.output_md5s.get(tracked, "") for side in both]
    values = _summary(one, result[2]), _summary(two, result[2])
    tested: dict[Key, Line] = {}
    if names[0] and names[0] == names[1]:
        notes = ["The predictions are the same: the lists, the code or the data's record changed."]
        outcome = Outcome.RECOMPUTED
    else:
        comparison, notes = _compared(result, (one, two), names, store)
        tested = _tested(comparison, values) if comparison else {}
        outcome = Outcome.UNPAIRED
    lines = []
    for key in sorted({*values[0], *values[1]}, key=_order):
        a, b = values[0].get(key), values[1].get(key)
        if key in tested:
            lines.append(tested[key])
        elif a is None or b is None:
            lone = Outcome.NEW if a is None else Outcome.REMOVED
            lines.append(_alone(key, a or b, lone))
        elif outcome is Outcome.UNPAIRED or a != b:
            lines.append(Line(title(*key), a, b, outcome, b.value - a.value))
    return ResultDiff(result, tuple(lines), tuple(_untested(one, two, values)), tuple(notes))


def _alone(key: Key, cell: Cell | None, outcome: Outcome) -> Line:
    new = outcome is Outcome.NEW
    return Line(title(*key), None if new else cell, cell if new else None, outcome)


def _compared(
    result: Result,
    metrics: tuple[dict[str, Any], dict[str, Any]],
    md5s: list[str],
    store: DvcProject,
) -> tuple[Comparison | None, list[str]]:
    """The comparison video by video; None where it cannot be, and why."""
    kept = []
    for side, (said, md5) in enumerate(zip(metrics, md5s, strict=True)):
        name = ("base", "head")[side]
        file = store.find(md5, paths.predictions(*result).as_posix() if side else "")
        if file is None:
            return None, [f"Unpaired: the predictions of {name} are not at hand."]
        try:
            kept.append(Kept(name, said, _videos(file, result[2], name)))
        except UserError as error:
            return None, [f"Unpaired: {error}."]
    try:
        comparison = compare(*kept)
    except UserError as error:
        return None, [f"Unpaired: {error}."]
    notes = list(comparison.notes)
    lone = [
        sum(getattr(test, side) for test in comparison.coverage) for side in ("only_a", "only_b")
    ]
    if any(lone):
        notes.append(
            "Differences are on the videos that both tested: "
            f"{lone[0]:,} tests of base alone and {lone[1]:,} of head alone are left out."
        )
    return comparison, [_named(note) for note in notes]


def _named(note: str) -> str:
    """A and B by their names here."""
    return note.replace(" in A and ", " in base and ").replace(" in B.", " in head.")


def _videos(file: Path, protocol: str, name: str) -> Any:
    """Read at once: the file may be of a temporary folder."""
    return read_per_video(
        pa.BufferReader(file.read_bytes()), protocol, f"the predictions of {name}"
    )


def _tested(
    comparison: Comparison, values: tuple[dict[Key, Cell], dict[Key, Cell]]
) -> dict[Key, Line]:
    found = {}
    for one in comparison.differences:
        key = one.measure, one.metric
        if one.split or key not in values[0] or key not in values[1]:
            continue
        found[key] = Line(
            measure=title(*key),
            base=values[0][key],
            head=values[1][key],
            outcome=_OUTCOMES[one.verdict],
            difference=one.difference,
            ci95=one.ci95,
            p=one.p,
        )
    return found


def title(measure: str, metric: str) -> str:
    """`base top-1`, `harmonic mean`, `general mAP`; what is called as its protocol is not named again."""
    before, _, part = measure.rpartition("/")
    if part == "hm":
        return f"{before} harmonic mean".strip()
    named = "" if measure in PROTOCOLS else measure
    return f"{named} {METRICS.get(metric, metric)}".strip()


def _order(key: Key) -> tuple[Any, ...]:
    """2shot before 16shot; the harmonic mean after base and novel; as metrics are listed."""
    name, metric = key
    before, _, part = name.rpartition("/")
    shots = re.match(r"\d+", name)
    rank = METRIC_ORDER.index(metric)
    return int(shots[0]) if shots else 0, before, part == "hm", part, rank


def _summary(metrics: Mapping[str, Any], protocol: str) -> dict[Key, Cell]:
    """What `compare` can judge: top-1 and top-5, harmonic means, R-1 and mAP."""
    found: dict[Key, Cell] = {}
    for name, entry in metrics.get("summary", {}).items():
        if not isinstance(entry, Mapping):
            continue
        if "value" in entry:
            entry = {"top1": entry}
        for metric in RETRIEVAL if protocol == "reid" else RECOGNITION:
            cell = _cell(entry.get(metric))
            if cell is not None:
                found[name, metric] = cell
    return found


def _cell(entry: Any) -> Cell | None:
    """A number of metrics.json. None where there is none."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("value"), int | float):
        return None
    ends, std = entry.get("ci95"), entry.get("std")
    if not (isinstance(ends, list) and len(ends) == 2 and all(map(_number, ends))):
        ends = [None, None]
    low, high = ends
    return Cell(float(entry["value"]), low, high, std if _number(std) else None)


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _untested(
    one: Mapping[str, Any],
    two: Mapping[str, Any],
    tested: tuple[dict[Key, Cell], dict[Key, Cell]],
) -> Iterator[Line]:
    """Other numbers of the summaries, and the calibration error of each test, where they changed."""
    sides = [dict(_numbers(metrics, tested[side])) for side, metrics in enumerate((one, two))]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        a, b = sides[0].get(name), sides[1].get(name)
        if a is not None and b is not None and a != b:
            yield Line(name, a, b, Outcome.UNPAIRED, b.value - a.value)


def _numbers(metrics: Mapping[str, Any], tested: dict[Key, Cell]) -> Iterator[tuple[str, Cell]]:
    named = {f"{name} {metric}" for name, metric in tested}
    for way, cell in _leaves(metrics.get("summary", {}), ""):
        if way not in named and (way, "top1") not in tested:
            yield way, cell
    for name, split in metrics.get("splits", {}).items():
        for test, entry in split.get("tests", {}).items():
            error = _cell(entry.get("ece")) if isinstance(entry, Mapping) else None
            if error is not None:
                yield f"{name}/{test} ece", error


def _leaves(entry: Any, way: str) -> Iterator[tuple[str, Cell]]:
    if not isinstance(entry, Mapping):
        return
    cell = _cell(entry)
    if cell is not None:
        yield way, cell
        return
    for name, inner in entry.items():
        yield from _leaves(inner, f"{way} {name}".strip())
