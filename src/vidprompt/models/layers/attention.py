"""Attention and MLP of open_clip's frozen blocks, with queries from fewer tokens than keys and values.

A method's prompts are attended to but their own outputs are dropped, and of the last layer only the
class (or end-of-text) token is used. Queries and keys therefore come from different token sets, and
nothing is computed for a token whose output is not used. The numbers are those of the plain block.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import nn

from vidprompt.models.layers.dropout_attention import dropout_attention

# Attention weights of one layer by name ("space", "time"), each (n, heads, queries, keys).
AttentionMaps = dict[str, torch.Tensor]


def project_queries(attn: nn.MultiheadAttention, x: torch.Tensor) -> torch.Tensor:
    """Normalised tokens (n, length, D) → queries (n, length, D)."""
    width = attn.embed_dim
    return F.linear(x, attn.in_proj_weight[:width], attn.in_proj_bias[:width])


def project_kv(attn: nn.MultiheadAttention, x: torch.Tensor) -> torch.Tensor:
    """Normalised tokens (…, length, D) → keys and values concatenated, (…, length, 2·D)."""
    width = attn.embed_dim
    return F.linear(x, attn.in_proj_weight[width:], attn.in_proj_bias[width:])


def project_qkv(
    attn: nn.MultiheadAttention, x: torch.Tensor, num_queries: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries (n, num_queries, D) of the first tokens (default: all), and `project_kv` of all tokens."""
    if num_queries is None:
        width = attn.embed_dim
        qkv = F.linear(x, attn.in_proj_weight, attn.in_proj_bias)
        return qkv[..., :width], qkv[..., width:]
    return project_queries(attn, x[:, :num_queries]), project_kv(attn, x)


def attend(
    attn: nn.MultiheadAttention,
    queries: torch.Tensor,
    kv: torch.Tensor | Sequence[torch.Tensor],
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    maps: AttentionMaps | None = None,
    name: str = "",
) -> torch.Tensor:
    """Multi-head attention with output projection, (n, q, D).

    Args:
        queries: (n, q, D).
        kv: keys and values (n, k, 2·D), or several of them to concatenate along k.
        mask: boolean, True = may be attended to; broadcasts to (n, heads, q, k).
        dropout: rate on the attention weights, in [0, 1).
        maps: if given, the attention weights (n, heads, q, k) are stored there under `name`; otherwise
            they are never materialised as a whole.
    """
    joint = kv if isinstance(kv, torch.Tensor) else torch.cat(tuple(kv), 1)
    heads = attn.num_heads
    q = queries.unflatten(-1, (heads, -1)).transpose(1, 2)
    k, v = joint.unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)
    if maps is None:
        if not dropout or q.device.type != "cpu" or torch.compiler.is_compiling():
            attended = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        else:
            mask = _causal_mask(q, k) if causal else mask
            attended = dropout_attention(q, k, v, dropout, mask)
    else:
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        mask = _causal_mask(q, k) if causal else mask
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        maps[name] = scores.softmax(-1)
        attended = F.dropout(maps[name], dropout) @ v
    return attn.out_proj(attended.transpose(1, 2).flatten(2))


def _causal_mask(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """(queries, keys), True where a token attends to itself or an earlier one."""
    return torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()


def mlp(block: ResidualAttentionBlock, x: torch.Tensor) -> torch.Tensor:
    """The block's frozen MLP on normalised tokens, (…, D) → (…, D).

    QuickGELU, x·σ(1.702·x), is computed as silu(1.702·x) / 1.702 with the factors folded into the matrix
    products: one pass over the wide activations instead of three, and a third of the memory that autograd
    would keep.
    """
    layers = block.mlp
    if not isinstance(layers.gelu, QuickGELU):
        return layers(x)
    scale, flat = 1.702, x.reshape(-1, x.shape[-1])
    hidden = torch.addmm(layers.c_fc.bias, flat, layers.c_fc.weight.T, beta=scale, alpha=scale)
    out = F.silu(hidden) @ layers.c_proj.weight.T
    return torch.add(layers.c_proj.bias, out, alpha=1 / scale).reshape(x.shape)
