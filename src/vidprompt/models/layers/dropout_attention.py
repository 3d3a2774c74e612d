"""Attention with dropout on a CPU, in blocks of rows that are recomputed in the backward pass.

PyTorch has no fused CPU kernel for this case: its own path keeps three (n, heads, q, k) matrices for the
backward pass. Here they exist for a few rows at a time and are recomputed from the same seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

BLOCK_BYTES = 4 << 20  # size of one attention matrix of a block


def dropout_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rate: float, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """dropout(softmax(q·kᵀ / √d)) · v for q (n, heads, q, d), k and v (n, heads, k, d).

    `mask` is boolean, True = may be attended to; it broadcasts to (n, heads, q, k).
    """
    seed = int(torch.randint(2**62, ()).item())
    if mask is not None:
        mask = mask.expand(len(q), -1, -1, -1) if mask.ndim == 4 else mask.expand(len(q), 1, -1, -1)
    out: torch.Tensor = _DropoutAttention.apply(q, k, v, mask, rate, seed)
    return out


class _DropoutAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        mask: torch.Tensor | None,
        rate: float,
        seed: int,
    ) -> torch.Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.mask, ctx.rate, ctx.seed = mask, rate, seed
        out = q.new_empty(q.shape)
        for rows, weights, kept in _blocks(q, k, mask, rate, seed):
            torch.matmul(weights.mul_(kept), v[rows], out=out[rows])
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        dq, dk, dv = q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)
        scale = q.shape[-1] ** -0.5
        for rows, weights, kept in _blocks(q, k, ctx.mask, ctx.rate, ctx.seed):
            g = grad[rows]
            torch.matmul((weights * kept).transpose(-1, -2), g, out=dv[rows])
            d = torch.matmul(g, v[rows].transpose(-1, -2)).mul_(kept)  # gradient of the weights
            d.sub_((d * weights).sum(-1, keepdim=True)).mul_(weights).mul_(scale)  # of the scores
            torch.matmul(d, k[rows], out=dq[rows])
            torch.matmul(d.transpose(-1, -2), q[rows], out=dk[rows])
        return dq, dk, dv, None, None, None


def _blocks(
    q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None, rate: float, seed: int
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Rows, their softmax weights, and the factors of dropout: 1 / (1 - rate) or 0."""
    generator = torch.Generator().manual_seed(seed)
    row = q.shape[1] * q.shape[2] * k.shape[2] * q.element_size()
    step = max(1, BLOCK_BYTES // row)
    scale = q.shape[-1] ** -0.5
    for start in range(0, len(q), step):
        rows = slice(start, start + step)
        weights = torch.matmul(q[rows] * scale, k[rows].transpose(-1, -2))
        if mask is not None:
            weights.masked_fill_(~mask[rows], float("-inf"))
        weights = torch.softmax(weights, -1)
        kept = torch.empty_like(weights).bernoulli_(1 - rate, generator=generator)
        yield rows, weights, kept.div_(1 - rate)
