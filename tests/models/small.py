"""A small CLIP with random weights, for tests."""

import open_clip
import torch

from vidprompt.models.backbones.loading import Backbone, from_clip
from vidprompt.models.checkpoint import CheckpointMetadata
from vidprompt.models.methods.video_clip import VideoCLIP


def small_backbone(context: int = 24, *, quick_gelu: bool = False, layers: int = 2) -> Backbone:
    """2 (`layers`) + 2 layers, 32×32 pixels in patches of 16, widths 64 and 32, joint width 32."""
    torch.manual_seed(0)
    clip = open_clip.CLIP(
        embed_dim=32,
        vision_cfg={
            "image_size": 32,
            "layers": layers,
            "width": 64,
            "head_width": 16,
            "patch_size": 16,
        },
        text_cfg={"context_length": context, "width": 32, "heads": 2, "layers": 2},
        quick_gelu=quick_gelu,
    )
    return from_clip(clip, "small", "")


def metadata_of(model: VideoCLIP) -> CheckpointMetadata:
    """What a checkpoint of a model without classes says of it."""
    return CheckpointMetadata(
        method=model.method,
        num_frames=model.num_frames,
        backbone=model.backbone.tag,
        backbone_checksum=model.backbone.identity(),
        class_names=[],
        options=model.options,
    )
