"""Stochastic depth (Huang et al., 2016): drop residual branches at random, and divide the others by 1 - rate.

The released EZ-CLIP drops along the first dimension of length-first tensors: a position in the sequence of
tokens, for all frames and videos (or texts) of a batch. The usual rule drops a branch for a whole sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

AXES = ("token", "sample")


class LayerDraws(NamedTuple):
    """What is drawn at random for one layer in training; None = nothing is dropped.

    Each factor is 0 where a branch is dropped and 1 / (1 - rate) elsewhere. Per token position its shape is
    (1, length, 1), per sample (n, 1, 1).
    """

    rate: float = 0.0  # of attention dropout
    attention: torch.Tensor | None = None  # factors of the attention's output (n, length, D)
    mlp: torch.Tensor | None = None  # of the MLP's output (n, length, D)
    time: torch.Tensor | None = None  # of the attention across frames (B, T, D)
    prompt: torch.Tensor | None = None  # dropout of the temporal prompts (T, D)

    def of_texts(self, rows: torch.Tensor, n: int, positions: int) -> LayerDraws:
        """The draws of some of n texts, with factors (len(rows), positions, 1).

        Factors that are alike for all texts stay (1, positions, 1).
        """
        attention, mlp = (
            factor if factor is None or len(factor) == 1 else factor.expand(n, positions, 1)[rows]
            for factor in (self.attention, self.mlp)
        )
        return LayerDraws(self.rate, attention, mlp)


def keep_factors(
    rates: Sequence[float], shape: Sequence[int], device: torch.device, generator: Any = None
) -> list[torch.Tensor | None]:
    """Factors of `shape` for each rate: 0 with probability `rate`, otherwise 1 / (1 - rate).

    None for a rate of zero. `generator` (None: torch's default) is of the same device.
    """
    if not any(rates):
        return [None] * len(rates)
    drawn = torch.rand((len(rates), *shape), device=device, generator=generator)
    return [
        (one < 1 - rate).to(torch.float32) / (1 - rate) if rate else None
        for one, rate in zip(drawn, rates, strict=True)
    ]


def scale_branch(x: torch.Tensor, factor: torch.Tensor | None) -> torch.Tensor:
    """x · factor, where `factor` broadcasts to x; x itself where it is None."""
    if factor is None:
        return x
    if torch.compiler.is_compiling():
        return x * factor.to(x.dtype)
    out: torch.Tensor = _Scale.apply(x, factor.to(x.dtype))
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
