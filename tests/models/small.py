"""A small CLIP with random weights, for tests."""

from copy import deepcopy

import open_clip
import torch

from vidprompt.contract.subject import SMALL
from vidprompt.models.backbones.loading import Backbone, from_clip
from vidprompt.models.checkpoint import CheckpointMetadata
from vidprompt.models.methods.video_clip import VideoCLIP


def small_backbone(context: int = 24, *, quick_gelu: bool = False, layers: int = 2) -> Backbone:
    """2 (`layers`) + 2 layers, 32×32 pixels in patches of 16, widths 64 and 32, joint width 32."""
    torch.manual_seed(0)
    config = deepcopy(SMALL["config"])
    config["vision_cfg"]["layers"], config["text_cfg"]["context_length"] = layers, context
    clip = open_clip.CLIP(**config, quick_gelu=quick_gelu)
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
