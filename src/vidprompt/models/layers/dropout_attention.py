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
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rate: float
) -> torch.Tensor:
    """dropout(softmax(q·kᵀ / √d)) · v for q (n, heads, q, d), k and v (n, heads, k, d)."""
    seed = int(torch.randint(2**62, ()).item())
    out: torch.Tensor = _DropoutAttention.apply(q, k, v, rate, seed)
    return out


class _DropoutAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rate: float, seed: int
    ) -> torch.Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.rate, ctx.seed = rate, seed
        out = q.new_empty(q.shape)
        for rows, weights, mask in _blocks(q, k, rate, seed):
            torch.matmul(weights.mul_(mask), v[rows], out=out[rows])
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        dq, dk, dv = q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)
        scale = q.shape[-1] ** -0.5
        for rows, weights, mask in _blocks(q, k, ctx.rate, ctx.seed):
            g = grad[rows]
            torch.matmul((weights * mask).transpose(-1, -2), g, out=dv[rows])
            d = torch.matmul(g, v[rows].transpose(-1, -2)).mul_(mask)  # gradient of the weights
            d.sub_((d * weights).sum(-1, keepdim=True)).mul_(weights).mul_(scale)  # of the scores
            torch.matmul(d, k[rows], out=dq[rows])
            torch.matmul(d.transpose(-1, -2), q[rows], out=dk[rows])
        return dq, dk, dv, None, None


def _blocks(
    q: torch.Tensor, k: torch.Tensor, rate: float, seed: int
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Rows, their softmax weights, and the dropout mask: 1 / (1 - rate) or 0."""
    generator = torch.Generator().manual_seed(seed)
    row = q.shape[1] * q.shape[2] * k.shape[2] * q.element_size()
    step = max(1, BLOCK_BYTES // row)
    scale = q.shape[-1] ** -0.5
    for start in range(0, len(q), step):
        rows = slice(start, start + step)
        weights = torch.matmul(q[rows] * scale, k[rows].transpose(-1, -2))
        weights = torch.softmax(weights, -1)
        mask = torch.empty_like(weights).bernoulli_(1 - rate, generator=generator)
        yield rows, weights, mask.div_(1 - rate)
