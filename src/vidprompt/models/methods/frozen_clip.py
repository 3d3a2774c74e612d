"""Frozen CLIP: nothing is trained. The floor every result is shown against."""

from __future__ import annotations

from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.methods.video_clip import VideoCLIP


class FrozenCLIP(VideoCLIP):
    """Mean over frames of CLIP's image features; plain text features."""

    method = "frozen_clip"

    def __init__(self, backbone: Backbone, num_frames: int) -> None:
        super().__init__(backbone, num_frames)
