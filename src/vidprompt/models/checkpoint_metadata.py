"""What a checkpoint says about itself; read without loading a model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vidprompt.system.errors import UserError


@dataclass
class CheckpointMetadata:
    """What a checkpoint says about itself."""

    method: str
    num_frames: int
    backbone: str
    backbone_checksum: str
    class_names: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    config_hash: str = ""
    version: str = ""  # of the code: `vidprompt.provenance.code.code_version`


def read_metadata(path: Path | str) -> CheckpointMetadata:
    """Metadata of a checkpoint. Raises UserError when the file is no checkpoint of ours."""
    try:
        with safe_open(path, "np") as file:
            text = (file.metadata() or {}).get("vidprompt")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a safetensors checkpoint: {error}") from error
    if text is None:
        raise UserError(f"{path} is a safetensors file, but not one of VidPrompt's checkpoints")
    try:
        return CheckpointMetadata(**json.loads(text))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path}: its metadata is of another version of VidPrompt: {error}"
        ) from error
