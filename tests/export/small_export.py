"""A small model to export, with classes, two prompts each, and values in what starts at zero."""

from __future__ import annotations

import torch
from tests.models.small import small_backbone

from vidprompt.data.frames.sampling import Views
from vidprompt.export.metadata import ExportMetadata
from vidprompt.export.module import ExportedModel
from vidprompt.models import create_model
from vidprompt.prediction.clip_input import ClipInput

FRAMES, SIZE, WIDTH = 2, 32, 32
CLASSES = ("opening", "closing", "moving left")


def small_export(method: str, **values: object) -> tuple[ExportedModel, ExportMetadata]:
    """One layer, random values; `values` are of the metadata."""
    torch.manual_seed(0)
    options = {"context": "none"} if method == "vita_clip" else {}
    encoder = create_model(method, small_backbone(layers=1), num_frames=FRAMES, **options).eval()
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    metadata = ExportMetadata(
        model="small",
        identity="0123",
        method=method,
        backbone="small",
        num_frames=FRAMES,
        image_size=SIZE,
        feature_size=WIDTH,
        input=ClipInput(FRAMES, SIZE, Views(clips=2)).to_dict(),
        class_names=CLASSES,
        text_source="prompts",
        prompts_per_class=2,
        logit_scale=20.0,
        unknown={"cosine": 0.9, "known_kept": 1.0, "unknown_refused": 1.0, "videos": 10},
    )
    metadata = ExportMetadata(**{**vars(metadata), **values})
    module = ExportedModel(
        encoder,
        torch.randn(len(CLASSES), 2, WIDTH),
        logit_scale=metadata.logit_scale,
        ensemble=metadata.ensemble,  # type: ignore[arg-type]
    )
    return module, metadata
