"""A project with six tiny videos and a tiny CLIP, in which every stage takes about a second."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path

import yaml
from safetensors.torch import save_file
from tests.data.make_videos import write_video
from tests.models.small import small_backbone
from tests.pipeline.project import ROOT, edit
from tests.pipeline.stages.encoding_project import BACKBONE

from vidprompt.config.compose import compose
from vidprompt.pipeline.stage_lock import stage_lock

NAME = "it's 日本 (2024) a=b #1%"  # as people name folders
PARTS = ("backbone=small", "frames=demo", "prompts=demo", "trainer=demo", "method=vita_clip")
OVERRIDES = ("dataset=own", *PARTS, "method.num_frames=2", "trainer.length=4", "workers=1")
PROTOCOLS = {"base_to_novel": {"shots": None}, "few_shot": {"shots": [2], "seeds": [1]}}
STAGES = (
    *("manifest", "splits", "validate", "frames", "backbone"),
    *("train", "features", "evaluate", "report"),
)


def make_project(folder: Path) -> None:
    """Two classes of three videos, and params/ with a backbone of 32 pixels."""
    shutil.copytree(ROOT / "params", folder / "params")
    for number, name in enumerate(("run", "sit")):
        for clip in range(3):
            path = folder / f"data/{NAME}/{name}/{name}{clip}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, n=12, height=48, width=64 + 16 * number, kind="h264.mp4", seed=clip)
    weights = folder / f"clip of {NAME}"
    weights.mkdir()
    (weights / "clip.json").write_text(json.dumps(BACKBONE))
    save_file(small_backbone().clip.state_dict(), weights / "clip.safetensors")
    spec = {"name": "small", "pretrained": None, "image_size": None, "quick_gelu": None}
    files = {"config": f"{weights.name}/clip.json", "weights": f"{weights.name}/clip.safetensors"}
    (folder / "params/backbone/small.yaml").write_text(yaml.safe_dump(spec | files))
    changes = {"root": f"data/{NAME}", "protocols": PROTOCOLS, "min_frames": 2}
    edit(folder / "params/dataset/own.yaml", **changes)


def run_stage(name: str, *overrides: str) -> None:
    """Run a stage in this process and the current folder, as the command does."""
    config = compose([*OVERRIDES, *overrides])
    with stage_lock(name, config):
        import_module(f"vidprompt.pipeline.stages.{name}").run(config)


def outputs(folder: Path) -> dict[str, bytes]:
    """What stages wrote that DVC tracks: name → content."""
    places = ("cache/manifest", "cache/splits", "cache/frames", "cache/backbone", "models")
    places += ("cache/features", "cache/predictions", "results")
    files = [path for place in places for path in sorted((folder / place).rglob("*"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}
