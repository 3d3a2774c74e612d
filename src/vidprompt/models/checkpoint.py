"""Save and load checkpoints: the trained tensors in safetensors, with the metadata to rebuild the model."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from vidprompt.config.plugins import find_plugin
from vidprompt.files.atomic import replacing
from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.checkpoint_metadata import CheckpointMetadata, read_metadata
from vidprompt.models.factory import METHODS, create_model
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.system.errors import UserError


def save_checkpoint(
    path: Path | str, model: VideoCLIP, metadata: CheckpointMetadata, dtype: torch.dtype
) -> None:
    """Write `model.trained_state()` as `dtype`, atomically. Equal content gives equal bytes."""
    state = {
        name: _stored(value.detach().cpu(), dtype).contiguous()
        for name, value in model.trained_state().items()
    }
    text = json.dumps(asdict(metadata), sort_keys=True, ensure_ascii=False)
    with replacing(path) as temporary:
        save_file(state, temporary, {"vidprompt": text})


def _stored(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A value in the checkpoint's precision; whole numbers (of classes) as they are."""
    return value.to(dtype) if value.is_floating_point() else value


def _check_plugin(path: Path | str, metadata: CheckpointMetadata) -> None:
    """Raise UserError where a checkpoint's method is not installed; warn where it is of another version."""
    made_with = metadata.plugins.get(f"methods/{metadata.method}")
    if metadata.method not in METHODS:
        wanted = (
            f"{made_with}, which is not installed"
            if made_with
            else "a package that is not installed"
        )
        name = (made_with or "").partition(" ")[0]
        do = f"pip install {name}" if name else "install what it was trained with"
        raise UserError(f"{path} is of the method {metadata.method}, a plug-in of {wanted}: {do}")
    plugin = None if metadata.method in METHODS.own else find_plugin("methods", metadata.method)
    if plugin and made_with and plugin.origin != made_with:
        warnings.warn(
            f"{path} was trained with {made_with}, and {plugin.origin} is installed", stacklevel=3
        )


def load_checkpoint(path: Path | str, backbone: Backbone) -> tuple[VideoCLIP, CheckpointMetadata]:
    """Rebuild the model of a checkpoint on its backbone, with LoRA's products added to the weights.

    Raises UserError when its method is not installed, it was trained on another backbone, or its tensors are
    not the method's.
    """
    metadata = read_metadata(path)
    _check_plugin(path, metadata)
    if (metadata.backbone, metadata.backbone_checksum) != (backbone.tag, backbone.identity()):
        raise UserError(
            f"{path} was trained on backbone {metadata.backbone} "
            f"(sha256 {metadata.backbone_checksum[:12]}), and this is {backbone.tag} "
            f"(sha256 {backbone.identity()[:12]})"
        )
    started = bool(metadata.start_from)
    model = create_model(
        metadata.method,
        backbone.copy() if started else backbone,
        num_frames=metadata.num_frames,
        class_names=metadata.class_names,
        **metadata.options,
    )
    state = {name: value.float() for name, value in load_file(path).items()}
    if started:  # CLIP's frozen weights are the checkpoint's own
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        model.started = frozenset(n for n in state if n.startswith("clip.")) - trained
    try:
        model.load_trained_state(state)
    except KeyError as error:
        raise UserError(f"{path} does not fit {metadata.method}: {error}") from error
    model.merge_lora()
    return model, metadata
