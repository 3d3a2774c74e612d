"""Stochastic depth (Huang et al., 2016): a residual branch dropped for whole samples."""

from __future__ import annotations

import torch
from torch import nn


class DropPath(nn.Module):
    """Zero the branch of a row (dimension 0) with probability `rate` in training, scale the rest."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1 - self.rate
        shape = (x.shape[0], *(1,) * (x.ndim - 1))
        return x * (torch.rand(shape, device=x.device) < keep).to(x.dtype) / keep
