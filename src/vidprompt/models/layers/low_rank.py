"""LoRA (Hu et al., arXiv 2106.09685): a frozen weight plus a trained product of two small matrices.

The towers' forward passes read weights and do not call the libraries' layers, so layers that are replaced (as
peft does) would go unseen. PyTorch's parametrisation is of the weight itself: whoever reads it gets the sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from vidprompt.models.layers.frozen_weights import autocast_dtype

FACTORS = ("lora_A", "lora_B")  # names of the matrices; the second starts at zero


class LowRank(nn.Module):
    """weight + scale · B·A for a weight (out, in); B (out, rank) starts at zero: the identity.

    Args:
        parts: how many matrices the weight joins along `out`, each with a product of its own.
        dropout: rate of what A is multiplied with, drawn for each part (CLIP-LoRA, arXiv 2405.18541). In
            training the weight then stays as it is: who projects with it adds `product` of the inputs.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        rank: int,
        scale: float,
        *,
        parts: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        height, width = weight.shape
        self.scale, self.parts, self.dropout = scale, parts, dropout
        self.lora_A = nn.Parameter(weight.new_empty(parts * rank, width))
        self.lora_B = nn.Parameter(weight.new_zeros(height, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    @property
    def drops(self) -> bool:
        """True while inputs are dropped."""
        return self.training and self.dropout > 0

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        if self.drops:
            return weight
        if autocast_dtype(weight.device) is None:
            return self._sum(weight)
        with torch.autocast(weight.device.type, enabled=False):  # the sum is cast, not its parts
            return self._sum(weight)

    def _sum(self, weight: torch.Tensor) -> torch.Tensor:
        if self.parts == 1:
            return weight + self.scale * (self.lora_B @ self.lora_A)
        products = torch.bmm(*self._factors())
        return weight + self.scale * products.flatten(0, 1)

    def _factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """B (parts, out / parts, rank) and A (parts, rank, in)."""
        return self.lora_B.unflatten(0, (self.parts, -1)), self.lora_A.unflatten(
            0, (self.parts, -1)
        )

    def product(self, x: torch.Tensor, parts: slice = slice(None)) -> torch.Tensor:
        """scale · B·A·dropout(x) of some parts: inputs (…, in) → (…, outputs of the parts)."""
        pairs = zip(*(factor[parts] for factor in self._factors()), strict=True)
        rate, drops = self.dropout, self.drops
        outputs = [F.linear(F.linear(F.dropout(x, rate, drops), a), b) for b, a in pairs]
        return self.scale * torch.cat(outputs, -1)


def add_low_rank(module: nn.Module, rank: int, scale: float) -> None:
    """Add a LowRank to every matrix in a module, in place."""
    for layer in list(module.modules()):
        matrices = [n for n, p in layer.named_parameters(recurse=False) if p.ndim == 2]
        for name in matrices:
            low_rank = LowRank(getattr(layer, name).detach(), rank, scale)
            parametrize.register_parametrization(layer, name, low_rank)


def add_low_rank_to(
    layer: nn.Module, name: str, rank: int, scale: float, *, parts: int, dropout: float
) -> None:
    """Add a LowRank to one matrix, in place."""
    weight = getattr(layer, name).detach()
    low_rank = LowRank(weight, rank, scale, parts=parts, dropout=dropout)
    parametrize.register_parametrization(layer, name, low_rank)


def dropped_low_rank(layer: nn.Module, name: str) -> LowRank | None:
    """The LowRank of a weight while it drops inputs, so that its product is to be added; else None."""
    if not parametrize.is_parametrized(layer, name):
        return None
    lists: Any = layer.parametrizations
    low_rank = lists[name][0]
    return low_rank if isinstance(low_rank, LowRank) and low_rank.drops else None


def low_rank_modules(module: nn.Module) -> Iterator[LowRank]:
    """All LowRanks in a module."""
    return (one for one in module.modules() if isinstance(one, LowRank))


def has_low_rank(module: nn.Module) -> bool:
    """True if a weight in a module has a LowRank."""
    return any(True for _ in low_rank_modules(module))


def merge_low_rank(module: nn.Module) -> None:
    """Make plain weights of the sums, in place; what is computed without dropout stays the same."""
    for low_rank in low_rank_modules(module):
        low_rank.eval()
    for layer in list(module.modules()):
        if parametrize.is_parametrized(layer):
            lists: Any = layer.parametrizations
            for name, added in list(lists.items()):
                if has_low_rank(added):
                    parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
