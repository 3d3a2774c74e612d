"""A small model without training, for tests of what surrounds it."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tests.models.small import small_backbone

from vidprompt.data.frames.sampling import Views
from vidprompt.models import create_model
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.prediction.clip_input import ClipInput
from vidprompt.prediction.model import Model
from vidprompt.prediction.sources import ModelSource
from vidprompt.prediction.texts import TextSettings

FRAMES, SIZE = 4, 32
CLASSES = ["star growing", "star shrinking", "cross moving left"]


@cache
def small_encoder(method: str) -> VideoCLIP:
    torch.manual_seed(0)
    return create_model(method, small_backbone(), num_frames=FRAMES, class_names=CLASSES)


def small_lora_encoder() -> VideoCLIP:
    """A fine-tuned CLIP whose LoRA changes its features."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"train_backbone": "lora", "lora_rank": 2}
    encoder = create_model("vifi_clip", small_backbone(), num_frames=FRAMES, **options)
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    return encoder


def small_model(method: str = "frozen_clip", views: Views | None = None) -> Model:
    encoder = small_lora_encoder() if method == "lora" else small_encoder(method)
    settings = ClipInput(FRAMES, SIZE, views or Views())
    return Model(ModelSource("small", {}), encoder, settings, TextSettings(), torch.device("cpu"))
