"""Figures of all runs side by side: intervals, the picture of loss curves, the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from vidprompt.reporting.charts import Series, grid, lines
from vidprompt.reporting.markdown import table as markdown_lines
from vidprompt.reporting.rendering import Spec, png

CODES = ("published", "ours")
TITLES = {"ez_clip": "EZ-CLIP", "vita_clip": "Vita-CLIP"}
POINTS = 40  # of a loss curve: means of so many equal parts of a run
LAST = POINTS // 5  # the last fifth of a run, whose mean loss is compared
Runs = Mapping[str, Mapping[int, Mapping[str, Any]]]  # code → seed → result of the run


def curve(losses: Sequence[float]) -> list[float]:
    """Means of POINTS equal parts of a run's losses (as many as it has steps, if fewer)."""
    return [float(np.mean(p)) for p in np.array_split(np.asarray(losses), min(POINTS, len(losses)))]


def mean_interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds and its 95 % interval by Student's t, null for a single seed."""
    mean, n = float(np.mean(values)), len(values)
    found: dict[str, Any] = {"mean": round(mean, 4), "ci95": None}
    if n > 1:
        half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
        found["ci95"] = [round(mean - half, 4), round(mean + half, 4)]
    return found


def difference(ours: Sequence[float], published: Sequence[float]) -> dict[str, Any]:
    """Ours minus published, means over seeds, with the 95 % interval of Welch's t."""
    mean = float(np.mean(ours) - np.mean(published))
    found: dict[str, Any] = {"mean": round(mean, 4), "ci95": None}
    if min(len(ours), len(published)) > 1:
        parts = [float(np.var(one, ddof=1)) / len(one) for one in (ours, published)]
        error, half = sum(parts), 0.0
        if error > 0:
            terms = (p**2 / (len(one) - 1) for p, one in zip(parts, (ours, published), strict=True))
            half = float(student.ppf(0.975, error**2 / sum(terms)) * error**0.5)
        found["ci95"] = [round(mean - half, 4), round(mean + half, 4)]
    return found


def compare(runs: Runs) -> dict[str, Any]:
    """What both codes reached, by code, and the differences; `same` where zero is in all intervals."""
    found: dict[str, Any] = {}
    last: dict[str, list[float]] = {}
    for code in CODES:
        results = list(runs[code].values())
        curves = [curve(one["loss"]) for one in results]
        last[code] = [float(np.mean(one[-LAST:])) for one in curves]
        found[code] = {
            "curves": [[round(value, 4) for value in one] for one in curves],
            "seeds": list(runs[code]),
            "steps": len(results[0]["loss"]),
            "videos": len(results[0]["right"]),
            "top1 of each seed": [round(one["top1"], 4) for one in results],
            "top1": mean_interval([one["top1"] for one in results]),
            "object": mean_interval([one["object"] for one in results]),
            "last fifth's loss": mean_interval(last[code]),
        }
        for name in ("step_ms", "data_ms"):
            found[code][name] = round(float(np.median([one[name] for one in results])), 1)
        found[code]["peak_gb"] = round(max(one["peak_gb"] for one in results), 2)
    tested = {
        name: [[one[name] for one in runs[code].values()] for code in ("ours", "published")]
        for name in ("top1", "object")
    }
    apart = {
        **{name: difference(*both) for name, both in tested.items()},
        "last fifth's loss": difference(last["ours"], last["published"]),
    }
    intervals = [one["ci95"] for one in apart.values()]
    same = None if None in intervals else all(low <= 0 <= high for low, high in intervals)
    return found | {"ours - published": apart, "same": same}


def picture(training: Mapping[str, Mapping[str, Any]]) -> bytes:
    """PNG: a panel a method, thin lines for the seeds and thick ones for their means."""
    legend = {"published code": 2, "ours": 1}
    panels: dict[str, Spec] = {}
    for method, figures in training.items():
        series, values = [], []
        for name, code in zip(legend, CODES, strict=True):
            curves: NDArray[np.float64] = np.asarray(figures[code]["curves"])
            steps = (np.arange(curves.shape[1]) + 0.5) * figures[code]["steps"] / curves.shape[1]
            values.append(curves)
            for one in curves:
                points = list(zip(steps.tolist(), one.tolist(), strict=True))
                series.append(Series(name, points, legend[name], thin=True))
            points = list(zip(steps.tolist(), curves.mean(0).tolist(), strict=True))
            series.append(Series(name, points, legend[name]))
        spec = lines(series, "step", legend=legend, size=(330, 220))
        every = np.concatenate(values)
        low, high = np.min(every), np.max(every)
        spec["layer"][0]["encoding"]["y"]["scale"]["domain"] = [low - 0.1, high]  # of all layers
        seeds = " and ".join(str(len(one)) for one in values)
        panels[f"{TITLES[method]}: training loss, {seeds} seeds"] = spec
    return png(grid(panels, 2))


def table(result: Mapping[str, Any]) -> str:
    """Markdown: a row a method and code."""
    heads = [
        *("", "loss, last fifth", "top-1", "object", "ms a step", "ms data", "peak GB"),
    ]
    rows = []
    for method, figures in result["training"].items():
        for code, title in zip(CODES, ("published code", "ours"), strict=True):
            one = figures[code]
            rows.append(
                [
                    f"{TITLES[method]}, {title}",
                    _with_interval(one["last fifth's loss"], 1, 3),
                    _with_interval(one["top1"], 100, 1),
                    _with_interval(one["object"], 100, 1),
                    f"{one['step_ms']:.0f}",
                    f"{one['data_ms']:.0f}",
                    f"{one['peak_gb']:.2f}",
                ]
            )
        apart = figures["ours - published"]
        rows.append(
            [
                f"{TITLES[method]}, ours − published",
                _with_interval(apart["last fifth's loss"], 1, 3),
                _with_interval(apart["top1"], 100, 1),
                _with_interval(apart["object"], 100, 1),
                *("", "", ""),
            ]
        )
    return "\n".join(markdown_lines(heads, rows, "lrrrrrr"))


def _with_interval(value: Mapping[str, Any], factor: float, digits: int) -> str:
    text = f"{factor * value['mean']:.{digits}f}"
    if value["ci95"] is None:
        return text
    low, high = (f"{factor * end:.{digits}f}" for end in value["ci95"])
    return f"{text} [{low}, {high}]"
