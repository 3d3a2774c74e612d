"""Recognition protocols: from stored features to metrics, predictions and plots data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vidprompt.data.split_names import measure_of
from vidprompt.data.splits import Split, Subset
from vidprompt.evaluation import classification as c
from vidprompt.evaluation.features import Features
from vidprompt.evaluation.uncertainty import bootstrap_interval

MAX_SCORES = 1000
SEED = 0  # of the bootstrap


@dataclass
class Tested:
    """One test of one split: what was predicted for its usable videos."""

    split: str
    test: str
    subset: Subset
    positions: np.ndarray  # usable ones among the listed
    scores: np.ndarray  # (n, C) probabilities

    @property
    def labels(self) -> np.ndarray:
        """(n,) class indices."""
        return np.asarray(self.subset.labels, np.int64)[self.positions]


def score(name: str, split: Split, features: Features, ensemble: Any) -> list[Tested]:
    """Class probabilities of every test of a split."""
    tested = []
    for test_name, test in split.tests.items():
        positions, rows = features.rows(test.videos)
        text = features.text[f"{name}/{test_name}"]
        scores = c.class_probabilities(features.video[rows], text, features.logit_scale, ensemble)
        tested.append(Tested(name, test_name, test, positions, scores))
    return tested


def measure(value: float, hits: np.ndarray) -> dict[str, Any]:
    """A mean with its 95 % bootstrap interval by video."""
    low, high = bootstrap_interval(hits.astype(np.float64), seed=SEED)
    return {"value": rounded(value), "ci95": [rounded(low), rounded(high)]}


def rounded(value: float) -> float:
    """Six decimals: what a reviewer reads, and stable in a diff."""
    return round(float(value), 6)


def test_metrics(tested: Tested, groups: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """All metrics of one test; `groups` maps a column (object, pair…) to class → group."""
    scores, labels = tested.scores, tested.labels
    top1, top5 = c.top_k_hits(scores, labels, 1), c.top_k_hits(scores, labels, 5)
    listed = len(tested.subset.videos)
    metrics: dict[str, Any] = {
        "n": len(labels),
        "listed": listed,
        "coverage": rounded(len(labels) / listed),
        "top1": measure(top1.mean(), top1),
        "top5": measure(top5.mean(), top5),
        "mean_class": {"value": rounded(c.mean_class_accuracy(scores, labels))},
    }
    within = {}
    for column, group in groups.items():
        if set(tested.subset.classes) <= set(group):
            value, chance = c.within_group_accuracy(
                scores, labels, [group[name] for name in tested.subset.classes]
            )
            within[column] = {"value": rounded(value), "chance": rounded(chance)}
    if within:
        metrics["within"] = within
    return metrics


def summarise(protocol: str, tests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a table shows; `tests` maps a split to its tests' metrics.

    Over several draws of one measure (official splits, random halves, seeds): the mean and population
    standard deviation; the interval of a single one is its bootstrap interval. A published list is an
    entry of its own, under its split file's name.
    """
    measures: dict[str, list[str]] = {}
    for name in tests:
        measures.setdefault(measure_of(name) or name, []).append(name)

    def over(measure: str, test: str, metric: str) -> dict[str, Any]:
        return _mean([tests[name][test][metric] for name in measures[measure]])

    if protocol != "base_to_novel":
        return {m: {top: over(m, "test", top) for top in ("top1", "top5")} for m in measures}
    summary: dict[str, Any] = {}
    for measure in measures:
        base, novel = (over(measure, half, "top1") for half in ("base", "novel"))
        hm = {"value": rounded(c.harmonic_mean(base["value"], novel["value"]))}
        found = {"base": {"top1": base}, "novel": {"top1": novel}, "hm": hm}
        before = "" if measure == protocol else f"{measure}/"
        summary |= {f"{before}{part}": value for part, value in found.items()}
    return summary


def _mean(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Values with intervals → their mean, the mean interval, and of several the deviation."""
    mean, std = c.mean_std([entry["value"] for entry in entries])
    low, high = (float(np.mean([entry["ci95"][i] for entry in entries])) for i in (0, 1))
    value: dict[str, Any] = {"value": rounded(mean), "ci95": [rounded(low), rounded(high)]}
    return value | ({"std": rounded(std)} if len(entries) > 1 else {})


def predictions(tested: Tested) -> pd.DataFrame:
    """One row a video; see docs/architecture.md."""
    names = np.asarray(tested.subset.classes, dtype=object)
    order = np.argsort(-tested.scores, axis=1, kind="stable")[:, :5]
    best = np.take_along_axis(tested.scores, order, 1)
    frame = pd.DataFrame(
        {
            "split": tested.split,
            "test": tested.test,
            "video_id": [tested.subset.videos[i] for i in tested.positions],
            "label": names[tested.labels],
            "predicted": names[order[:, 0]],
            "top5": [list(names[row]) for row in order],
            "top5_scores": [row.astype(np.float32).tolist() for row in best],
        }
    )
    if len(names) <= MAX_SCORES:
        frame["scores"] = list(tested.scores.astype(np.float16))
    return frame


def per_class(tested: Tested) -> pd.DataFrame:
    """Top-1 a class with videos."""
    values = c.per_class_accuracy(tested.scores, tested.labels)
    counts = np.bincount(tested.labels, minlength=len(values))
    frame = pd.DataFrame(
        {
            "split": tested.split,
            "test": tested.test,
            "class": tested.subset.classes,
            "n": counts,
            "top1": np.round(values, 6),
        }
    )
    return frame[frame["n"] > 0]
