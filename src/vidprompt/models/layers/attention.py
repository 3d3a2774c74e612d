"""Multi-head attention of frozen layers, with queries from fewer tokens than keys and values.

A method's prompts are attended to but their own outputs are dropped, and of the last layer only the
class (or end-of-text) token may be used. Queries and keys therefore come from different token sets, and
nothing is computed for a token whose output is not used. The numbers are those of the plain layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vidprompt.models.layers.dropout_attention import dropout_attention
from vidprompt.models.layers.frozen_weights import linear, weight_of
from vidprompt.models.layers.low_rank import LowRank, dropped_low_rank

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


class InProjection(NamedTuple):
    """Weights (3·D, D) and biases (3·D) of queries, keys and values, in this order."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    low_rank: LowRank | None = None  # its product is added to what the weights give

    def part(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weights and biases of some rows, for a product."""
        return weight_of(self.weight)[rows], None if self.bias is None else weight_of(self.bias)[
            rows
        ]

    @property
    def width(self) -> int:
        return self.weight.shape[0] // 3


def in_projection(attn: nn.MultiheadAttention) -> InProjection:
    """The weights of PyTorch's module."""
    low_rank = dropped_low_rank(attn, "in_proj_weight")
    return InProjection(attn.in_proj_weight, attn.in_proj_bias, low_rank)


def project_queries(weights: InProjection, x: torch.Tensor) -> torch.Tensor:
    """Normalised tokens (n, length, D) → queries (n, length, D)."""
    queries = F.linear(x, *weights.part(slice(None, weights.width)))
    low_rank = weights.low_rank
    return queries if low_rank is None else queries + low_rank.product(x, slice(None, 1))


def project_kv(weights: InProjection, x: torch.Tensor) -> torch.Tensor:
    """Normalised tokens (…, length, D) → keys and values concatenated, (…, length, 2·D)."""
    kv = F.linear(x, *weights.part(slice(weights.width, None)))
    low_rank = weights.low_rank
    return kv if low_rank is None else kv + low_rank.product(x, slice(1, None))


def project_qkv(
    weights: InProjection, x: torch.Tensor, num_queries: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries (n, num_queries, D) of the first tokens (default: all), and `project_kv` of all tokens.

    One product on a CPU. On a GPU two: parts of one would keep the whole alive, and pad their gradients.
    """
    if num_queries is None and on_cpu(x) and weights.low_rank is None:
        qkv = F.linear(x, weights.weight, weights.bias)
        return qkv[..., : weights.width], qkv[..., weights.width :]
    return project_queries(weights, x[:, :num_queries]), project_kv(weights, x)


def attend(
    queries: torch.Tensor,
    kv: torch.Tensor | Sequence[torch.Tensor],
    heads: int,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    maps: AttentionMaps | None = None,
    name: str = "",
) -> torch.Tensor:
    """Multi-head attention before its output projection, (n, q, D).

    Args:
        queries: (n, q, D).
        kv: keys and values (n, k, 2·D), or several of them to concatenate along k.
        mask: boolean, True = may be attended to; broadcasts to (n, heads, q, k).
        dropout: rate on the attention weights, in [0, 1).
        maps: if given, the attention weights (n, heads, q, k) are stored there under `name`; otherwise
            they are never materialised as a whole.
    """
    joint = (
        kv if isinstance(kv, torch.Tensor) else kv[0] if len(kv) == 1 else torch.cat(tuple(kv), 1)
    )
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
    return attended.transpose(1, 2).flatten(2)


def attend_with(
    attn: nn.MultiheadAttention,
    queries: torch.Tensor,
    kv: torch.Tensor,
    *,
    maps: AttentionMaps | None = None,
    name: str = "",
) -> torch.Tensor:
    """`attend` with heads and output projection of PyTorch's module, (n, q, D)."""
    attended = attend(queries, kv, attn.num_heads, maps=maps, name=name)
    return linear(attended, attn.out_proj.weight, attn.out_proj.bias)


def _causal_mask(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """(queries, keys), True where a token attends to itself or an earlier one."""
    return torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
