"""A small project in git and DVC: a manifest, a list, two methods' results with real predictions."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from tests.pipeline.project import run

from vidprompt.data.checks.health_report import health_report
from vidprompt.data.splits.split_file import Split, Subset
from vidprompt.metrics import recognition
from vidprompt.metrics.predictions import PredictionsFile, tabulate, without_lists

CLASSES = ["jump", "run", "sit", "walk", "wave", "yell"]
METRICS = "results/toy/{}/supervised/metrics.json"
_EVALUATE = """\
stages:
  manifest:
    foreach: [toy]
    do:
      cmd: echo manifest
      deps: [src/manifest.py]
      outs: [cache/manifest/toy, cache/splits/toy]
      metrics: [results/toy/health.json: {cache: false}]
  train:
    foreach: [toy-ez_clip-supervised]
    do:
      cmd: echo train
      deps: [src/model.py]
      params:
        - params/trainer.yaml:
      metrics: [results/toy/ez_clip/runs/supervised/training.json: {cache: false}]
      plots: [results/toy/ez_clip/runs/supervised/loss.csv: {cache: false}]
  evaluate:
    foreach: {METHODS: {}}
    do:
      cmd: echo evaluate ${key}
      deps: [cache/manifest/toy, cache/splits/toy, src/model.py]
      params:
        - params/trainer.yaml:
      outs: ["cache/predictions/toy/${key}/supervised.parquet"]
      metrics: ["results/toy/${key}/supervised/metrics.json": {cache: false}]
      plots:
        - results/toy/${key}/supervised/confusion.csv: {cache: false}
        - results/toy/${key}/supervised/per_class.csv: {cache: false}
        - results/toy/${key}/supervised/reliability.csv: {cache: false}
"""
Right = Mapping[str, Collection[int]]  # method → numbers of the videos that it gets right


def write_project(folder: Path, right: Right, videos: int = 60, rate: float = 0.1) -> None:
    """All files as the stages would leave them; nothing of git or DVC."""
    for name, text in {
        ".gitignore": "/cache/\n",
        "src/model.py": "model = 1\n",
        "src/manifest.py": "manifest = 1\n",
        "params/trainer.yaml": f"rate: {rate}\nlength: 10\nsteps: {{warm: 1}}\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    keys = "\n".join(f"      {method}: {{}}" for method in sorted(right))
    (folder / "dvc.yaml").write_text(_EVALUATE.replace(" {METHODS: {}}", f"\n{keys}"))
    write_data(folder, videos)
    runs = folder / "results/toy/ez_clip/runs/supervised"
    runs.mkdir(parents=True, exist_ok=True)
    (runs / "loss.csv").write_text(f"step,loss,lr\n1,2.0,{rate}\n2,1.0,{rate}\n")
    _write_json(runs / "training.json", {"steps": 2, "videos": 9, "last": {"loss": 10 * rate}})
    for method, hits in right.items():
        write_result(folder, method, hits, videos)


def write_data(folder: Path, videos: int, broken: Collection[int] = ()) -> None:
    """Manifest, split file and health.json of so many videos."""
    ids = [f"v{i:03d}" for i in range(videos)]
    health = ["truncated" if i in broken else "ok" for i in range(videos)]
    labels = [CLASSES[i % 6] for i in range(videos)]
    table = pd.DataFrame({"video_id": ids, "label": labels, "hash": "x", "health": health})
    table["source"], table["detail"] = "toy", ""
    for split in ("split1", "split2", "split3"):
        table[split] = "test"
    (folder / "cache/manifest/toy").mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "cache/manifest/toy/manifest.parquet", index=False)
    test = {"videos": ids, "labels": [i % 6 for i in range(videos)], "classes": CLASSES}
    about = {"id": "supervised/toy@split1", "protocol": "supervised", "run": "supervised_split1"}
    split = {**about, "train": None, "val": None, "tests": {"test": test}}
    _write_json(folder / "cache/splits/toy/supervised_split1.json", split)
    report = health_report(table, {"supervised_split1": Split.from_json(split)})
    _write_json(folder / "results/toy/health.json", report)


def write_result(folder: Path, method: str, right: Collection[int], videos: int) -> None:
    """Predictions, metrics and plots as the evaluate stage makes them."""
    ids = [f"v{i:03d}" for i in range(videos)]
    labels = [i % 6 for i in range(videos)]
    scores = np.full((videos, 6), 0.1, np.float32)
    for i in range(videos):
        scores[i, labels[i] if i in right else (labels[i] + 1) % 6] = 0.5
    subset = Subset(CLASSES, ids, labels)
    part = tabulate("supervised_split1", "test", subset, np.arange(videos), scores, {})
    path = folder / f"cache/predictions/toy/{method}/supervised.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    with PredictionsFile(path, ()) as file:
        file.write_table(part)
    table = pa.concat_tables([without_lists(part)]).to_pandas()
    tests, summary = recognition.metrics_of(table)
    tests["supervised_split1"]["test"] |= {"listed": videos, "coverage": 1.0}
    about = {"dataset": "toy", "method": method, "protocol": "supervised"}
    about |= {"hashes": {"config": "c", "data": "d", "checkpoints": {}}}
    counts = {"n": videos, "listed": videos, "coverage": 1.0, "summary": summary}
    splits = {"supervised_split1": {"id": "supervised/toy@split1", **_tests(tests)}}
    out = folder / f"results/toy/{method}/supervised"
    _write_json(out / "metrics.json", {**about, **counts, "splits": splits})
    confusion = table[["split", "test", "label", "predicted"]].rename(columns={"label": "actual"})
    confusion.to_csv(out / "confusion.csv", index=False)
    classes = {("supervised_split1", "test"): CLASSES}
    recognition.per_class(table, classes).to_csv(out / "per_class.csv", index=False)
    recognition.reliabilities(table).to_csv(out / "reliability.csv", index=False)


def _tests(tests: Mapping[str, Any]) -> dict[str, Any]:
    return {"run": "supervised_split1", "tests": tests["supervised_split1"]}


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def start(folder: Path) -> None:
    """An empty git repository with DVC."""
    from dvc.repo import Repo

    folder.mkdir(parents=True, exist_ok=True)
    run("git", "init", "-q", "-b", "main", folder=folder)
    run("git", "config", "user.email", "t@example.org", folder=folder)
    run("git", "config", "user.name", "t", folder=folder)
    Repo.init(str(folder)).close()


def commit(folder: Path, message: str) -> str:
    """Record the files as what the stages made, and commit: as after `dvc repro`. The commit's name."""
    record(folder)
    run("git", "add", "-A", folder=folder)
    run("git", "commit", "-qm", message, folder=folder)
    return run("git", "rev-parse", "HEAD", folder=folder).strip()


def record(folder: Path) -> None:
    """dvc.lock and DVC's cache get what lies there, whoever wrote it."""
    from dvc.repo import Repo

    with chdir(folder), Repo() as repo:
        repo.commit(force=True)
