"""Compares two results, A and B, on the videos that both tested: `compare(a, b)`.

A difference is B less A. Hits of one test of independent videos are judged by the exact McNemar test
(Dietterich 1998), all others by Student's t with the variance of `metrics.intervals`, in which videos of
one group (re-identification: of a person) go together, with their values in every list and from both
results.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vidprompt.comparison.pairing import Coverage, pair
from vidprompt.comparison.per_video import HITS, KEYS, MEASURES, RETRIEVAL, measured
from vidprompt.comparison.results import LoadedResult
from vidprompt.metrics.classification import harmonic_mean, harmonic_slopes
from vidprompt.metrics.intervals import (
    LEVEL,
    MIN_UNITS,
    UnitMean,
    combine,
    difference_interval,
    mcnemar_exact,
    mean_of_test,
)
from vidprompt.metrics.recognition import unit_numbers
from vidprompt.metrics.result import Measure, ProtocolResult, summary_entry, summary_measures
from vidprompt.system.errors import UserError

MIN_SIGNS = 6  # fewer signs cannot reach p < 0.05: 2 / 2⁵ = 0.0625
_SEED = "#seed"  # before a seed, in the splits of a table of several
Test = tuple[str, str]  # split, test
MeasureKey = tuple[str, str]  # an entry of a result's summary, metric
Numbers = NDArray[np.float64]


class ComparisonVerdict(StrEnum):
    """Whether B is better or worse than A.

    `TOO_FEW`: of fewer than six videos, groups or persons no test can say. `UNPAIRED`: nothing to test.
    """

    BETTER = "better"
    WORSE = "worse"
    SAME = "no difference shown"
    TOO_FEW = "too few"
    UNPAIRED = "unpaired"


@dataclass(frozen=True)
class MeasureDifference:
    """One measure of both results, fractions in [0, 1].

    `measure` is an entry of metrics.json's summary; `split` is empty for the mean over its splits.
    Paired: `n` videos (mean: different ones), `units` that go together, `ci95` of the difference (None of
    too few units), `p` by `p_by` (`mcnemar` or `t`), and for hits how many are right in A alone and B
    alone. Unpaired: the interval of each instead.
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
    unit: str  # video, group or person
    differences: tuple[MeasureDifference, ...]
    coverage: tuple[Coverage, ...]
    changed: pd.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True)
class MeanOfTests:
    """A row: the mean of `metric` over tests, or the harmonic mean of two such means."""

    name: str
    split: str
    metric: str
    tests: tuple[Test, ...]
    novel: tuple[Test, ...] = ()  # with these, the harmonic mean of `tests` (base) and them


def compare(a: LoadedResult, b: LoadedResult) -> Comparison:
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
        return Comparison(a, b, False, unit, unpaired, (), empty, tuple(notes))
    pairs, coverage = pair(a.videos, b.videos, (a.name, b.name))
    # of two revisions one may be from before groups were kept
    group = pairs["group_b"].where(pairs["group_b"] != "", pairs["group_a"])
    pairs["unit"] = unit_numbers(pairs.assign(group=group))
    if unit == "video" and (group != "").any():
        unit = "group"
    differences = tuple(_difference(pairs, measure) for measure in means_of_tests(protocol, pairs))
    return Comparison(
        a=a,
        b=b,
        paired=True,
        unit=unit,
        differences=differences,
        coverage=coverage,
        changed=_changed(pairs, measured(protocol)[0]),
        notes=tuple(notes),
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


def means_of_tests(protocol: str, pairs: pd.DataFrame) -> Iterator[MeanOfTests]:
    """The rows, as the summary of metrics.json has them; of several splits, each after their mean.

    The tests of several seeds (`split_of_seed`) are of one entry.
    """
    entries: dict[str, list[Test]] = {}
    for test in sorted(set(zip(pairs["split"], pairs["test"], strict=True))):
        split, _ = seed_of(test[0])
        name = test[1] if protocol == "reid" else summary_entry(protocol, split, test[1])
        entries.setdefault(name, []).append(test)
    for name in sorted(entries, key=_natural):
        tests = tuple(entries[name])
        for metric in measured(protocol):
            yield MeanOfTests(name, "", metric, tests)
            for test in tests if len(tests) > 1 else ():
                yield MeanOfTests(name, test[0], metric, (test,))
        before, _, last = name.rpartition("novel")
        if not last and f"{before}base" in entries:
            yield MeanOfTests(f"{before}hm", "", "top1", tuple(entries[f"{before}base"]), tests)


def _natural(name: str) -> tuple[int, str, bool, str]:
    """2shot before 16shot; the harmonic mean after base and novel."""
    number = re.match(r"\d+", name)
    before, _, part = name.rpartition("/")
    return (int(number[0]) if number else 0, before, part == "hm", part)


def _difference(pairs: pd.DataFrame, measure: MeanOfTests) -> MeasureDifference:
    tests = [*measure.tests, *measure.novel]
    of_test = dict(list(pairs.groupby(["split", "test"])))
    parts = [of_test[test] for test in tests]
    rows = pd.concat(parts)
    a, b = (rows[f"{measure.metric}_{side}"].to_numpy(np.float64) for side in "ab")
    hits = measure.metric in HITS
    ends, value, p, sides = _tested_difference(parts, measure, hits)
    units = rows["unit"].nunique()
    changed = int(rows.loc[a != b, "unit"].nunique())
    p = max(p, 2.0 ** (1 - changed))  # what signs of so many units could show
    hits = hits and not measure.novel
    exact = hits and len(tests) == 1 and units == len(rows)
    if exact:
        p = mcnemar_exact(a, b)
    few = units < MIN_UNITS
    return MeasureDifference(
        measure=measure.name,
        split=measure.split,
        metric=measure.metric,
        a=_rounded(sides[0]),
        b=_rounded(sides[1]),
        difference=_rounded(value),
        verdict=ComparisonVerdict.TOO_FEW if units < MIN_SIGNS else _verdict(*ends, p),
        n=int(rows["video_id"].nunique()),
        units=units,
        ci95=None if few else (_rounded(ends[0]), _rounded(ends[1])),
        p=float(f"{min(p, 1.0):.6g}"),
        p_by="mcnemar" if exact else "t",
        only_a=int((a > b).sum()) if hits else None,
        only_b=int((a < b).sum()) if hits else None,
    )


def _tested_difference(
    parts: list[pd.DataFrame], measure: MeanOfTests, hits: bool
) -> tuple[tuple[float, float], float, float, tuple[float, float]]:
    """The interval of the difference, the difference, p, and the measure of A and of B."""
    first = len(measure.tests)
    means: list[UnitMean] = []
    gradient: list[float] = []
    values = []
    for side, sign in (("b", 1), ("a", -1)):
        found = [
            mean_of_test(part[f"{measure.metric}_{side}"], part["unit"].to_numpy())
            for part in parts
        ]
        base = float(np.mean([mean.value for mean in found[:first]]))
        slopes, value = (1.0, 0.0), base
        if measure.novel:
            novel = float(np.mean([mean.value for mean in found[first:]]))
            slopes, value = harmonic_slopes(base, novel), harmonic_mean(base, novel)
        means += found
        gradient += [sign * slopes[0] / first] * first
        gradient += [sign * slopes[1] / max(1, len(measure.novel))] * len(measure.novel)
        values.append(value)
    trainings = trainings_of(measure, parts)
    difference = values[0] - values[1]
    statistic = combine(difference, means, gradient, trainings and trainings * 2)
    low, high, p = difference_interval(
        statistic,
        n=sum(map(len, parts)) // len(set(trainings or [0])),
        hits=hits,
        gallery=measure.metric in RETRIEVAL,
    )
    return (low, high), difference, p, (values[1], values[0])


def trainings_of(measure: MeanOfTests, parts: list[pd.DataFrame]) -> list[int] | None:
    """The training of each of a measure's tests, from 0, where they are a sample of trainings.

    Tests of one list are of as many trainings; tests of other lists of one a seed.
    """
    first = len(measure.tests)
    halves = [parts[:first], parts[first:]] if measure.novel else [parts]
    if len(halves[0]) > 1 and all(_same_list(half) for half in halves):
        return [i for half in halves for i in range(len(half))]
    seeds = [seed_of(split)[1] for split, _ in (*measure.tests, *measure.novel)]
    names = sorted(set(seeds))
    return [names.index(seed) for seed in seeds] if len(names) > 1 else None


def split_of_seed(split: str, seed: int) -> str:
    """The name of a split in a table of several seeds' predictions."""
    return f"{split}{_SEED}{seed}"


def seed_of(split: str) -> tuple[str, str]:
    """A split's own name, and its seed; empty in a table of one training."""
    name, _, seed = split.partition(_SEED)
    return name, seed


def _same_list(parts: list[pd.DataFrame]) -> bool:
    """Whether tests have the same videos: one list, tested by several trainings."""
    first = parts[0]["video_id"].to_numpy()
    return all(np.array_equal(first, part["video_id"]) for part in parts)


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
