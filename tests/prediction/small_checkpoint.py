"""A small checkpoint with its backbone, as somebody copies them to another machine."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tests.models.small import small_backbone
from tests.pipeline.stages.encoding_project import BACKBONE

from vidprompt.models import create_model
from vidprompt.models.backbones.loading import load_backbone
from vidprompt.models.checkpoint import save_checkpoint
from vidprompt.models.checkpoint_metadata import CheckpointMetadata

CLASSES = ["OpenDoor", "CloseDoor", "sit_down"]
SIZE = 32  # of the backbone's input, in pixels
T = 4
WEIGHTS = "data/backbone/tiny.safetensors"  # where the training has it
EZ_VIEWS = {"resize": 256}
VITA_VIEWS = {
    "sampling": "dense",
    "stride": 4,
    "clips": 3,
    "interpolation": "bilinear",
    "antialias": False,
}
FRAMES = {"short_side": 48, "stretch": None, "format": "jpeg", "quality": 90}


def write_backbone(folder: Path) -> dict[str, Any]:
    """The small CLIP in `folder`/data/backbone; what `load_backbone` takes, in relative paths."""
    target = folder / "data/backbone"
    target.mkdir(parents=True, exist_ok=True)
    (target / "tiny.json").write_text(json.dumps(BACKBONE))
    save_file(small_backbone().clip.state_dict(), folder / WEIGHTS)
    return {"name": "tiny", "config": "data/backbone/tiny.json", "weights": WEIGHTS}


def write_model(
    folder: Path,
    method: str = "ez_clip",
    run: str = "models/demo/ez_clip/supervised_split1",
    **metadata: Any,
) -> Path:
    """A checkpoint as a training writes it, with random values, in `folder`/`run`; its file."""
    spec = write_backbone(folder)
    with contextlib.chdir(folder):
        model = create_model(method, load_backbone(spec), num_frames=T, class_names=CLASSES)
        torch.manual_seed(1)
        with torch.no_grad():
            for value in model.trained_state().values():
                value.add_(0.1 * torch.randn_like(value))
        usual = {
            "backbone_spec": dict(model.backbone.spec),
            "input": {"views": EZ_VIEWS, "frames": FRAMES, "tracklet": None},
            "prompts": {"templates": ["a video of {}", "{}"], "ensemble": "mean_feature"},
        }
        about = CheckpointMetadata(
            method=model.method,
            num_frames=T,
            backbone=model.backbone.tag,
            backbone_checksum=model.backbone.identity(),
            class_names=CLASSES,
            options=dict(model.options),
            **(usual | metadata),
        )
        save_checkpoint(Path(run) / "model.safetensors", model, about, torch.float32)
    return folder / run / "model.safetensors"
