"""A small project with a model to register: real git, DVC, weights and predictions; no stage takes time."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import yaml
from dvc.repo import Repo
from safetensors.torch import save_file
from tests.metrics.results_on_disk import complete, labelled, write_recognition
from tests.models.small import small_backbone
from tests.pipeline.project import ROOT, edit, run
from tests.pipeline.stages.encoding_project import BACKBONE

from vidprompt.config.schema import MethodConfig
from vidprompt.files.hashes import digest
from vidprompt.models import create_model
from vidprompt.models.backbones.loading import load_backbone
from vidprompt.models.checkpoint import save_checkpoint
from vidprompt.models.checkpoint_metadata import CheckpointMetadata
from vidprompt.pipeline.lineage import checkpoint_hash
from vidprompt.recompute.metrics import recompute_metrics

NAME = "small-demo"
WEIGHTS = "models/demo/ez_clip/supervised_split1/model.safetensors"
RESULT = "demo/ez_clip/supervised"
METRICS = f"results/{RESULT}/metrics.json"
PREDICTIONS = f"cache/predictions/{RESULT}.parquet"
RUN = "supervised_split1"
CLASSES = ["Run", "Sit", "Walk"]  # trained with
VIDEOS = 60
DVC_YAML = f"""
stages:
  train:
    cmd: "true"
    deps: [data/backbone]
    params: [params/recipe/demo/ez_clip.yaml: [trainer]]
    outs: [{WEIGHTS}]
  validate:
    cmd: "true"
    metrics:
      - results/demo/validation.json: {{cache: false}}
      - results/demo/health.json: {{cache: false}}
  evaluate:
    cmd: "true"
    deps: [{WEIGHTS}]
    outs: [{PREDICTIONS}]
    metrics: [{METRICS}: {{cache: false}}]
artifacts:
  {NAME}: {{path: {WEIGHTS}, type: model, desc: A small one., labels: [small]}}
  other-demo: {{path: models/demo/vita_clip/supervised_split1/model.safetensors, type: model}}
  lists: {{path: params/config.yaml, type: data}}
"""
POLICY = {
    "stages": ["candidate", "staging", "production"],
    "defaults": {
        "candidate": {"validation": True, "max_broken_share": 0.05, "coverage": 0.9},
        "staging": {"not_worse_than": "production"},
    },
    "models": {
        NAME: {
            "headline": "supervised/top1",
            "candidate": {"minimum": {"supervised": {"top1": 0.3}}},
            "production": {"minimum": {"supervised": {"top1": 0.4}}},
        }
    },
    "licences": {"demo": "MIT"},
}
SPEC = {
    "name": "tiny",
    "config": "data/backbone/tiny.json",
    "weights": "data/backbone/tiny.safetensors",
}


def make_project(root: Path) -> None:
    """Committed and pushed to a DVC remote in the repository: all is well with it."""
    run("git", "init", "-q", "-b", "main", folder=root)
    for key, value in (("user.name", "t"), ("user.email", "t@example.org")):
        run("git", "config", key, value, folder=root)
    run("dvc", "init", "-q", folder=root)
    run("dvc", "remote", "add", "store", ".store", folder=root)
    (root / ".gitignore").write_text("/cache/\n/models/\n")
    shutil.copytree(ROOT / "params", root / "params")
    (root / "params/backbone/tiny.yaml").write_text(yaml.safe_dump(SPEC))
    edit(root / "params/dataset/demo.yaml", pipeline__backbone="tiny")
    write_policy(root, POLICY)
    backbone = root / "data/backbone"
    backbone.mkdir(parents=True)
    (backbone / "tiny.json").write_text(json.dumps(BACKBONE))
    save_file(small_backbone().clip.state_dict(), backbone / "tiny.safetensors")
    run("dvc", "add", "-q", "data/backbone", folder=root)
    (root / "dvc.yaml").write_text(DVC_YAML)
    health = {"videos": 100, "usable": 99, "reasons": {"empty": {"videos": 1}}}
    (root / "results/demo").mkdir(parents=True)
    (root / "results/demo/health.json").write_text(json.dumps(health))
    (root / "results/demo/validation.json").write_text('{"success": true}')
    train(root, seed=1)
    evaluate(root, wrong=range(6))
    keep(root, "first")


def train(root: Path, seed: int) -> None:
    """Weights of their own."""
    spec = SPEC | {key: str(root / SPEC[key]) for key in ("config", "weights")}
    model = create_model("ez_clip", load_backbone(spec), num_frames=4, class_names=CLASSES)
    torch.manual_seed(seed)
    for value in model.trained_state().values():
        value.copy_(torch.rand_like(value))
    metadata = CheckpointMetadata(
        "ez_clip",
        4,
        model.backbone.tag,
        model.backbone.identity(),
        CLASSES,
        dict(model.options),
        "abc",
        "0.1",
    )
    save_checkpoint(root / WEIGHTS, model, metadata, torch.float32)


def evaluate(root: Path, wrong: Sequence[int], listed: int = 61) -> None:
    """Metrics and predictions of the weights on disk: videos numbered in `wrong` are predicted wrongly."""
    videos = {(RUN, "test"): labelled(VIDEOS, wrong)}
    write_recognition(root, RESULT, videos)
    table = pq.read_table(root / PREDICTIONS)
    is_right = pc.equal(table["label"], table["predicted"])
    ranks = pc.if_else(is_right, pa.scalar(0, pa.int32()), pa.scalar(1, pa.int32()))
    table = table.append_column("rank", ranks)
    table = table.append_column("confidence", pa.array([0.5] * VIDEOS, pa.float32()))
    pq.write_table(table, root / PREDICTIONS)
    metrics = json.loads((root / METRICS).read_text("utf-8"))
    found = recompute_metrics(root / PREDICTIONS)
    method = cast("MethodConfig", SimpleNamespace(name="ez_clip", trained=True))
    with contextlib.chdir(root):  # as the evaluate stage
        metrics["hashes"]["checkpoints"] = {RUN: digest(checkpoint_hash("demo", method, RUN))}
    metrics["splits"] = {RUN: metrics["splits"][RUN] | {"run": RUN, "tests": found["tests"][RUN]}}
    metrics |= {"summary": found["summary"], "listed": listed}
    metrics["coverage"] = round(VIDEOS / listed, 6)
    metrics |= {"n": VIDEOS, "protocol": "supervised"}
    (root / METRICS).write_text(json.dumps(complete(metrics), indent=1))


def change_metrics(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit metrics.json by hand, and commit it to DVC."""
    metrics = json.loads((root / METRICS).read_text("utf-8"))
    change(metrics)
    (root / METRICS).write_text(json.dumps(metrics))
    commit_outputs(root)


def keep(root: Path, message: str, push: bool = True) -> None:
    """`dvc commit`, push the weights and the backbone, `git commit`."""
    commit_outputs(root)
    if push:
        with contextlib.chdir(root), Repo() as repo:  # a process of DVC's takes a second to start
            repo.push(["train", "data/backbone.dvc"], remote="store")
    commit(root, message)


def commit_outputs(root: Path) -> None:
    """`dvc commit`: what is on disk is what the stages have made."""
    with contextlib.chdir(root), Repo() as repo:
        repo.commit(force=True)


def commit(root: Path, message: str) -> str:
    """All files; the commit."""
    run("git", "add", "-A", folder=root)
    run("git", "commit", "-q", "--allow-empty", "-m", message, folder=root)
    return run("git", "rev-parse", "HEAD", folder=root).strip()


def write_policy(root: Path, policy: object) -> None:
    (root / "params/registry.yaml").write_text(yaml.safe_dump(policy, sort_keys=False))
