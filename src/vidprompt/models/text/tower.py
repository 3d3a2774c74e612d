"""Forward pass of a text transformer that computes only what the text feature depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from vidprompt.models.backbones.interface import Block, TextTower
from vidprompt.models.layers.frozen_weights import autocast_dtype
from vidprompt.models.layers.stochastic_depth import LayerDraws, scale_branch

# A method's change to the tokens after the attention of a layer, or before a layer: (layer, x) → x.
ChangeTokens = Callable[[int, torch.Tensor], torch.Tensor]


def no_change(layer: int, x: torch.Tensor) -> torch.Tensor:
    """The identity: the plain CLIP tower."""
    del layer
    return x


def group_by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Row numbers in groups of at most `size`, sorted by length so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    return [order[i : i + size] for i in range(0, len(order), size)]


def encode_embedded(
    tower: TextTower,
    embedded: torch.Tensor,
    ends: torch.Tensor,
    after_attention: ChangeTokens = no_change,
    draws: Sequence[LayerDraws] = (),
    before_layer: ChangeTokens = no_change,
) -> torch.Tensor:
    """Token embeddings (n, length, W) → text features (n, E), not normalised.

    `ends` (n,) is the position at which each text is read (`TextTower.read_at`). If it is on the CPU,
    positions that no feature depends on are cut off; to look at it on another device would make the
    processor wait. The last layer is computed at `ends` only; the numbers are those of the whole tower.
    `draws` of each layer (default: nothing is dropped) have factors (n or 1, positions, 1), of at least
    `length` positions.
    """
    on_cpu = ends.device.type == "cpu"
    length = tower.needed_length(ends) if on_cpu else embedded.shape[1]
    ends = ends.to(embedded.device)
    x = embedded[:, :length] + tower.positions()[:length].to(embedded.dtype)
    x = x.to(autocast_dtype(x.device) or x.dtype)
    blocks = tower.blocks
    draws = draws or [LayerDraws()] * len(blocks)
    for layer, (block, drawn) in enumerate(zip(blocks[:-1], draws, strict=False)):
        # nothing of the attention has a name, and so memory, during the MLP, which takes most
        x = before_layer(layer, x)
        x = x + scale_branch(
            block.attend(
                *block.project_qkv(block.norm(x)), causal=tower.causal, dropout=drawn.rate
            ),
            _cut(drawn.attention, length),
        )
        x = after_attention(layer, x)
        x = x + scale_branch(block.mlp(x), _cut(drawn.mlp, length))
    last = len(blocks) - 1
    x = _last_block(
        blocks[last],
        before_layer(last, x),
        ends,
        tower.causal,
        lambda x: after_attention(last, x),
        draws[last],
    )
    return tower.project(x)


def _cut(factor: torch.Tensor | None, length: int) -> torch.Tensor | None:
    """Factors (n, length, 1) of the first positions."""
    return None if factor is None else factor[:, :length]


def _last_block(
    block: Block,
    x: torch.Tensor,
    ends: torch.Tensor,
    causal: bool,
    after_attention: Callable[[torch.Tensor], torch.Tensor],
    drawn: LayerDraws,
) -> torch.Tensor:
    """The last block at position `ends` of each text: (n, length, W) → (n, W)."""
    rows = torch.arange(len(x), device=x.device)
    normed = block.norm(x)
    mask = None
    if causal:
        mask = (torch.arange(x.shape[1], device=x.device) <= ends[:, None])[:, None, None]
    attended = block.attend(
        block.project_queries(normed[rows, ends][:, None]),
        block.project_kv(normed),
        mask=mask,
        dropout=drawn.rate,
    )[:, 0]
    first, second = (
        None if factor is None else factor.expand(len(x), -1, -1)[rows, ends]
        for factor in (drawn.attention, drawn.mlp)
    )
    out = after_attention(x[rows, ends] + scale_branch(attended, first))
    return out + scale_branch(block.mlp(out), second)
