"""Stochastic depth (Huang et al., 2016): drop a residual branch for whole samples."""

from __future__ import annotations

from typing import Any

import torch


def drop_path(x: torch.Tensor, rate: float) -> torch.Tensor:
    """Set a row (dimension 0) to zero with probability `rate`, and divide the others by 1 - rate."""
    if rate == 0.0:
        return x
    shape = (x.shape[0], *(1,) * (x.ndim - 1))
    factor = (torch.rand(shape, device=x.device) < 1 - rate).to(x.dtype) / (1 - rate)
    out: torch.Tensor = _Scale.apply(x, factor)
    return out


class _Scale(torch.autograd.Function):
    """x · factor, without a saved tensor.

    `torch.utils.checkpoint` recomputes a layer up to the last tensor that was saved in it. A plain product
    after the MLP would save its factor there, so the MLP's last, wide product would be recomputed.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        ctx.factor = factor  # one number a row; deliberately not `save_for_backward`
        return x * factor

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad * ctx.factor, None
