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
from vidprompt.metrics.bootstrap import VideoValues, percentile_interval, resample_tests
from vidprompt.metrics.calibration import BINS, reliability
from vidprompt.metrics.predictions import COUNT, RANK

Key = tuple[str, str]  # split, test


def rounded(value: float) -> float:
    """A metric with six decimals: what a reader needs, and stable in a diff."""
    return round(float(value), 6)


def with_interval(value: float, samples: NDArray[np.float64]) -> dict[str, Any]:
    """A metric with the 95 % interval of its bootstrap samples (R,), as metrics.json has it."""
    return {"value": rounded(value), "ci95": [rounded(end) for end in percentile_interval(samples)]}


class Bootstrap:
    """Bootstrap samples of the metrics of a protocol's tests.

    `metrics` names the columns of the samples: top1, top5, the groupings of classes, and the mean over
    classes.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.tests = dict(_tests(table))
        self.groupings = [
            name.removeprefix(RANK) for name in table.columns if name.startswith(RANK)
        ]
        self.metrics = ["top1", "top5", *self.groupings, "mean_class"]
        self._alone: dict[Key, NDArray[np.float64]] = {}

    def hits(self, key: Key) -> VideoValues:
        """0 or 1 of every video, in the order of `metrics` (0 where a grouping is unknown)."""
        rows = self.tests[key]
        hits = [rows["rank"] < 1, rows["rank"] < 5]
        hits += [rows[f"{RANK}{name}"] < 1 for name in self.groupings]
        values = np.stack([hit.to_numpy() for hit in hits], axis=1).astype(np.float64)
        return VideoValues(rows["video_id"].to_numpy(), values, pd.factorize(rows["label"])[0])

    def samples(self, keys: Sequence[Key]) -> list[NDArray[np.float64]]:
        """For each test (R, len(metrics)), from draws that the tests share."""
        first = self.tests[keys[0]]["video_id"].to_numpy()
        if all(np.array_equal(first, self.tests[key]["video_id"]) for key in keys[1:]):
            for key in keys:  # of equal lists, the draws are those of each test alone
                if key not in self._alone:
                    self._alone[key] = resample_tests([self.hits(key)])[0]
            return [self._alone[key] for key in keys]
        return resample_tests([self.hits(key) for key in keys])

    def mean(self, keys: Sequence[Key], metric: str) -> NDArray[np.float64]:
        """(R,) samples of the mean over tests of one of the `metrics`."""
        column = self.metrics.index(metric)
        means: NDArray[np.float64] = np.mean([s[:, column] for s in self.samples(keys)], axis=0)
        return means


def _tests(table: pd.DataFrame) -> Iterator[tuple[Key, pd.DataFrame]]:
    """The rows of every test, in the order of the table."""
    for (split, test), rows in table.groupby(["split", "test"], sort=False):
        yield (str(split), str(test)), rows


def metrics_of(table: pd.DataFrame) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """(split → test → metrics, summary) of a protocol's predictions; see docs/architecture.md."""
    bootstrap = Bootstrap(table)
    tests: dict[str, dict[str, Any]] = {}
    for split, test in bootstrap.tests:
        tests.setdefault(split, {})[test] = _metrics(bootstrap, (split, test))
    return tests, summarise(tests, bootstrap)


def _metrics(bootstrap: Bootstrap, key: Key) -> dict[str, Any]:
    """All metrics of one test."""
    rows, hits = bootstrap.tests[key], bootstrap.hits(key)
    by_class = np.bincount(hits.classes, weights=hits.values[:, 0]) / np.bincount(hits.classes)
    values = dict(zip(bootstrap.metrics, [*hits.values.mean(axis=0), by_class.mean()], strict=True))
    measured = {n: with_interval(v, bootstrap.mean([key], n)) for n, v in values.items()}
    metrics = {"n": len(rows)} | {n: measured[n] for n in ("top1", "top5", "mean_class")}
    error = reliability(rows["confidence"], hits.values[:, 0]).error
    metrics["ece"] = {"value": rounded(error), "n": len(rows), "bins": BINS}
    within = {
        name: measured[name] | {"chance": rounded((1 / rows[f"{COUNT}{name}"]).mean())}
        for name in bootstrap.groupings
        if rows[f"{RANK}{name}"].notna().all()
    }
    return metrics | ({"within": within} if within else {})


def summarise(tests: Mapping[str, Mapping[str, Any]], bootstrap: Bootstrap) -> dict[str, Any]:
    """Means over the splits of each measure; `tests` maps a split to its tests' metrics.

    Over several splits of one measure (official splits, random halves, seeds): the mean, the population
    standard deviation, and the interval of the mean, from draws of the videos of all of them. A published
    list is an entry of its own, under its split file's name.
    """
    measures: dict[str, list[str]] = {}
    for name in tests:
        measures.setdefault(measure_of(name) or name, []).append(name)
    summary: dict[str, Any] = {}
    for measure, splits in measures.items():
        if "base" in tests[splits[0]]:
            prefix = "" if measure == "base_to_novel" else f"{measure}/"
            entries = _base_and_novel(tests, splits, bootstrap)
            summary |= {f"{prefix}{name}": entry for name, entry in entries.items()}
            continue
        keys = [(split, "test") for split in splits]
        summary[measure] = {
            metric: _mean(tests, keys, metric, bootstrap)
            for metric in ("top1", "top5", "mean_class")
        }
        within = [tests[split]["test"].get("within", {}) for split in splits]
        shared = [name for name in within[0] if all(name in groupings for groupings in within)]
        if shared:
            summary[measure]["within"] = {
                name: _mean(tests, keys, name, bootstrap)
                | {"chance": rounded(np.mean([groupings[name]["chance"] for groupings in within]))}
                for name in shared
            }
    return summary


def _base_and_novel(
    tests: Mapping[str, Mapping[str, Any]], splits: Sequence[str], bootstrap: Bootstrap
) -> dict[str, Any]:
    """Means over the splits of base and of novel, and the harmonic mean of these two means.

    Its interval is of videos of both drawn together.
    """
    keys = {half: [(split, half) for split in splits] for half in ("base", "novel")}
    base, novel = (_mean(tests, keys[half], "top1", bootstrap) for half in keys)
    samples = [s[:, 0] for s in bootstrap.samples(keys["base"] + keys["novel"])]
    b, n = (np.mean(half, axis=0) for half in (samples[: len(splits)], samples[len(splits) :]))
    both = np.where(b + n == 0, 1, b + n)
    harmonic = with_interval(c.harmonic_mean(base["value"], novel["value"]), 2 * b * n / both)
    return {"base": {"top1": base}, "novel": {"top1": novel}, "hm": harmonic}


def _mean(
    tests: Mapping[str, Mapping[str, Any]], keys: Sequence[Key], metric: str, bootstrap: Bootstrap
) -> dict[str, Any]:
    """The mean of a metric over tests, and of several tests its standard deviation."""
    metrics = [tests[split][test] for split, test in keys]
    values = [(one.get(metric) or one["within"][metric])["value"] for one in metrics]
    mean, std = c.mean_std(values)
    entry = with_interval(mean, bootstrap.mean(keys, metric))
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
