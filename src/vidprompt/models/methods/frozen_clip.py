"""Frozen CLIP without training: the baseline of every result."""

from __future__ import annotations

from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.methods.video_clip import VideoCLIP


class FrozenCLIP(VideoCLIP):
    """Mean of CLIP's image features over the frames; CLIP's text features."""

    method = "frozen_clip"

    def __init__(self, backbone: Backbone, num_frames: int) -> None:
        super().__init__(backbone, num_frames)
