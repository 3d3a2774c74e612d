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
from torch.nn.attention import SDPBackend, sdpa_kernel

from vidprompt.models.layers.dropout_attention import dropout_attention
from vidprompt.models.layers.frozen_weights import linear, weight_of

# Attention weights of one layer by name ("space", "time"), each (n, heads, queries, keys).
AttentionMaps = dict[str, torch.Tensor]

# Attention to fewer tokens than this is not cuDNN's, which builds a plan for every length and dropout rate:
# on an H100 the first steps of EZ-CLIP took 13 s each, and so would each with a text length of its own.
SHORT = 128
_WITHOUT_PLANS = [
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


def on_cpu(x: torch.Tensor) -> bool:
    """True on a CPU, where the fewest operations count; on a GPU the fewest passes over memory do."""
    return x.device.type == "cpu"


def project_queries(attn: nn.MultiheadAttention, x: torch.Tensor) -> torch.Tensor:
    """Normalised tokens (n, length, D) → queries (n, length, D)."""
    weight, bias = weight_of(attn.in_proj_weight), weight_of(attn.in_proj_bias)
    return F.linear(x, weight[: attn.embed_dim], bias[: attn.embed_dim])


def project_kv(attn: nn.MultiheadAttention, x: torch.Tensor) -> torch.Tensor:
    """Normalised tokens (…, length, D) → keys and values concatenated, (…, length, 2·D)."""
    weight, bias = weight_of(attn.in_proj_weight), weight_of(attn.in_proj_bias)
    return F.linear(x, weight[attn.embed_dim :], bias[attn.embed_dim :])


def project_qkv(
    attn: nn.MultiheadAttention, x: torch.Tensor, num_queries: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries (n, num_queries, D) of the first tokens (default: all), and `project_kv` of all tokens.

    One product on a CPU. On a GPU two: parts of one would keep the whole alive, and pad their gradients.
    """
    if num_queries is None and on_cpu(x):
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
    k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in joint.chunk(2, -1))
    if maps is None:
        if q.is_cuda and k.shape[-2] < SHORT and not torch.compiler.is_compiling():
            with sdpa_kernel(_WITHOUT_PLANS):
                attended = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        elif not dropout or q.device.type != "cpu" or torch.compiler.is_compiling():
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
    joined = attended.transpose(1, 2).flatten(2)
    return linear(joined, attn.out_proj.weight, attn.out_proj.bias)


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
    if not on_cpu(x):  # a bias of factor 1 is part of the product
        hidden = F.linear(
            x, weight_of(layers.c_fc.weight, scale), weight_of(layers.c_fc.bias, scale)
        )
        out = F.silu(hidden)
        return F.linear(
            out, weight_of(layers.c_proj.weight, 1 / scale), weight_of(layers.c_proj.bias)
        )
    hidden = torch.addmm(layers.c_fc.bias, flat, layers.c_fc.weight.T, beta=scale, alpha=scale)
    out = F.silu(hidden) @ layers.c_proj.weight.T
    # under autocast the bias is cast: a sum with float32 would be float32, and so all later layers
    return torch.add(layers.c_proj.bias.to(out.dtype), out, alpha=1 / scale).reshape(x.shape)
