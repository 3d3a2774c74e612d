"""Changes of the results: every changed measure with base, head, difference and verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from vidprompt.comparison.compare import (
    Comparison,
    MeasureKey,
    comparable_measures,
    compare,
    measure_order,
)
from vidprompt.comparison.per_video import read_per_video
from vidprompt.comparison.results import LoadedResult
from vidprompt.comparison.table import measure_title
from vidprompt.config import paths
from vidprompt.config.names import PROTOCOLS
from vidprompt.metrics.result import ProtocolResult, measures
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.revision import Result, report_order
from vidprompt.reporting.measures import Cell
from vidprompt.review.sides import Side
from vidprompt.system.errors import UserError


class ChangeKind(StrEnum):
    """A verdict on a changed measure, or why there is none; in the order of a summary."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "no difference shown"
    TOO_FEW = "too few"
    UNPAIRED = "unpaired"
    RECOMPUTED = "same predictions"
    NEW = "new"
    REMOVED = "removed"


@dataclass(frozen=True)
class MeasureChange:
    """A changed measure: values as in metrics.json, the difference on the videos that both sides tested."""

    measure: str
    base: Cell | None
    head: Cell | None
    kind: ChangeKind
    difference: float | None = None
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class ResultDiff:
    """A changed result. `untested`: changed measures without a paired test; `notes`: sentences."""

    result: Result
    changes: tuple[MeasureChange, ...]
    untested: tuple[MeasureChange, ...] = ()
    notes: tuple[str, ...] = ()


def result_diffs(base: Side, head: Side, project: DvcProject) -> tuple[list[ResultDiff], int]:
    """The changed results in the order of a report, and the number of equal ones."""
    diffs, unchanged = [], 0
    for result in sorted({*base.results, *head.results}, key=report_order):
        pair = base.results.get(result), head.results.get(result)
        if pair[0] == pair[1]:
            unchanged += 1
        else:
            diffs.append(_result_diff(result, pair, (base, head), project))
    return diffs, unchanged


def _result_diff(
    result: Result,
    metrics: tuple[ProtocolResult | None, ProtocolResult | None],
    sides: tuple[Side, Side],
    project: DvcProject,
) -> ResultDiff:
    """Compare one result; `metrics` of base and of head, None on a side without it."""
    one, two = metrics
    if one is None or two is None:
        kind = ChangeKind.NEW if one is None else ChangeKind.REMOVED
        present = one or two
        cells = _summary(present) if present else {}
        keys = sorted(cells, key=measure_order)
        return ResultDiff(result, tuple(_one_sided(key, cells[key], kind) for key in keys))
    tracked = paths.predictions(*result).as_posix()
    md5s = [side.output_md5s.get(tracked, "") for side in sides]
    values = _summary(one), _summary(two)
    tested: dict[MeasureKey, MeasureChange] = {}
    if md5s[0] and md5s[0] == md5s[1]:
        notes = ["The predictions are the same: the lists, the code or the data's record changed."]
        kind = ChangeKind.RECOMPUTED
    else:
        comparison, notes = _compare(result, (one, two), md5s, project)
        tested = _tested(comparison, values) if comparison else {}
        kind = ChangeKind.UNPAIRED
    changes = []
    for key in sorted({*values[0], *values[1]}, key=measure_order):
        a, b = values[0].get(key), values[1].get(key)
        if key in tested:
            changes.append(tested[key])
        elif a is None or b is None:
            one_sided = ChangeKind.NEW if a is None else ChangeKind.REMOVED
            changes.append(_one_sided(key, a or b, one_sided))
        elif kind is ChangeKind.UNPAIRED or a != b:
            changes.append(MeasureChange(title(*key), a, b, kind, b.value - a.value))
    return ResultDiff(result, tuple(changes), tuple(_untested(one, two, values)), tuple(notes))


def _one_sided(key: MeasureKey, cell: Cell | None, kind: ChangeKind) -> MeasureChange:
    new = kind is ChangeKind.NEW
    return MeasureChange(title(*key), None if new else cell, cell if new else None, kind)


def _compare(
    result: Result,
    metrics: tuple[ProtocolResult, ProtocolResult],
    md5s: list[str],
    project: DvcProject,
) -> tuple[Comparison | None, list[str]]:
    """The paired comparison and its notes; None and the reason where it is impossible."""
    compared = []
    for side, (content, md5) in enumerate(zip(metrics, md5s, strict=True)):
        name = ("base", "head")[side]
        file = project.find(md5, paths.predictions(*result).as_posix() if side else "")
        if file is None:
            return None, [f"Unpaired: the predictions of {name} are not available."]
        try:
            source = pa.BufferReader(file.read_bytes())  # the file may lie in a temporary folder
            videos = read_per_video(source, result[2], f"the predictions of {name}")
            compared.append(LoadedResult(name, content, videos))
        except UserError as error:
            return None, [f"Unpaired: {error}."]
    try:
        comparison = compare(*compared)
    except UserError as error:
        return None, [f"Unpaired: {error}."]
    notes = list(comparison.notes)
    only = [
        sum(getattr(test, side) for test in comparison.coverage) for side in ("only_a", "only_b")
    ]
    if any(only):
        notes.append(
            "Differences are on the videos that both tested: "
            f"{only[0]:,} tests of base alone and {only[1]:,} of head alone are left out."
        )
    names = ((" in A and ", " in base and "), (" in B.", " in head."))
    for old, new in names:
        notes = [note.replace(old, new) for note in notes]
    return comparison, notes


def _tested(
    comparison: Comparison, values: tuple[dict[MeasureKey, Cell], dict[MeasureKey, Cell]]
) -> dict[MeasureKey, MeasureChange]:
    """The changes of the measures that have a paired test; `values` of base and of head."""
    changes = {}
    for one in comparison.differences:
        key = one.measure, one.metric
        if one.split or key not in values[0] or key not in values[1]:
            continue
        changes[key] = MeasureChange(
            measure=title(*key),
            base=values[0][key],
            head=values[1][key],
            kind=ChangeKind(one.verdict),
            difference=one.difference,
            ci95=one.ci95,
        )
    return changes


def title(entry: str, metric: str) -> str:
    """The name of a measure, without its protocol's: `base top-1`, `harmonic mean`, `general mAP`."""
    return measure_title("" if entry in PROTOCOLS else entry, metric)


def _summary(result: ProtocolResult) -> dict[MeasureKey, Cell]:
    return {key: Cell.of(one) for key, one in comparable_measures(result).items()}


def _untested(
    one: ProtocolResult,
    two: ProtocolResult,
    tested: tuple[dict[MeasureKey, Cell], dict[MeasureKey, Cell]],
) -> Iterator[MeasureChange]:
    """Other numbers of the summaries, and the calibration error of each test, where they changed."""
    sides = [dict(_numbers(metrics, tested[side])) for side, metrics in enumerate((one, two))]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        a, b = sides[0].get(name), sides[1].get(name)
        if a is not None and b is not None and a != b:
            yield MeasureChange(name, a, b, ChangeKind.UNPAIRED, b.value - a.value)


def _numbers(result: ProtocolResult, tested: dict[MeasureKey, Cell]) -> Iterator[tuple[str, Cell]]:
    for one in measures(result):
        if one.split and one.measure == "ece":
            yield f"{one.split}/{one.test} ece", Cell.of(one)
        elif not one.split and one.measure != "hm" and (one.test, one.measure) not in tested:
            yield f"{one.test} {one.measure.replace('/', ' ')}", Cell.of(one)
