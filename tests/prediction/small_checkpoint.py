"""A small checkpoint with its backbone, as somebody copies them to another machine."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tests.models.small import small_backbone
from tests.pipeline.stages.encoding_project import BACKBONE

from vidprompt.files.hashes import sha256
from vidprompt.models import create_model
from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.checkpoint import save_checkpoint
from vidprompt.models.checkpoint_metadata import CheckpointMetadata
from vidprompt.models.methods.video_clip import VideoCLIP

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
    save_file(_backbone().clip.state_dict(), folder / WEIGHTS)
    return {"name": "tiny", "config": "data/backbone/tiny.json", "weights": WEIGHTS}


def write_model(
    folder: Path,
    method: str = "ez_clip",
    run: str = "models/demo/ez_clip/supervised_split1",
    **metadata: Any,
) -> Path:
    """A checkpoint as a training writes it, with random values, in `folder`/`run`; its file."""
    write_backbone(folder)
    model = _trained(method)
    backbone = model.backbone
    spec = {"name": "tiny", "pretrained": None, "config": BACKBONE, "weights": WEIGHTS}
    spec |= {"image_size": None, "quick_gelu": None}
    usual: dict[str, Any] = {
        "backbone_spec": spec | {"mean": list(backbone.mean), "std": list(backbone.std)},
        "input": {"views": EZ_VIEWS, "frames": FRAMES, "tracklet": None},
        "prompts": {"templates": ["a video of {}", "{}"], "ensemble": "mean_feature"},
    }
    about = CheckpointMetadata(
        method=model.method,
        num_frames=T,
        backbone="tiny",
        backbone_checksum=sha256(folder / WEIGHTS),
        class_names=CLASSES,
        options=dict(model.options),
        **(usual | metadata),
    )
    file = folder / run / "model.safetensors"
    save_checkpoint(file, model, about, torch.float32)
    return file


@cache
def _backbone() -> Backbone:
    return small_backbone()


@cache
def _trained(method: str) -> VideoCLIP:
    model = create_model(method, _backbone(), num_frames=T, class_names=CLASSES)
    torch.manual_seed(1)
    with torch.no_grad():
        for value in model.trained_state().values():
            value.add_(0.1 * torch.randn_like(value))
    return model
