"""CLIP's frozen blocks taken apart: open_clip keeps the weights, this says which tokens ask whom.

A method's prompts are read by others and not asked themselves, and of the last layer only the class
(or end-of-text) token is used. So queries and keys come from different token sets, and nothing is
computed for a token whose output is dropped: the numbers are those of the plain block.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import nn

from vidprompt.models.layers.dropout_attention import dropout_attention

# Attention maps of one layer by name, each (…, queries, keys), for `explain`.
Maps = dict[str, torch.Tensor]


def project_queries(attn: nn.MultiheadAttention, x: torch.Tensor) -> torch.Tensor:
    """Normed tokens (n, length, D) → queries (n, length, D)."""
    width = attn.embed_dim
    return F.linear(x, attn.in_proj_weight[:width], attn.in_proj_bias[:width])


def project_keys(attn: nn.MultiheadAttention, x: torch.Tensor) -> torch.Tensor:
    """Normed tokens (…, length, D) → keys and values side by side (…, length, 2·D)."""
    width = attn.embed_dim
    return F.linear(x, attn.in_proj_weight[width:], attn.in_proj_bias[width:])


def project(
    attn: nn.MultiheadAttention, x: torch.Tensor, asking: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries (n, asking, D) of the first `asking` tokens (default all) and keys (n, length, 2·D)."""
    if asking is None:
        width = attn.embed_dim
        both = F.linear(x, attn.in_proj_weight, attn.in_proj_bias)
        return both[..., :width], both[..., width:]
    return project_queries(attn, x[:, :asking]), project_keys(attn, x)


def mix(
    attn: nn.MultiheadAttention,
    queries: torch.Tensor,
    keys: torch.Tensor | Sequence[torch.Tensor],
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    maps: Maps | None = None,
    name: str = "",
) -> torch.Tensor:
    """Attention of queries (n, q, D) over keys (n, k, 2·D), or several such side by side → (n, q, D).

    `mask` is boolean, True = may be seen, and broadcasts to (n, heads, q, k). With `maps`, the
    attention (n, heads, q, k) is written out there under `name`; otherwise it never exists as a whole.
    """
    joint = keys if isinstance(keys, torch.Tensor) else torch.cat(tuple(keys), 1)
    heads = attn.num_heads
    q = queries.unflatten(-1, (heads, -1)).transpose(1, 2)
    k, v = joint.unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)
    if maps is None:
        fused = not dropout or q.device.type != "cpu" or torch.compiler.is_compiling()
        if fused or mask is not None or causal:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        else:
            mixed = dropout_attention(q, k, v, dropout)
    else:
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        maps[name] = scores.softmax(-1)
        mixed = F.dropout(maps[name], dropout) @ v
    return attn.out_proj(mixed.transpose(1, 2).flatten(2))


def mlp(block: ResidualAttentionBlock, x: torch.Tensor) -> torch.Tensor:
    """The block's frozen MLP on normed tokens, (…, D) → (…, D).

    QuickGELU, x·σ(1.702·x), is written as silu(1.702·x) / 1.702, and the factors go where tensors are
    narrow or a product takes them along: one wide pass instead of three, and a third of what autograd
    would keep.
    """
    layers = block.mlp
    if not isinstance(layers.gelu, QuickGELU):
        return layers(x)
    scale, flat = 1.702, x.reshape(-1, x.shape[-1])
    hidden = torch.addmm(layers.c_fc.bias, flat, layers.c_fc.weight.T, beta=scale, alpha=scale)
    out = F.silu(hidden) @ layers.c_proj.weight.T
    return torch.add(layers.c_proj.bias, out, alpha=1 / scale).reshape(x.shape)
