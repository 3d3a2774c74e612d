"""Time and memory of `vidprompt evaluate`: stored features of 20,000 videos, 600 classes of 16 prompts.

    python benchmarks/evaluation.py                  # about 2 minutes on two cores
    python benchmarks/evaluation.py --scale 0.02     # a quick try; writes no file

Made-up features of 512 numbers: a video's view is its class plus noise, a prompt its class plus a little.
A project with such a manifest, such lists and features is written into a temporary folder, and the stages
run there as the command line: seconds are wall time from the start of the interpreter, peak memory is the
command's maximum resident set (the system counts mapped features to it). Then `vidprompt metrics` computes
every number again from the kept predictions alone, and has to find the same ones. Of 12 views the cosines
alone are 2.4 · 10¹² operations.
Writes `benchmarks/results/evaluation.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.datasets import measured
from benchmarks.machine import ROOT, provenance

from vidprompt.config import paths
from vidprompt.config.compose import compose
from vidprompt.data.manifest.table import SCHEMA, write_manifest
from vidprompt.data.splits.split_file import Split, Subset, write_split
from vidprompt.files.atomic import write_json
from vidprompt.inference.feature_store import write_features
from vidprompt.pipeline.lineage import lineage

OUT = ROOT / "benchmarks/results/evaluation.json"
VIDEOS, CLASSES, PROMPTS, WIDTH = 20_000, 600, 16, 512
LIMITS = {"1 view seconds": 15.0, "12 views seconds": 15.0, "metrics again seconds": 15.0}
# case → protocol, views, test lists (seeds, all of the same videos)
CASES: dict[str, tuple[str, int, int]] = {
    "1 view": ("supervised", 1, 1),
    "12 views": ("supervised", 12, 1),
    "1 view, 12 lists": ("few_shot", 1, 12),
}


def lists(protocol: str, count: int) -> list[str]:
    """Names of split files: one official split, or seeds of 2, 4, 8 and 16 shots."""
    if protocol == "supervised":
        return ["supervised_split1"]
    shots = (f"few_shot_{k}shot_seed{seed}" for k in (2, 4, 8, 16) for seed in (1, 2, 3))
    return list(shots)[:count]


def make_project(folder: Path, case: str, scale: float) -> None:
    """Manifest, split files and features of a case; params as they are here."""
    protocol, views, count = CASES[case]
    n, classes = max(20, round(VIDEOS * scale)), max(10, round(CLASSES * scale))
    names = [f"class {i:04}" for i in range(classes)]
    videos = [f"actions/video {i:06}" for i in range(n)]
    rng = np.random.default_rng(1)
    labels = np.sort(rng.integers(classes, size=n))
    shutil.copytree(ROOT / "params", folder / "params")
    rows: list[dict[str, Any]] = []
    for video, label in zip(videos, labels, strict=True):
        row: dict[str, Any] = dict.fromkeys(SCHEMA.names, "")
        row |= dict.fromkeys(("camera", "size", "n_frames", "header_frames", "width"), 1)
        row |= {"height": 1, "rotation": 0, "fps": 25.0, "duration": 1.0, "exact": True}
        row |= {"video_id": video, "source": "actions", "label": names[label], "health": "ok"}
        rows.append(row)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    write_manifest(table, folder / "cache/manifest/demo/manifest.parquet")
    write_json(folder / "cache/manifest/demo/class_groups.json", {})
    test = Subset(names, videos, labels.tolist())
    splits = {
        name: Split(f"{protocol}/demo@{name}", protocol, name, tests={"test": test})
        for name in lists(protocol, count)
    }
    for name, split in splits.items():
        write_split(split, folder / f"cache/splits/demo/{name}.json")
    centres = rng.standard_normal((classes, WIDTH), np.float32)
    seen = rng.standard_normal((n, views, WIDTH), np.float32)
    seen *= 5 * views**0.5  # as hard whatever the number of views
    seen += centres[labels][:, None]
    prompts = 1 if count > 1 else PROMPTS
    text = 0.3 * rng.standard_normal((classes, prompts, WIDTH), np.float32) + centres[:, None]
    sets = {f"{name}/test": text for name in lists(protocol, count)}
    with contextlib.chdir(folder):
        config = compose(["method=frozen_clip", f"protocol={protocol}"])
        write_features(
            paths.features("demo", "frozen_clip", "frozen"),
            videos,
            seen,
            sets,
            30.0,
            made_with=lineage(config, "", splits),
        )


def same(left: Any, right: Any) -> bool:
    """Has `right` all of `left`, with the same values?"""
    if isinstance(left, dict):
        return all(key in right and same(value, right[key]) for key, value in left.items())
    return bool(left == right)


def run_case(case: str, scale: float) -> dict[str, Any]:
    """What the stage takes, what recomputing from predictions takes, and whether they agree."""
    with tempfile.TemporaryDirectory() as name:
        folder, protocol = Path(name), CASES[case][0]
        make_project(folder, case, scale)
        command = [sys.executable, "-m", "vidprompt.cli"]
        stage = ["evaluate", "method=frozen_clip", f"protocol={protocol}"]
        process, said = measured([*command, *stage], folder)
        if process["exit"]:
            raise SystemExit("\n".join(said))
        predictions = folder / f"cache/predictions/demo/frozen_clip/{protocol}.parquet"
        results = folder / f"results/demo/frozen_clip/{protocol}/metrics.json"
        metrics = json.loads(results.read_text("utf-8"))
        again, said = measured([*command, "metrics", str(predictions), "--json"], folder)
        if again["exit"]:
            raise SystemExit("\n".join(said))
        found = json.loads("\n".join(said))
        tests = {name: split["tests"] for name, split in metrics["splits"].items()}
        agrees = same(found["tests"], tests) and found["summary"] == metrics["summary"]
        return {
            "evaluate": process,
            "metrics again": again,
            "the same numbers": agrees,
            "predictions_mb": round(predictions.stat().st_size / 1e6, 1),
            "top1": next(iter(metrics["summary"].values()))["top1"],
        }


def missed_limits(figures: dict[str, Any]) -> list[str]:
    """Which figures are above their limits, and where numbers differ."""
    missed = [
        f"{case} seconds"
        for case, found in figures.items()
        if found["evaluate"]["seconds"] > LIMITS.get(f"{case} seconds", float("inf"))
    ]
    slow = max(found["metrics again"]["seconds"] for found in figures.values())
    missed += ["metrics again seconds"] if slow > LIMITS["metrics again seconds"] else []
    return missed + [
        f"{c}: numbers differ" for c, f in figures.items() if not f["the same numbers"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    load = round(os.getloadavg()[0], 1)  # seconds mean little beside other work
    figures = {}
    for case in [arguments.only] if arguments.only else CASES:
        figures[case] = run_case(case, arguments.scale)
        print(case, json.dumps(figures[case], indent=1))
    missed = missed_limits(figures)
    print("missed: " + (", ".join(missed) or "nothing"))
    out = arguments.out or (OUT if arguments.scale == 1 and not arguments.only else None)
    if out:
        setting = (
            f"{VIDEOS:,} videos, {CLASSES} classes, {WIDTH} dimensions, {PROMPTS} prompts a class "
            "(12 lists: 1), with intervals"
        )
        result = provenance() | {"cases": figures, "limits": LIMITS, "missed": missed}
        result |= {"setting": setting, "load when it began": load}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
