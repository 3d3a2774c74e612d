"""CLIP-LoRA (arXiv 2405.18541, CVPR Workshops 2024): low-rank products in both towers, for few shots."""

from __future__ import annotations

from typing import Any

from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.methods.video_clip import VideoCLIP


class CLIPLoRA(VideoCLIP):
    """Frozen CLIP's features, with LoRA on the queries, keys and values of all layers of both towers.

    Section 4: W·x + γ·B·A·dropout(x) with A Kaiming-uniform and B zero at the start, of rank 2, for each of
    the three matrices of each layer. γ is alpha / √rank, as released (`LoRALayer` of loralib/layers.py; the
    paper does not say), and dropout 0.25. The paper is of images: here a video is the mean of its frames.

    Args:
        options: of VideoCLIP; the defaults of LoRA are the paper's. A learned text context is not
            CLIP-LoRA's, but works.
    """

    method = "clip_lora"
    encodes_frames_apart = True

    def __init__(
        self,
        backbone: Backbone,
        num_frames: int,
        *,
        train_backbone: str = "lora",
        lora_rank: int = 2,
        lora_alpha: float = 1.0,
        lora_scaling: str = "sqrt_rank",
        lora_matrices: str = "qkv",
        lora_dropout: float = 0.25,
        **options: Any,
    ) -> None:
        super().__init__(
            backbone,
            num_frames,
            train_backbone=train_backbone,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            lora_scaling=lora_scaling,
            lora_matrices=lora_matrices,
            lora_dropout=lora_dropout,
            **options,
        )
