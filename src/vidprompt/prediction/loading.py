"""`load`: a model from its name, ready to predict, embed and explain."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from vidprompt.config.names import FLOOR
from vidprompt.prediction.sources import find_model_source
from vidprompt.system.errors import UserError, first_line

if TYPE_CHECKING:
    import torch

    from vidprompt.prediction.model import Model

NUM_FRAMES = 8  # of a bare backbone
# The texts of a bare backbone: CLIP's usual sentence, for actions
TEMPLATES = ("a video of a person {}.", "a video of {}.", "{}")


def load(
    model: str | Path,
    device: str | torch.device = "auto",
    *,
    weights: Path | str | None = None,
    num_frames: int | None = None,
    project: Path | str | None = None,
) -> Model:
    """Load a model.

    Args:
        model: a checkpoint file or its folder; a run of a project ("demo/ez_clip/supervised_split1"); a
            registered version ("ez-clip-demo@production"); one of the Hugging Face Hub
            ("hf://OWNER/NAME", "hf://OWNER/NAME@REVISION"); or a bare backbone
            ("open_clip:ViT-B-16-quickgelu:openai", "open_clip:hf-hub:ORG/NAME", a local folder).
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", …
        weights: the backbone's file, where it is not found by itself.
        num_frames: T of a bare backbone (default 8); a checkpoint has its own.
        project: the project of runs and versions (default: around the current folder).

    Raises UserError, with what to do, for an unknown model, a missing or other backbone, and a device that
    this machine does not have.
    """
    source = find_model_source(model, weights=weights, project=project)
    # seconds, which a wrong name does not wait for
    from vidprompt.models.backbones.loading import load_backbone
    from vidprompt.models.checkpoint import load_checkpoint
    from vidprompt.models.factory import create_model
    from vidprompt.prediction.clip_input import ClipInput
    from vidprompt.prediction.model import Model
    from vidprompt.prediction.texts import TextSettings

    chosen = choose_device(device)
    backbone = load_backbone(source.backbone)
    if source.checkpoint is None or source.metadata is None:
        encoder = create_model(FLOOR, backbone, num_frames=num_frames or NUM_FRAMES)
        settings = ClipInput.of({}, encoder.num_frames, backbone.image_size)
        return Model(source, encoder, settings, TextSettings(TEMPLATES), chosen)
    if num_frames not in (None, source.metadata.num_frames):
        raise UserError(
            f"{source.name} takes {source.metadata.num_frames} frames, as it was trained with, not "
            f"{num_frames}"
        )
    if backbone.checksum == source.metadata.backbone_checksum:
        backbone.tag = source.metadata.backbone  # the same weights under another name
    encoder, metadata = load_checkpoint(source.checkpoint, backbone)
    if not metadata.input:
        warnings.warn(
            f"{source.name} does not say how its tests read videos (it is imported, or older): one clip of "
            f"{metadata.num_frames} frames, the centre crop",
            stacklevel=2,
        )
    settings = ClipInput.of(metadata.input, metadata.num_frames, backbone.image_size)
    return Model(source, encoder, settings, TextSettings.of(metadata.prompts), chosen)


def choose_device(device: str | torch.device) -> torch.device:
    """The device of a name; "auto": a GPU if there is one. Raises UserError for one that is not there."""
    import torch

    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise UserError(f"device {str(device)!r} cannot be used: {reason}") from error
    return chosen
