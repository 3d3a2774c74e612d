"""Frozen CLIP without training: the baseline of every result."""

from __future__ import annotations

from collections.abc import Sequence

from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.methods.video_clip import VideoCLIP


class FrozenCLIP(VideoCLIP):
    """Mean of CLIP's image features over the frames; CLIP's text features. Options: VideoCLIP's."""

    method = "frozen_clip"
    encodes_frames_apart = True

    def __init__(
        self,
        backbone: Backbone,
        num_frames: int,
        *,
        class_names: Sequence[str] = (),
        train_backbone: str = "none",
        trained_towers: str = "both",
        trained_blocks: int = 2,
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
    ) -> None:
        super().__init__(
            backbone,
            num_frames,
            class_names=class_names,
            train_backbone=train_backbone,
            trained_towers=trained_towers,
            trained_blocks=trained_blocks,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
        )
