"""Do the methods learn motion? The demo's protocols over several seeds, against frozen CLIP.

    python benchmarks/demo_seeds.py --seeds 1 2 3 --jobs 2

The pipeline's own seed is read from `results/` (run `dvc repro` first); the others are trained and evaluated
in a scratch copy of the project (the committed results are not touched). Writes
`benchmarks/results/demo_seeds.json`: means over seeds, ratios to the floor, machine and commit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

from vidprompt.configuration import compose
from vidprompt.evaluation.measures import read_metrics, rows_of

ROOT = Path(__file__).parents[1]
RUNS = ("supervised_split1", "base_to_novel_16shot_seed1", "reid")
PROTOCOLS = ("zero_shot", "base_to_novel", "supervised", "reid")
METHODS = ("frozen_clip", "ez_clip", "vita_clip")


def vidprompt(folder: Path, *arguments: str) -> None:
    command = [str(Path(sys.executable).parent / "vidprompt"), *arguments]
    subprocess.run(command, cwd=folder, check=True)


def scratch(folder: Path) -> None:
    """The project's parameters, and links to its data, manifest, splits and frames."""
    shutil.copytree(ROOT / "params", folder / "params")
    (folder / "data").symlink_to(ROOT / "data")
    (folder / "cache").mkdir()
    for part in ("manifest", "splits", "frames"):
        (folder / "cache" / part).symlink_to(ROOT / "cache" / part)


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Method → figure → value."""
    found = read_metrics("demo", folder / "results")
    metrics = {m: {p: v for p, v in found[m].items() if p in PROTOCOLS} for m in METHODS}
    figures: dict[str, dict[str, float]] = {method: {} for method in METHODS}
    for row in rows_of(metrics):
        for method, cell in row.cells.items():
            figures[method][f"{row.protocol} {row.key}"] = cell.value
    for method, protocols in metrics.items():
        for protocol, result in protocols.items():
            tests = [
                (name, test)
                for split in result["splits"].values()
                for name, test in split["tests"].items()
            ]
            for name in sorted({name for name, test in tests if "within" in test}):
                columns = [test["within"] for other, test in tests if other == name]
                for column in columns[0]:
                    label = f"{protocol} {name} within {column}"
                    figures[method][label] = mean(c[column]["value"] for c in columns)
                    figures[method][f"{label} (chance)"] = mean(
                        c[column]["chance"] for c in columns
                    )
    return {
        method: {name: round(value, 4) for name, value in sorted(values.items())}
        for method, values in figures.items()
    }


def run_seed(seed: int) -> dict[str, dict[str, float]]:
    """Train and evaluate everything with one seed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scratch(folder)
        vidprompt(folder, "features", "method=frozen_clip")
        for method in METHODS[1:]:
            for run in RUNS:
                choice = [f"method={method}", f"split={run}", f"seed={seed}"]
                vidprompt(folder, "train", *choice)
                vidprompt(folder, "features", *choice)
        for method in METHODS:
            for protocol in PROTOCOLS:
                vidprompt(folder, "evaluate", f"method={method}", f"protocol={protocol}")
        return measure(folder)


def summarise(by_seed: dict[int, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Means and population deviations over seeds, and ratios of means to the floor's."""
    first = next(iter(by_seed.values()))
    over: dict[str, dict[str, dict[str, float]]] = {"mean": {}, "std": {}, "ratio_to_floor": {}}
    for method in METHODS:
        values = {name: [by_seed[s][method][name] for s in by_seed] for name in first[method]}
        over["mean"][method] = {name: round(mean(v), 4) for name, v in values.items()}
        over["std"][method] = {name: round(pstdev(v), 4) for name, v in values.items()}
    floor = over["mean"]["frozen_clip"]
    for method in METHODS[1:]:
        over["ratio_to_floor"][method] = {
            name: round(value / floor[name], 2)
            for name, value in over["mean"][method].items()
            if floor[name] and "chance" not in name
        }
    return over


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="seeds at the same time")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/demo_seeds.json")
    arguments = parser.parse_args()
    done = compose([]).seed  # what is in results/ was made with this one
    others = [seed for seed in arguments.seeds if seed != done]
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // arguments.jobs))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        by_seed = dict(zip(others, pool.map(run_seed, others), strict=True))
    if done in arguments.seeds:
        by_seed = {done: measure(ROOT)} | by_seed
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    summary = summarise(by_seed)
    result = {
        "commit": commit,
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "seeds": arguments.seeds,
        **summary,
        "by_seed": by_seed,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
