"""Stochastic depth (Huang et al., 2016): a residual branch dropped for whole samples."""

from __future__ import annotations

from typing import Any

import torch


def drop_path(x: torch.Tensor, rate: float) -> torch.Tensor:
    """Zero the branch of a row (dimension 0) with probability `rate`, and scale the others up."""
    if rate == 0.0:
        return x
    shape = (x.shape[0], *(1,) * (x.ndim - 1))
    factor = (torch.rand(shape, device=x.device) < 1 - rate).to(x.dtype) / (1 - rate)
    out: torch.Tensor = _Scale.apply(x, factor)
    return out


class _Scale(torch.autograd.Function):
    """x · factor, where the backward pass needs nothing that a recomputation would have to make.

    `torch.utils.checkpoint` computes a layer again up to the last tensor that was saved in it. A plain
    product behind the MLP saves its factor there, and so pays for the MLP's last, wide product again.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        ctx.factor = factor  # a number a row: kept from the first pass, on purpose not `saved`
        return x * factor

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad * ctx.factor, None
