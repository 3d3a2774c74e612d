"""Metadata of a checkpoint, read without loading torch or a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vidprompt.system.errors import UserError


@dataclass
class CheckpointMetadata:
    """Everything beside tensors and backbone that rebuilding a model needs."""

    method: str
    num_frames: int
    backbone: str
    backbone_checksum: str
    class_names: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    config_hash: str = ""
    version: str = ""  # hash of the code: `vidprompt.provenance.code.code_version`
    image_model: str = (
        ""  # hash of the configuration of the image model that started this one; "": none
    )
    # the checkpoint it started from: sha256, method, trained_on; {}: the backbone
    start_from: dict[str, Any] = field(default_factory=dict)
    # What using the model needs; empty where it was imported, or trained before these were recorded.
    backbone_spec: dict[str, Any] = field(default_factory=dict)  # for `load_backbone`
    input: dict[str, Any] = field(
        default_factory=dict
    )  # views, frames (how they are stored), tracklet
    prompts: dict[str, Any] = field(
        default_factory=dict
    )  # templates or descriptions, and their ensemble
    trained_on: dict[str, str] = field(default_factory=dict)  # dataset, split, protocol
    unknown: dict[str, Any] = field(default_factory=dict)  # `metrics.unknown`: the threshold
    # `methods/linear_probe` → `my-method 0.1.0`: the plug-ins that it was made with
    plugins: dict[str, str] = field(default_factory=dict)


def read_metadata(path: Path | str) -> CheckpointMetadata:
    """Read the metadata of a checkpoint. Raises UserError for a file that VidPrompt did not write."""
    try:
        with safe_open(path, "np") as file:
            text = (file.metadata() or {}).get("vidprompt")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a safetensors checkpoint: {error}") from error
    if text is None:
        raise UserError(f"{path} is a safetensors file, but not one of VidPrompt's checkpoints")
    try:
        values = json.loads(text)
        return CheckpointMetadata(**values | {"options": _current(values.get("options", {}))})
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: its metadata is of another version of VidPrompt: {error}"
        ) from error


def _current(options: Mapping[str, Any]) -> dict[str, Any]:
    """A method's options, those of older releases by their present names."""
    towers = {"vision": "image", "both": "both"}.get(str(options.get("train_backbone")))
    trained = {"train_backbone": "all", "trained_towers": towers} if towers else {}
    return {**options, **trained}
