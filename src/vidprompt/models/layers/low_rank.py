"""LoRA (Hu et al., arXiv 2106.09685): a frozen weight plus a trained product of two small matrices.

The towers' forward passes read weights and do not call the libraries' layers, so layers that are replaced (as
peft does) would go unseen. PyTorch's parametrisation is of the weight itself: whoever reads it gets the sum.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from vidprompt.models.layers.frozen_weights import autocast_dtype

FACTORS = ("lora_A", "lora_B")  # names of the matrices; the second starts at zero


class LowRank(nn.Module):
    """weight + alpha / rank · B·A for a weight (out, in); B (out, rank) starts at zero: the identity."""

    def __init__(self, weight: torch.Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        height, width = weight.shape
        self.scale = alpha / rank
        self.lora_A = nn.Parameter(weight.new_empty(rank, width))
        self.lora_B = nn.Parameter(weight.new_zeros(height, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        if autocast_dtype(weight.device) is None:
            return self._sum(weight)
        with torch.autocast(weight.device.type, enabled=False):  # the sum is cast, not its parts
            return self._sum(weight)

    def _sum(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.scale * (self.lora_B @ self.lora_A)


def add_low_rank(module: nn.Module, rank: int, alpha: float) -> None:
    """Add a LowRank to every matrix in a module, in place."""
    for layer in list(module.modules()):
        matrices = [n for n, p in layer.named_parameters(recurse=False) if p.ndim == 2]
        for name in matrices:
            low_rank = LowRank(getattr(layer, name).detach(), rank, alpha)
            parametrize.register_parametrization(layer, name, low_rank)


def has_low_rank(module: nn.Module) -> bool:
    """True if a weight in a module has a LowRank."""
    return any(isinstance(one, LowRank) for one in module.modules())


def merge_low_rank(module: nn.Module) -> None:
    """Make plain weights of the sums, in place; what is computed stays the same."""
    for layer in list(module.modules()):
        if parametrize.is_parametrized(layer):
            lists: Any = layer.parametrizations
            for name, added in list(lists.items()):
                if has_low_rank(added):
                    parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
