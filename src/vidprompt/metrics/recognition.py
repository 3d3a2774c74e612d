"""Metrics and plot data of the recognition protocols, from the table of predictions alone.

A table has the columns of `vidprompt.metrics.predictions.without_lists`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vidprompt.data.splits.names import measure_of
from vidprompt.metrics import classification as c
from vidprompt.metrics.calibration import BINS, reliability
from vidprompt.metrics.intervals import Statistic, UnitMean, combine, interval, mean_of_test
from vidprompt.metrics.metric import hits, video_values
from vidprompt.metrics.predictions import COUNT, RANK

Key = tuple[str, str]  # split, test


def rounded(value: float) -> float:
    """A metric with six decimals: what a reader needs, and stable in a diff."""
    return round(float(value), 6)


def with_interval(statistic: Statistic, *, gallery: bool = False) -> dict[str, Any]:
    """A metric with the number of its units and, unless they are too few, its 95 % interval."""
    entry: dict[str, Any] = {"value": rounded(statistic.value), "units": statistic.units}
    ends = interval(statistic, gallery=gallery)
    return entry | ({"ci95": [rounded(end) for end in ends]} if ends else {})


class TableMeans:
    """The means of a protocol's tests, with what their units add: videos of one group, or single ones.

    `metrics` names what `mean` takes: top1, top5 and `others` (of METRICS), the groupings of classes, and the
    mean over classes.
    """

    def __init__(self, table: pd.DataFrame, others: Sequence[str] = ()) -> None:
        self._unit = pd.Series(unit_numbers(table), index=np.arange(len(table)))
        table = table.reset_index(drop=True)
        self.tests = dict(_tests(table))
        self.groupings = [
            name.removeprefix(RANK) for name in table.columns if name.startswith(RANK)
        ]
        # those in METRICS, shown in this order
        self.by_video = list(dict.fromkeys(["top1", "top5", *others]))
        self.metrics = [*self.by_video, *self.groupings, "mean_class"]
        self._means: dict[tuple[Key, str], UnitMean] = {}

    def hits(self, key: Key, metric: str) -> NDArray[np.float64]:
        """0 or 1 of every video of a test (0 where a grouping is unknown); a plug-in's values in [0, 1]."""
        rows = self.tests[key]
        if metric in self.groupings:
            return hits(rows[f"{RANK}{metric}"], 1)
        return video_values("top1" if metric == "mean_class" else metric, rows)

    def mean(self, key: Key, metric: str) -> UnitMean:
        """The mean of a test by one of the `metrics`."""
        if (key, metric) not in self._means:
            rows = self.tests[key]
            classes = pd.factorize(rows["label"])[0] if metric == "mean_class" else None
            units = self._unit[rows.index].to_numpy()
            self._means[key, metric] = mean_of_test(self.hits(key, metric), units, classes)
        return self._means[key, metric]

    def trainings(self, keys: Sequence[Key]) -> range | None:
        """0, 1 … where the tests are of one list by several trainings (seeds), else None."""
        first = self.tests[keys[0]]["video_id"].to_numpy()
        same = all(np.array_equal(first, self.tests[key]["video_id"]) for key in keys[1:])
        return range(len(keys)) if same and len(keys) > 1 else None

    def average(self, keys: Sequence[Key], metric: str) -> Statistic:
        """The mean over tests of a metric."""
        means = [self.mean(key, metric) for key in keys]
        value = float(np.mean([mean.value for mean in means]))
        return combine(value, means, [1 / len(keys)] * len(keys), self.trainings(keys))

    def harmonic(self, base: Sequence[Key], novel: Sequence[Key]) -> Statistic:
        """The harmonic mean of the mean over base and of the mean over novel tests."""
        halves = [[self.mean(key, "top1") for key in keys] for keys in (base, novel)]
        b, n = (float(np.mean([mean.value for mean in half])) for half in halves)
        slopes = c.harmonic_slopes(b, n)
        gradient = [s / len(half) for s, half in zip(slopes, halves, strict=True) for _ in half]
        seeds = self.trainings(base), self.trainings(novel)
        trainings = [*seeds[0], *seeds[1]] if seeds[0] and seeds[1] else None
        return combine(c.harmonic_mean(b, n), halves[0] + halves[1], gradient, trainings)


def unit_numbers(table: pd.DataFrame) -> NDArray[np.int64]:
    """(N,) the number of each row's unit: its group, or the video where it has none.

    Tables of before groups were kept have none.
    """
    names = table["video_id"].astype(str)
    if "group" in table:
        group = table["group"].fillna("").astype(str)
        names = ("video " + names).where(group == "", "group " + group)
    return pd.factorize(names)[0].astype(np.int64)


def _tests(table: pd.DataFrame) -> Iterator[tuple[Key, pd.DataFrame]]:
    """The rows of every test, in the order of the table."""
    for (split, test), rows in table.groupby(["split", "test"], sort=False):
        yield (str(split), str(test)), rows


def metrics_of(
    table: pd.DataFrame, others: Sequence[str] = ()
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """(split → test → metrics, summary) of a protocol's predictions; see docs/architecture.md.

    `others`: metrics of METRICS beside the usual ones. UserError for an unknown one.
    """
    means = TableMeans(table, others)
    tests: dict[str, dict[str, Any]] = {}
    for split, test in means.tests:
        tests.setdefault(split, {})[test] = _metrics(means, (split, test))
    return tests, summarise(tests, means)


def _metrics(means: TableMeans, key: Key) -> dict[str, Any]:
    """All metrics of one test."""
    rows = means.tests[key]
    measured = {name: with_interval(means.average([key], name)) for name in means.metrics}
    metrics = {"n": len(rows)} | {n: measured[n] for n in (*means.by_video, "mean_class")}
    error = reliability(rows["confidence"], means.hits(key, "top1")).error
    metrics["ece"] = {"value": rounded(error), "n": len(rows), "bins": BINS}
    within = {
        name: measured[name] | {"chance": rounded((1 / rows[f"{COUNT}{name}"]).mean())}
        for name in means.groupings
        if rows[f"{RANK}{name}"].notna().all()
    }
    return metrics | ({"within": within} if within else {})


def summarise(tests: Mapping[str, Mapping[str, Any]], means: TableMeans) -> dict[str, Any]:
    """Means over the splits of each measure; `tests` maps a split to its tests' metrics.

    Over several splits of one measure (official splits, random halves, seeds): the mean, the population
    standard deviation, and the interval of the mean, in which a video of several lists counts once and
    trainings of one list by several seeds vary. A published list is an entry of its own, under its split
    file's name.
    """
    measures: dict[str, list[str]] = {}
    for name in tests:
        measures.setdefault(measure_of(name) or name, []).append(name)
    summary: dict[str, Any] = {}
    for measure, splits in measures.items():
        if "base" in tests[splits[0]]:
            prefix = "" if measure == "base_to_novel" else f"{measure}/"
            entries = _base_and_novel(tests, splits, means)
            summary |= {f"{prefix}{name}": entry for name, entry in entries.items()}
            continue
        keys = [(split, "test") for split in splits]
        summary[measure] = {
            metric: _mean(tests, keys, metric, means) for metric in (*means.by_video, "mean_class")
        }
        within = [tests[split]["test"].get("within", {}) for split in splits]
        shared = [name for name in within[0] if all(name in groupings for groupings in within)]
        if shared:
            summary[measure]["within"] = {
                name: _mean(tests, keys, name, means)
                | {"chance": rounded(np.mean([groupings[name]["chance"] for groupings in within]))}
                for name in shared
            }
    return summary


def _base_and_novel(
    tests: Mapping[str, Mapping[str, Any]], splits: Sequence[str], means: TableMeans
) -> dict[str, Any]:
    """Means over the splits of base and of novel, and the harmonic mean of these two means."""
    keys = {half: [(split, half) for split in splits] for half in ("base", "novel")}
    base, novel = (_mean(tests, keys[half], "top1", means) for half in keys)
    others = [metric for metric in means.by_video if metric not in ("top1", "top5")]
    more = {h: {m: _mean(tests, keys[h], m, means) for m in others} for h in keys}
    harmonic = with_interval(means.harmonic(keys["base"], keys["novel"]))
    harmonic["value"] = rounded(c.harmonic_mean(base["value"], novel["value"]))
    entries = {"base": {"top1": base}, "novel": {"top1": novel}}
    return {half: entry | more[half] for half, entry in entries.items()} | {"hm": harmonic}


def _mean(
    tests: Mapping[str, Mapping[str, Any]], keys: Sequence[Key], metric: str, means: TableMeans
) -> dict[str, Any]:
    """The mean of a metric over tests, and of several tests its standard deviation."""
    metrics = [tests[split][test] for split, test in keys]
    values = [(one.get(metric) or one["within"][metric])["value"] for one in metrics]
    mean, std = c.mean_std(values)
    entry = with_interval(means.average(keys, metric)) | {"value": rounded(mean)}
    return entry | ({"std": rounded(std)} if len(values) > 1 else {})


def per_class(table: pd.DataFrame, classes: Mapping[Key, Sequence[str]]) -> pd.DataFrame:
    """Top-1 of each class with videos; `classes` has a test's class names in order."""
    parts = []
    for (split, test), rows in _tests(table):
        shares = (rows["rank"] < 1).groupby(rows["label"]).agg(["size", "mean"])
        shares = shares.loc[[name for name in classes[split, test] if name in shares.index]]
        part = {"split": split, "test": test, "class": shares.index, "n": shares["size"].to_numpy()}
        parts.append(pd.DataFrame(part | {"top1": np.round(shares["mean"].to_numpy(), 6)}))
    return pd.concat(parts)


def reliabilities(table: pd.DataFrame) -> pd.DataFrame:
    """The bins of confidence that hold videos, of every test: a reliability diagram's data."""
    parts = []
    for (split, test), rows in _tests(table):
        bins = reliability(rows["confidence"], rows["rank"] < 1)
        part = {
            "split": split,
            "test": test,
            "low": np.round(bins.low, 6),
            "high": np.round(bins.high, 6),
            "n": bins.n,
            "confidence": np.round(bins.confidence, 6),
            "accuracy": np.round(bins.accuracy, 6),
        }
        parts.append(pd.DataFrame(part)[bins.n > 0])
    return pd.concat(parts)
