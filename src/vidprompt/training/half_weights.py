"""Weights that are float16 after every step, as EZ-CLIP keeps them (`trainer.precision=fp16_weights`).

Its train.py turns all weights to float32 before AdamW's step, and those of `convert_weights` (clip/model.py)
back to float16 after it, without a copy in float32: an update below half of float16's spacing at a weight is
lost. Here the values are rounded in place and stay float32 tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from vidprompt.models.layers.low_rank import FACTORS, LowRank

FP16_WEIGHTS = "fp16_weights"
_PROJECTIONS = ("text_projection", "proj")  # CLIP's, parameters of no layer
_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_ATTENTION_BIASES = ("in_proj_bias", "bias_k", "bias_v")


def half_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that EZ-CLIP keeps in float16.

    Weights and biases of linear layers, convolutions and attentions, CLIP's two projections, and LoRA's
    matrices; not those of layer norms, embeddings, prompts, learned contexts and the logit scale.
    """
    found: dict[int, nn.Parameter] = {}
    for one in module.modules():
        names = [
            name for name in _PROJECTIONS if isinstance(getattr(one, name, None), nn.Parameter)
        ]
        if isinstance(one, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            names += ["weight", "bias"]
        if isinstance(one, nn.MultiheadAttention):
            names += [*_ATTENTION, *_ATTENTION_BIASES]
        if isinstance(one, LowRank):
            names += FACTORS
        for parameter in (getattr(one, name) for name in names):
            if isinstance(parameter, nn.Parameter):  # not a sum with LoRA's product
                found[id(parameter)] = parameter
    return list(found.values())


@torch.no_grad()
def round_to_half(parameters: Sequence[nn.Parameter]) -> None:
    """Round the values to what float16 holds, in place."""
    for parameter in parameters:
        parameter.copy_(parameter.half())
