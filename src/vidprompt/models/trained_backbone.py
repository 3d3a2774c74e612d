"""Which weights of a CLIP are trained: none, the last blocks', all, or small ones beside them (LoRA)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from vidprompt.config.schema import BackboneTraining
from vidprompt.models.backbones.interface import Block
from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.layers.low_rank import add_low_rank, add_low_rank_to
from vidprompt.system.errors import UserError

SCALES = ("logit_scale", "logit_bias")  # of CLIP; never trained with its towers


def train_towers(backbone: Backbone, chosen: BackboneTraining) -> None:
    """Make what `chosen` says of a frozen CLIP trainable, in place.

    all: every weight of a tower. last_n: the last blocks, and what follows them (the last norm, pooling, the
    projection to the joint space); embeddings, positions and the norm before the blocks stay frozen. lora: a
    `LowRank` beside every matrix of all blocks, or beside those of queries, keys and values alone; the
    weights themselves stay frozen. CLIP's logit scale and bias are never trained.

    Raises UserError for more blocks than a tower has.
    """
    image, text = backbone.image_tower, backbone.text_tower
    of_image, of_text = _by_tower(backbone.clip)
    if chosen.trains_image:
        tokens = (1, image.num_tokens, image.width)
        _train_tower("image", of_image, image.blocks, image.pool, tokens, chosen)
    if chosen.trains_text:
        _train_tower("text", of_text, text.blocks, text.project, (1, text.width), chosen)


def _by_tower(clip: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters of the image tower, and of the text tower."""
    named = [(name, p) for name, p in clip.named_parameters() if name not in SCALES]
    image = [p for name, p in named if name.startswith("visual.")]
    return image, [p for name, p in named if not name.startswith("visual.")]


def _train_tower(
    side: str,
    parameters: Sequence[nn.Parameter],
    blocks: Sequence[Block],
    read: Callable[[torch.Tensor], torch.Tensor],
    shape: tuple[int, ...],
    chosen: BackboneTraining,
) -> None:
    """`read` makes features of the last block's tokens, which have this shape."""
    trained = list(parameters)
    if chosen.train_backbone == "lora":
        for block in blocks:
            _add_lora(block, chosen)
        return
    if chosen.train_backbone == "last_n":
        count = chosen.trained_blocks
        if count > len(blocks):
            raise UserError(
                f"trained_blocks is {count}, and the {side} tower has {len(blocks)} blocks: choose fewer, "
                "or train_backbone=all"
            )
        trained = _used_by(read, shape, parameters)
        trained += [p for block in blocks[-count:] for p in block.block.parameters()]
    for parameter in trained:
        parameter.requires_grad_(True)


def _add_lora(block: Block, chosen: BackboneTraining) -> None:
    rank, scale = chosen.lora_rank, chosen.lora_scale
    if chosen.lora_matrices == "all":
        add_low_rank(block.block, rank, scale)
        return
    for layer, name, parts in block.qkv_matrices():
        add_low_rank_to(layer, name, rank, scale, parts=parts, dropout=chosen.lora_dropout)


def _used_by(
    read: Callable[[torch.Tensor], torch.Tensor],
    shape: tuple[int, ...],
    parameters: Sequence[nn.Parameter],
) -> list[nn.Parameter]:
    """The parameters that the output of `read` depends on, whatever the tower calls them."""
    for parameter in parameters:
        parameter.requires_grad_(True)
    with torch.enable_grad():
        features = read(parameters[0].new_zeros(shape))
        gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    for parameter in parameters:
        parameter.requires_grad_(False)
    pairs = zip(parameters, gradients, strict=True)
    return [parameter for parameter, gradient in pairs if gradient is not None]
