"""Trained parameters and the FLOPs of a clip, from a model without weights."""

from __future__ import annotations

import logging
from typing import Any

from vidprompt.config.schema import Config
from vidprompt.pipeline.parameter_table import model_without_weights
from vidprompt.system.errors import first_line

logger = logging.getLogger(__name__)

HOW = (
    "torch.utils.flop_counter on the meta device; the video tower's forward pass of one clip, a "
    "multiplication and an addition are two; texts are encoded once for all clips and not counted"
)


def model_cost(config: Config, classes: int) -> dict[str, Any]:
    """`trained_parameters`, `parameters` and `flops` (None where they cannot be counted) of a method.

    `classes` are those of the training list: a context of each class is trained. FLOPs are counted in
    evaluation mode, of one clip of `num_frames` frames at the backbone's resolution.
    """
    model = model_without_weights(config, classes)
    parameters = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {
        "trained_parameters": sum(count for count, trained in parameters if trained),
        "parameters": sum(count for count, _ in parameters),
        "flops": _flops(model, config),
    }


def _flops(model: Any, config: Config) -> int | None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    size = model.backbone.image_size
    model.requires_grad_(False)  # the counter's hooks want a gradient of what needs one
    video = torch.empty(1, model.num_frames, 3, size, size, device="meta")
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.eval().encode_video(video)
    except (RuntimeError, AssertionError) as error:  # what has no meaning without values
        logger.warning(f"FLOPs of {config.method.name} are not counted: {first_line(error)}")
        return None
    return int(counter.get_total_flops())
