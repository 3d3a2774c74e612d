"""A small model without training, for tests of what surrounds it."""

from __future__ import annotations

import torch
from tests.models.small import small_backbone

from vidprompt.data.frames.sampling import Views
from vidprompt.models import create_model
from vidprompt.prediction.clip_input import ClipInput
from vidprompt.prediction.model import Model
from vidprompt.prediction.sources import ModelSource
from vidprompt.prediction.texts import TextSettings

FRAMES, SIZE = 4, 32
CLASSES = ["star growing", "star shrinking", "cross moving left"]


def small_model(method: str = "frozen_clip", views: Views | None = None) -> Model:
    torch.manual_seed(0)
    encoder = create_model(method, small_backbone(), num_frames=FRAMES, class_names=CLASSES)
    settings = ClipInput(FRAMES, SIZE, views or Views())
    return Model(ModelSource("small", {}), encoder, settings, TextSettings(), torch.device("cpu"))
