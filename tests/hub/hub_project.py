"""A small project with a run and its results, as `vidprompt push-to-hub` publishes them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import yaml
from tests.metrics.results_on_disk import complete
from tests.pipeline.project import ROOT
from tests.prediction.small_checkpoint import write_model

from vidprompt.files.hashes import digest, sha256

TRAINING = "supervised_split1"
RUN = f"demo/ez_clip/{TRAINING}"
OTHER = "few_shot_2shot_seed1"  # another training
POLICY = {
    "stages": ["candidate"],
    "licences": {"demo": "MIT"},
    "backbone_licences": {"tiny": "mit"},
}


def make_project(root: Path) -> Path:
    """Without git and DVC; its checkpoint."""
    checkpoint = write_model(root)
    shutil.copytree(ROOT / "params", root / "params")
    (root / "params/registry.yaml").write_text(yaml.safe_dump(POLICY), "utf-8")
    (root / "dvc.yaml").write_text("stages: {}\n", "utf-8")
    own = digest(sha256(checkpoint))
    write_result(root, "supervised", {TRAINING: TRAINING}, own)
    write_result(root, "zero_shot", {"list_a": TRAINING, "list_b": OTHER}, own)
    write_result(root, "few_shot", {"list_c": TRAINING}, "of older weights")
    return checkpoint


def write_result(root: Path, protocol: str, runs: Mapping[str, str], checkpoint: str) -> None:
    """metrics.json: a summary's entry for each split → training, `checkpoint` being TRAINING's."""
    top1 = {"value": 0.9, "ci95": [0.79, 0.96], "units": 60}
    test = {"n": 60, "listed": 61, "coverage": 0.98, "top1": top1}
    entries = {split: protocol if split == TRAINING else split for split in runs}
    checkpoints = dict.fromkeys(runs.values(), "other") | {TRAINING: checkpoint}
    metrics = {
        "protocol": protocol,
        "hashes": {"data": "d0", "checkpoints": checkpoints},
        "intervals": {"method": "korn_graubard_mid_p", "unit": "group"},
        "summary": {entry: {"top1": top1} for entry in entries.values()},
        "splits": {split: {"run": run, "tests": {"test": test}} for split, run in runs.items()},
    }
    file = root / f"results/demo/ez_clip/{protocol}/metrics.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(complete(metrics)), "utf-8")
