"""Compares two results, A and B, on the videos that both tested: `compare(a, b)`.

A difference is B less A. Hits of one test are judged by the exact McNemar test (Dietterich 1998); means
over splits or seeds, harmonic means and re-identification by a paired bootstrap, in which a video
(re-identification: a person) is drawn with its values in every list and from both results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vidprompt.comparison.pairing import Coverage, pair
from vidprompt.comparison.per_video import HITS, KEYS, MEASURES, measured
from vidprompt.comparison.results import LoadedResult
from vidprompt.metrics.bootstrap import mcnemar_exact, paired_bootstrap, resampled_sums
from vidprompt.metrics.result import Measure, ProtocolResult, summary_entry, summary_measures
from vidprompt.system.errors import UserError

RESAMPLES, SEED, LEVEL = 10_000, 0, 0.95
Test = tuple[str, str]  # split, test
MeasureKey = tuple[str, str]  # an entry of a result's summary, metric
Numbers = NDArray[np.float64]


class ComparisonVerdict(StrEnum):
    """Whether B is better or worse than A; `UNPAIRED` where no test can say."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "no difference shown"
    UNPAIRED = "unpaired"


@dataclass(frozen=True)
class MeasureDifference:
    """One measure of both results, fractions in [0, 1].

    `measure` is an entry of metrics.json's summary; `split` is empty for the mean over its splits.
    Paired: `n` videos (mean: different ones), `units` drawn, `ci95` of the difference, `p` by `p_by`
    (`mcnemar` or `bootstrap`), and for hits how many are right in A alone and B alone. Unpaired: the
    interval of each instead.
    """

    measure: str
    split: str
    metric: str
    a: float
    b: float
    difference: float
    verdict: ComparisonVerdict
    n: int | None = None
    units: int | None = None
    ci95: tuple[float, float] | None = None
    p: float | None = None
    p_by: str | None = None
    only_a: int | None = None
    only_b: int | None = None
    ci95_a: tuple[float, float] | None = None
    ci95_b: tuple[float, float] | None = None


@dataclass(frozen=True)
class Comparison:
    """Two results and their differences, measure by measure.

    `changed` has a row for each video that only one of them predicted right: `split`, `test`, `video_id`,
    `label`, `right` (a or b), `predicted_a`, `predicted_b`. `notes` are sentences for the reader. `paired`
    is false where predictions are missing: then there are only the two intervals.
    """

    a: LoadedResult
    b: LoadedResult
    paired: bool
    unit: str  # video or person
    differences: tuple[MeasureDifference, ...]
    coverage: tuple[Coverage, ...]
    changed: pd.DataFrame
    notes: tuple[str, ...]
    resamples: int
    seed: int


@dataclass(frozen=True)
class _Measure:
    """A row: the mean of `metric` over tests, or the harmonic mean of two such means."""

    name: str
    split: str
    metric: str
    tests: tuple[Test, ...]
    novel: tuple[Test, ...] = ()  # with these, the harmonic mean of `tests` (base) and them


def compare(
    a: LoadedResult, b: LoadedResult, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Comparison:
    """Compare B with A on their common videos; unpaired where predictions of one are missing.

    UserError when they are of different protocols, have no video in common, name different classes or
    give a common video different labels.
    """
    protocol = a.result.protocol
    if protocol != b.result.protocol:
        raise UserError(
            f"{a.name} is of protocol {protocol} and {b.name} of {b.result.protocol}: compare results "
            "of one protocol"
        )
    notes = _input_differences(a, b)
    unit = "person" if protocol == "reid" else "video"
    if a.videos is None or b.videos is None:
        notes = [result.missing for result in (a, b) if result.videos is None] + notes
        unpaired = tuple(_unpaired(a, b))
        empty = pd.DataFrame(columns=[*KEYS, "label", "right", "predicted_a", "predicted_b"])
        return Comparison(a, b, False, unit, unpaired, (), empty, tuple(notes), resamples, seed)
    pairs, coverage = pair(a.videos, b.videos, (a.name, b.name))
    pairs["unit"] = pairs["label"] if unit == "person" else pairs["video_id"]
    differences = tuple(
        _difference(pairs, measure, resamples, seed) for measure in _measures(protocol, pairs)
    )
    return Comparison(
        a=a,
        b=b,
        paired=True,
        unit=unit,
        differences=differences,
        coverage=coverage,
        changed=_changed(pairs, measured(protocol)[0]),
        notes=tuple(notes),
        resamples=resamples,
        seed=seed,
    )


def _input_differences(a: LoadedResult, b: LoadedResult) -> list[str]:
    """A sentence where the data differ, and for every split or list with another id."""
    notes = []
    if a.result.hashes.data != b.result.hashes.data:
        notes.append("The manifests differ: videos were added, removed or found broken in between.")
    ids = _ids(a), _ids(b)
    for name in sorted(ids[0].keys() & ids[1].keys()):
        if ids[0][name] != ids[1][name]:
            notes.append(f"{name} is {ids[0][name]} in A and {ids[1][name]} in B.")
    return notes


def _ids(loaded: LoadedResult) -> dict[str, str]:
    splits = {name: split.id for name, split in loaded.result.splits.items()}
    return splits | {name: one.id for name, one in loaded.result.summary.items() if one.id}


def _measures(protocol: str, pairs: pd.DataFrame) -> Iterator[_Measure]:
    """The rows, as the summary of metrics.json has them; of several splits, each after their mean."""
    entries: dict[str, list[Test]] = {}
    for test in sorted(set(zip(pairs["split"], pairs["test"], strict=True))):
        name = test[1] if protocol == "reid" else summary_entry(protocol, *test)
        entries.setdefault(name, []).append(test)
    for name in sorted(entries, key=_natural):
        tests = tuple(entries[name])
        for metric in measured(protocol):
            yield _Measure(name, "", metric, tests)
            for test in tests if len(tests) > 1 else ():
                yield _Measure(name, test[0], metric, (test,))
        before, _, last = name.rpartition("novel")
        if not last and f"{before}base" in entries:
            yield _Measure(f"{before}hm", "", "top1", tuple(entries[f"{before}base"]), tests)


def _natural(name: str) -> tuple[int, str, bool, str]:
    """2shot before 16shot; the harmonic mean after base and novel."""
    number = re.match(r"\d+", name)
    before, _, part = name.rpartition("/")
    return (int(number[0]) if number else 0, before, part == "hm", part)


def _difference(
    pairs: pd.DataFrame, measure: _Measure, resamples: int, seed: int
) -> MeasureDifference:
    tests = [*measure.tests, *measure.novel]
    place = {test: i for i, test in enumerate(tests)}
    where = np.array([place.get(t, -1) for t in zip(pairs["split"], pairs["test"], strict=True)])
    rows = pairs[where >= 0]
    values = rows[[f"{measure.metric}_a", f"{measure.metric}_b"]].to_numpy(np.float64)
    names, unit = np.unique(rows["unit"].to_numpy(str), return_inverse=True)
    sums = _unit_sums(values, where[where >= 0], unit, (len(names), len(tests)))
    statistic = _statistic(len(measure.tests), bool(measure.novel))
    a, b = statistic(sums.sum(axis=0, keepdims=True))[0]
    changed = len(np.unique(unit[values[:, 0] != values[:, 1]]))
    drawn = statistic(
        resampled_sums(sums.reshape(len(names), -1), resamples=resamples, seed=seed).reshape(
            resamples, len(tests), 3
        )
    )
    low, high, p = paired_bootstrap(drawn[:, 1] - drawn[:, 0], changed=changed, level=LEVEL)
    hits = measure.metric in HITS and not measure.novel
    exact = hits and len(tests) == 1 and len(names) == len(rows)
    if exact:
        p = mcnemar_exact(values[:, 0], values[:, 1])
    return MeasureDifference(
        measure=measure.name,
        split=measure.split,
        metric=measure.metric,
        a=_rounded(a),
        b=_rounded(b),
        difference=_rounded(b - a),
        verdict=_verdict(low, high, p),
        n=int(rows["video_id"].nunique()),
        units=len(names),
        ci95=(_rounded(low), _rounded(high)),
        p=float(f"{p:.6g}"),
        p_by="mcnemar" if exact else "bootstrap",
        only_a=int((values[:, 0] > values[:, 1]).sum()) if hits else None,
        only_b=int((values[:, 0] < values[:, 1]).sum()) if hits else None,
    )


def _unit_sums(
    values: Numbers, test: NDArray[np.int64], unit: NDArray[np.int64], shape: tuple[int, int]
) -> Numbers:
    """(units, tests, 3): how many videos of a unit a test has, and the sums of A's and B's values."""
    sums = np.zeros((*shape, 3))
    np.add.at(sums, (unit, test), np.column_stack([np.ones(len(values)), values]))
    return sums


def _statistic(tests: int, harmonic: bool) -> Callable[[Numbers], Numbers]:
    """From sums (R, T, 3) to the measure of A and B (R, 2); NaN where a test has no video."""

    def of(sums: Numbers) -> Numbers:
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums[:, :, 1:] / sums[:, :, :1]
        base = means[:, :tests].mean(axis=1)
        if not harmonic:
            return base
        novel = means[:, tests:].mean(axis=1)
        total = base + novel
        return np.where(total == 0, 0.0, 2 * base * novel / np.where(total == 0, 1.0, total))

    return of


def _verdict(low: float, high: float, p: float) -> ComparisonVerdict:
    """Both the interval and the test have to exclude 0."""
    if p >= 1 - LEVEL or low <= 0 <= high:
        return ComparisonVerdict.SAME
    return ComparisonVerdict.BETTER if low > 0 else ComparisonVerdict.WORSE


def _changed(pairs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The videos that only one of them predicted right, sorted by split, test and video."""
    rows = pairs[pairs[f"{metric}_a"] != pairs[f"{metric}_b"]]
    right = np.where(rows[f"{metric}_b"] > rows[f"{metric}_a"], "b", "a")
    columns = [*KEYS, "label", "right", "predicted_a", "predicted_b"]
    return rows.assign(right=right)[columns].reset_index(drop=True)


def _unpaired(a: LoadedResult, b: LoadedResult) -> Iterator[MeasureDifference]:
    """The measures that both summaries have, with the interval of each."""
    one, two = comparable_measures(a.result), comparable_measures(b.result)
    for key in sorted(one.keys() & two.keys(), key=measure_order):
        yield MeasureDifference(
            measure=key[0],
            split="",
            metric=key[1],
            a=one[key].value,
            b=two[key].value,
            difference=_rounded(two[key].value - one[key].value),
            verdict=ComparisonVerdict.UNPAIRED,
            ci95_a=one[key].ci95,
            ci95_b=two[key].ci95,
        )


def comparable_measures(result: ProtocolResult) -> dict[MeasureKey, Measure]:
    """The summary's measures that have a value for each video: top-1, top-5, harmonic means, R-1, mAP."""
    named = {
        (one.test, "top1" if one.measure == "hm" else one.measure): one
        for one in summary_measures(result).values()
    }
    return {key: one for key, one in named.items() if key[1] in MEASURES}


def measure_order(key: MeasureKey) -> tuple[tuple[int, str, bool, str], int]:
    """Sort key: entries as in `_natural`, metrics as in `MEASURES`."""
    return _natural(key[0]), MEASURES.index(key[1])


def _rounded(value: float) -> float:
    """Six decimals, as in metrics.json; no minus zero."""
    return round(float(value), 6) + 0.0
