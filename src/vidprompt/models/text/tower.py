"""Forward pass of CLIP's causal text transformer that computes only what the text feature depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock

from vidprompt.models.layers.attention import (
    attend,
    mlp,
    project_kv,
    project_qkv,
    project_queries,
)
from vidprompt.models.layers.frozen_weights import autocast_dtype, layer_norm
from vidprompt.models.layers.stochastic_depth import LayerDraws, scale_branch

# A method's change to the tokens after the attention of a layer: (layer, x) → x.
AfterAttention = Callable[[int, torch.Tensor], torch.Tensor]


def no_change(layer: int, x: torch.Tensor) -> torch.Tensor:
    """The identity: the plain CLIP tower."""
    del layer
    return x


def text_width(clip: open_clip.CLIP) -> int:
    """Width W of the text transformer."""
    return int(clip.token_embedding.weight.shape[1])


def eot_positions(tokens: torch.Tensor) -> torch.Tensor:
    """Position of the end-of-text token (the highest id) of each text: (n, context) → (n,)."""
    return tokens.argmax(-1)


def group_by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Row numbers in groups of at most `size`, sorted by length so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    return [order[i : i + size] for i in range(0, len(order), size)]


def encode_embedded(
    clip: open_clip.CLIP,
    embedded: torch.Tensor,
    eot: torch.Tensor,
    after_attention: AfterAttention = no_change,
    draws: Sequence[LayerDraws] = (),
) -> torch.Tensor:
    """Token embeddings (n, length, W) → text features (n, E), not normalised.

    `eot` (n,) is the position at which each text is read. If it is on the CPU, positions after its maximum
    are cut off; to look at it on another device would make the processor wait. The last layer is computed at
    `eot` only: the mask is causal, so the numbers are those of the whole tower. `draws` of each layer
    (default: nothing is dropped) have factors (n or 1, positions, 1), of at least `length` positions.
    """
    length = int(eot.max()) + 1 if eot.device.type == "cpu" else embedded.shape[1]
    eot = eot.to(embedded.device)
    x = embedded[:, :length] + clip.positional_embedding[:length].to(embedded.dtype)
    x = x.to(autocast_dtype(x.device) or x.dtype)
    blocks = list(clip.transformer.resblocks)
    draws = draws or [LayerDraws()] * len(blocks)
    for layer, (block, drawn) in enumerate(zip(blocks[:-1], draws, strict=False)):
        queries, kv = project_qkv(block.attn, layer_norm(block.ln_1, x))
        attended = block.ls_1(attend(block.attn, queries, kv, causal=True, dropout=drawn.rate))
        x = after_attention(layer, x + scale_branch(attended, _cut(drawn.attention, length)))
        out = block.ls_2(mlp(block, layer_norm(block.ln_2, x)))
        x = x + scale_branch(out, _cut(drawn.mlp, length))
    x = _last_block(blocks[-1], x, eot, lambda x: after_attention(len(blocks) - 1, x), draws[-1])
    features = layer_norm(clip.ln_final, x)
    projection = clip.text_projection
    if isinstance(projection, torch.nn.Linear):
        return projection(features)
    return features @ projection


def _cut(factor: torch.Tensor | None, length: int) -> torch.Tensor | None:
    """Factors (n, length, 1) of the first positions."""
    return None if factor is None else factor[:, :length]


def _last_block(
    block: ResidualAttentionBlock,
    x: torch.Tensor,
    eot: torch.Tensor,
    after_attention: Callable[[torch.Tensor], torch.Tensor],
    drawn: LayerDraws,
) -> torch.Tensor:
    """The last block at position `eot` of each text: (n, length, W) → (n, W)."""
    rows = torch.arange(len(x), device=x.device)
    normed = layer_norm(block.ln_1, x)
    mask = torch.arange(x.shape[1], device=x.device) <= eot[:, None]
    attended = attend(
        block.attn,
        project_queries(block.attn, normed[rows, eot][:, None]),
        project_kv(block.attn, normed),
        mask=mask[:, None, None],
        dropout=drawn.rate,
    )[:, 0]
    first, second = (
        None if factor is None else factor.expand(len(x), -1, -1)[rows, eot]
        for factor in (drawn.attention, drawn.mlp)
    )
    out = after_attention(x[rows, eot] + scale_branch(block.ls_1(attended), first))
    return out + scale_branch(block.ls_2(mlp(block, layer_norm(block.ln_2, out))), second)
