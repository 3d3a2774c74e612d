"""Results of several seeds as one: their mean with its interval, and paired differences of two methods.

A seed is a training: videos of one list that several trainings are tested on vary by video and by training
(`metrics.intervals.combine`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from vidprompt.comparison.compare import (
    MeanOfTests,
    MeasureKey,
    means_of_tests,
    split_of_seed,
    trainings_of,
)
from vidprompt.comparison.per_video import RETRIEVAL
from vidprompt.comparison.results import LoadedResult
from vidprompt.metrics.classification import harmonic_mean, harmonic_slopes
from vidprompt.metrics.intervals import combine, interval, mean_of_test
from vidprompt.metrics.recognition import unit_numbers
from vidprompt.metrics.result import Estimate
from vidprompt.system.errors import DataError


@dataclass(frozen=True)
class SeedMean:
    """A measure's mean over seeds with its 95 % interval, and each seed's value, in [0, 1]."""

    estimate: Estimate
    values: tuple[float, ...]


def as_one(results: Mapping[int, LoadedResult], name: str) -> LoadedResult:
    """The predictions of several seeds in one table, the seed in the name of each split.

    Raises DataError where a seed's predictions are missing.
    """
    parts = []
    for seed, result in sorted(results.items()):
        if result.videos is None:
            raise DataError(result.missing)
        splits = [split_of_seed(str(split), seed) for split in result.videos["split"]]
        parts.append(result.videos.assign(split=splits))
    first = next(iter(results.values()))
    return replace(first, name=name, videos=pd.concat(parts, ignore_index=True))


def repeated(result: LoadedResult, seeds: Sequence[int], name: str) -> LoadedResult:
    """A result without seeds beside one with them: it is the same with every seed."""
    return as_one(dict.fromkeys(seeds, result), name)


def seed_means(results: Mapping[int, LoadedResult]) -> dict[MeasureKey, SeedMean]:
    """Entry of a summary and metric → the mean over seeds.

    Of one seed the values and intervals are those of its metrics.json.
    """
    one = as_one(results, "")
    videos, protocol = one.videos, one.result.protocol
    assert videos is not None
    videos = videos.assign(unit=unit_numbers(videos))
    of_test = {(str(s), str(t)): rows for (s, t), rows in videos.groupby(["split", "test"])}
    found = {}
    for measure in means_of_tests(protocol, videos):
        if measure.split:
            continue
        seeds = tuple(_value(_of_seed(measure, seed), of_test) for seed in sorted(results))
        found[measure.name, measure.metric] = SeedMean(_estimate(measure, of_test), seeds)
    return found


def _of_seed(measure: MeanOfTests, seed: int) -> MeanOfTests:
    ending = split_of_seed("", seed)
    tests, novel = (
        tuple(test for test in side if test[0].endswith(ending))
        for side in (measure.tests, measure.novel)
    )
    return replace(measure, tests=tests, novel=novel)


def _value(measure: MeanOfTests, of_test: Mapping[tuple[str, str], pd.DataFrame]) -> float:
    means = [
        float(np.mean([of_test[test][measure.metric].mean() for test in side]))
        for side in (measure.tests, measure.novel)
        if side
    ]
    return harmonic_mean(*means) if len(means) == 2 else means[0]


def _estimate(measure: MeanOfTests, of_test: Mapping[tuple[str, str], pd.DataFrame]) -> Estimate:
    parts = [of_test[test] for test in (*measure.tests, *measure.novel)]
    means = [mean_of_test(part[measure.metric], part["unit"].to_numpy()) for part in parts]
    base, novel = len(measure.tests), len(measure.novel)
    value, slopes = float(np.mean([mean.value for mean in means[:base]])), (1.0, 0.0)
    if novel:
        other = float(np.mean([mean.value for mean in means[base:]]))
        value, slopes = harmonic_mean(value, other), harmonic_slopes(value, other)
    gradient = [slopes[0] / base] * base + [slopes[1] / max(1, novel)] * novel
    statistic = combine(value, means, gradient, trainings_of(measure, parts))
    ends = interval(statistic, gallery=measure.metric in RETRIEVAL)
    return Estimate(value, ends, units=statistic.units)
