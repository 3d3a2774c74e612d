"""Stochastic depth (Huang et al., 2016): a residual branch dropped for whole samples."""

from __future__ import annotations

import torch


def drop_path(x: torch.Tensor, rate: float) -> torch.Tensor:
    """Zero the branch of a row (dimension 0) with probability `rate`, and scale the others up."""
    if rate == 0.0:
        return x
    keep = 1 - rate
    shape = (x.shape[0], *(1,) * (x.ndim - 1))
    return x * (torch.rand(shape, device=x.device) < keep).to(x.dtype) / keep
