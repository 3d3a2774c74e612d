"""CLIP's causal text transformer, computed where something depends on it and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock

from vidprompt.models.layers.attention import mix, mlp, project, project_keys, project_queries

# A layer's own change to the tokens after its attention: (layer, x) → x.
AfterAttention = Callable[[int, torch.Tensor], torch.Tensor]


def unchanged(layer: int, x: torch.Tensor) -> torch.Tensor:
    """No change: the plain tower."""
    del layer
    return x


def text_width(clip: open_clip.CLIP) -> int:
    """Width of the text transformer."""
    return int(clip.token_embedding.weight.shape[1])


def text_ends(tokens: torch.Tensor) -> torch.Tensor:
    """Where each text's feature is read: its end-of-text token, of the highest id. (n, c) → (n,)."""
    return tokens.argmax(-1)


def by_length(ends: Sequence[int], chunk: int) -> list[list[int]]:
    """Rows in groups of at most `chunk`, texts of like length together: little is padded."""
    order = sorted(range(len(ends)), key=lambda row: ends[row])
    return [order[i : i + chunk] for i in range(0, len(order), chunk)]


def encode_embedded(
    clip: open_clip.CLIP,
    embedded: torch.Tensor,
    ends: torch.Tensor,
    after_attention: AfterAttention = unchanged,
) -> torch.Tensor:
    """Texts as embeddings (n, length, W), read at `ends` (n,) → features (n, E), not normalised.

    `ends` best stays on the CPU: its largest decides how much is computed.

    Positions behind the last end are cut off and the last layer is computed for the ends alone: the
    mask is causal, so both give the same numbers as the whole.
    """
    length, ends = int(ends.max()) + 1, ends.to(embedded.device)
    x = embedded[:, :length] + clip.positional_embedding[:length].to(embedded.dtype)
    blocks = list(clip.transformer.resblocks)
    for layer, block in enumerate(blocks[:-1]):
        queries, keys = project(block.attn, block.ln_1(x))
        x = after_attention(layer, x + block.ls_1(mix(block.attn, queries, keys, causal=True)))
        x = x + block.ls_2(mlp(block, block.ln_2(x)))
    x = _last_layer(blocks[-1], x, ends, lambda x: after_attention(len(blocks) - 1, x))
    features = clip.ln_final(x)
    projection = clip.text_projection
    if isinstance(projection, torch.nn.Linear):
        return projection(features)
    return features @ projection


def _last_layer(
    block: ResidualAttentionBlock,
    x: torch.Tensor,
    ends: torch.Tensor,
    after_attention: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """The last layer at each text's end: (n, length, W) → (n, W)."""
    rows = torch.arange(len(x), device=x.device)
    normed = block.ln_1(x)
    seen = torch.arange(x.shape[1], device=x.device) <= ends[:, None]
    mixed = mix(
        block.attn,
        project_queries(block.attn, normed[rows, ends][:, None]),
        project_keys(block.attn, normed),
        mask=seen[:, None, None],
    )
    read = after_attention(x[rows, ends] + block.ls_1(mixed[:, 0]))
    return read + block.ls_2(mlp(block, block.ln_2(read)))
