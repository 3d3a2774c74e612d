"""Small results as the evaluate stage keeps them: metrics.json and predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CLASSES = ("jump", "run", "sit", "walk", "wave", "yell")
Test = tuple[str, str]


def complete(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a metrics.json, with what a test does not care about filled in."""
    counts = {"n": 1, "listed": 1, "coverage": 1.0}
    about = {"dataset": "demo", "method": "ez_clip", "protocol": "supervised", "summary": {}}
    hashes = {"config": "c", "data": "d", "checkpoints": {}}
    splits = {
        name: {"id": f"{name}@here", "run": name}
        | split
        | {"tests": {test: counts | found for test, found in split["tests"].items()}}
        for name, split in metrics.get("splits", {}).items()
    }
    hashes |= metrics.get("hashes", {})
    return about | counts | dict(metrics) | {"hashes": hashes, "splits": splits}


def write_recognition(
    root: Path, name: str, said: Mapping[Test, Mapping[str, tuple[str, str]]]
) -> Path:
    """`said` maps a test to video → (label, predicted); the second best is the label."""
    rows: list[dict[str, Any]] = []
    splits: dict[str, Any] = {}
    for (split, test), videos in said.items():
        hits = [label == predicted for label, predicted in videos.values()]
        tests = splits.setdefault(split, {"id": f"{split}@here", "tests": {}})["tests"]
        tests[test] = {"n": len(hits), "top1": _measure(np.mean(hits)), "top5": _measure(1)}
        for video, (label, predicted) in videos.items():
            order = list(dict.fromkeys([predicted, label, *CLASSES]))
            row: dict[str, Any] = {"split": split, "test": test, "video_id": video, "label": label}
            row |= {"predicted": predicted, "top5": order[:5]}
            rows.append(row | {"scores": [1 / 6] * 6})
    first = next(iter(splits.values()))["tests"]
    summary = {"all": {"top1": next(iter(first.values()))["top1"]}}
    return _write(root, name, rows, summary, splits)


def write_reid(root: Path, name: str, queries: Sequence[tuple[str, str, float, bool]]) -> Path:
    """`queries`: id, person, average precision, is the first of the gallery right?"""
    rows = [
        {"protocol": "general", "video_id": video, "label": person, "average_precision": ap}
        | {"ranked": ["g1", "g2"], "hits": [hit, False]}
        for video, person, ap, hit in queries
    ]
    entry = {"id": "reid/x/general@8-frames", "n": len(rows)}
    entry["R-1"] = _measure(np.mean([hit for *_, hit in queries]))
    entry["mAP"] = _measure(np.mean([ap for _, _, ap, _ in queries]))
    return _write(root, name, rows, {"general": entry}, {"reid": {"tests": {}}})


def _measure(value: Any) -> dict[str, Any]:
    value = round(float(value), 6)
    return {
        "value": value,
        "ci95": [round(max(0.0, value - 0.1), 6), round(min(1.0, value + 0.1), 6)],
    }


def _write(root: Path, name: str, rows: list[Any], summary: Any, splits: Any) -> Path:
    dataset, method, protocol = name.split("/")
    metrics: dict[str, Any] = {"dataset": dataset, "method": method, "protocol": protocol}
    folder = root / "results" / name
    folder.mkdir(parents=True, exist_ok=True)
    metrics = complete(metrics | {"summary": summary, "splits": splits})
    (folder / "metrics.json").write_text(json.dumps(metrics))
    predictions = root / "cache/predictions" / f"{name}.parquet"
    predictions.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), predictions)
    return folder


def labelled(count: int, wrong: Sequence[int], start: int = 0) -> dict[str, tuple[str, str]]:
    """Videos v0, v1 … (from `start`), those numbered in `wrong` said to be another class."""
    found = {}
    for i in range(start, start + count):
        label = CLASSES[i % 6]
        found[f"v{i}"] = (label, CLASSES[(i + 1) % 6] if i in wrong else label)
    return found
