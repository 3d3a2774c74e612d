"""Do the methods learn motion? The demo's protocols over several seeds, against frozen CLIP.

    python benchmarks/demo_seeds.py --seeds 1 2 3

Trains and evaluates in a scratch copy of the project (the committed results are not touched) and writes
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
from pathlib import Path
from statistics import mean

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
    figures: dict[str, dict[str, float]] = {}
    for method in METHODS:
        found = {}
        for protocol in PROTOCOLS:
            path = folder / "results/demo" / method / protocol / "metrics.json"
            metrics = json.loads(path.read_text())
            for name, entry in metrics["summary"].items():
                key = "R-1" if protocol == "reid" else "top1"
                value = entry.get(key, entry)
                if name == protocol:
                    found[name] = value["value"]
                else:
                    found[f"{protocol} {name}"] = value["value"]
            for split in metrics["splits"].values():
                for test, entry in split["tests"].items():
                    for column, within in entry.get("within", {}).items():
                        label = f"{protocol} {test} within {column}"
                        found.setdefault(label, 0.0)
                        found[label] += within["value"] / len(metrics["splits"])
                        found[f"{label} (chance)"] = within["chance"]
        figures[method] = {name: round(value, 4) for name, value in sorted(found.items())}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/demo_seeds.json")
    arguments = parser.parse_args()
    by_seed = {}
    for seed in arguments.seeds:
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
            by_seed[seed] = measure(folder)
    means = {
        method: {
            figure: round(mean(by_seed[s][method][figure] for s in by_seed), 4)
            for figure in by_seed[arguments.seeds[0]][method]
        }
        for method in METHODS
    }
    floor = means["frozen_clip"]
    ratios = {
        method: {
            figure: round(value / floor[figure], 3)
            for figure, value in means[method].items()
            if floor[figure] and "chance" not in figure
        }
        for method in METHODS[1:]
    }
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    result = {
        "commit": commit,
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "seeds": arguments.seeds,
        "means": means,
        "ratio_to_floor": ratios,
        "by_seed": by_seed,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    print(json.dumps({"means": means, "ratio_to_floor": ratios}, indent=1))


if __name__ == "__main__":
    main()
