"""ViFi-CLIP (arXiv 2212.03640, CVPR 2023): CLIP itself, fine-tuned on videos."""

from __future__ import annotations

from typing import Any

from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.methods.video_clip import VideoCLIP


class ViFiCLIP(VideoCLIP):
    """Frozen CLIP's features, with the backbone trained: all of both towers unless options say otherwise.

    Args:
        options: of VideoCLIP; a learned text context is not ViFi-CLIP's, but works.
    """

    method = "vifi_clip"
    encodes_frames_apart = True

    def __init__(
        self, backbone: Backbone, num_frames: int, *, train_backbone: str = "all", **options: Any
    ) -> None:
        super().__init__(backbone, num_frames, train_backbone=train_backbone, **options)
