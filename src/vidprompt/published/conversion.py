"""Convert checkpoint files: the commands `vidprompt import-checkpoint` and `export-checkpoint`."""

from __future__ import annotations

import shlex
from pathlib import Path

import torch
from safetensors.torch import save_file

from vidprompt.config.compose import compose
from vidprompt.config.params_files import is_backbone_file
from vidprompt.data.annotations.label_maps import read_label_map
from vidprompt.files.atomic import replacing, write_json
from vidprompt.files.hashes import sha256
from vidprompt.models.backbones.loading import Backbone, load_backbone
from vidprompt.models.checkpoint import load_checkpoint, save_checkpoint
from vidprompt.models.checkpoint_metadata import CheckpointMetadata
from vidprompt.provenance.code import code_version
from vidprompt.published.architecture import read_architecture
from vidprompt.published.checkpoints import export_published, import_published
from vidprompt.published.files import read_published


def import_to_folder(file: Path, out: Path, backbone: str, classes: Path | None) -> list[str]:
    """Import `file` to `out/model.safetensors`, and its CLIP to `out/` too if there is no `backbone`.

    `classes` is a file of class names, in any form of a label map. Returns lines to print. Raises DataError
    when it cannot be read, UserError as `import_published` does.
    """
    names = None if classes is None else list(read_label_map(classes).values())
    model = import_published(file, find_backbone(backbone) if backbone else None, class_names=names)
    lines = []
    if not backbone:
        weights = out / "backbone.safetensors"
        state = {k: v.contiguous() for k, v in model.clip.state_dict().items()}
        with replacing(weights) as temporary:
            save_file(state, temporary)
        method, tensors = read_published(file)
        write_json(out / "backbone.json", read_architecture(tensors, method).clip)
        model.backbone.tag, model.backbone.checksum = "published", sha256(weights)
        own = ["backbone.name=published", "backbone.pretrained=null"]
        files = ["--backbone-config", str(out / "backbone.json"), "--weights", str(weights)]
        lines.append(f"its CLIP: {shlex.join([*own, *files])}")
    context = model.context
    metadata = CheckpointMetadata(
        method=model.method,
        num_frames=model.num_frames,
        backbone=model.backbone.tag,
        backbone_checksum=model.backbone.identity(),
        class_names=context.names if context else list(names or ()),
        options=model.options,
        version=code_version(),
    )
    target = out / "model.safetensors"
    save_checkpoint(target, model, metadata, torch.float32)
    size = target.stat().st_size / 1e6
    return [f"{model.method}, {model.num_frames} frames → {target} ({size:.1f} MB)", *lines]


def export_file(checkpoint: Path, out: Path, backbone: str) -> str:
    """Export a VidPrompt checkpoint in the published format; returns a line to print."""
    model, metadata = load_checkpoint(checkpoint, find_backbone(backbone))
    export_published(model, out)
    return f"{metadata.method}, {metadata.num_frames} frames → {out} ({out.stat().st_size / 1e6:.1f} MB)"


def find_backbone(spec: str) -> Backbone:
    """Load a backbone named in `params/backbone/`, of an imported folder, or open_clip's NAME[:TAG]."""
    folder = Path(spec)
    if (folder / "backbone.json").is_file():
        weights = folder / "backbone.safetensors"
        return load_backbone(
            {"name": "published", "config": folder / "backbone.json", "weights": weights}
        )
    if is_backbone_file(spec):
        return load_backbone(vars(compose([f"backbone={spec}"]).backbone))
    return load_backbone(spec)
