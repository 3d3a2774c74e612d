"""Averages of trained parameters: exponential moving average, and interpolation with the initial values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from vidprompt.models.layers.low_rank import FACTORS

Values = list[torch.Tensor]


class ExponentialMovingAverage:
    """Exponential moving average: mean ← decay · mean + (1 - decay) · value after each step.

    The decay grows as (1 + step) / (10 + step) up to its value, so that the mean of a short run is not
    mostly the initial values.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.values: Values = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self, parameters: Sequence[nn.Parameter], step: int) -> None:
        """Update after optimiser step number `step` (1 …)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, parameter in zip(self.values, parameters, strict=True):
            mean.lerp_(parameter.detach(), 1 - decay)


@torch.no_grad()
def wise_ft(
    values: Sequence[torch.Tensor], initial: Sequence[torch.Tensor | None], alpha: float
) -> Values:
    """initial + alpha · (values - initial); the value itself where `initial` is None.

    WiSE-FT (Wortsman et al., CVPR 2022) interpolates the weights of zero-shot and fine-tuned CLIP: here all
    that is trained. Where CLIP is frozen, the initial prompts and adapters stand for zero-shot CLIP: adapters
    start as the identity, prompts close to zero.
    """
    return [
        last if first is None else first + alpha * (last - first)
        for last, first in zip(values, initial, strict=True)
    ]


def wise_ft_start(named: Sequence[tuple[str, nn.Parameter]]) -> list[torch.Tensor | None]:
    """The present values of parameters, as the `initial` of `wise_ft`.

    LoRA adds a product of two factors to a weight. While the second is zero, mixing that one alone mixes
    the weights, and mixing both would not: the first has None.
    """
    values = {name: p.detach().clone() for name, p in named}
    first, second = FACTORS
    return [
        None
        if name.endswith(first) and not values[f"{name.removesuffix(first)}{second}"].any()
        else value
        for name, value in values.items()
    ]


@torch.no_grad()
def load_values(parameters: Sequence[nn.Parameter], values: Sequence[torch.Tensor]) -> None:
    """Copy the values into the parameters."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


@contextmanager
def temporary_values(
    parameters: Sequence[nn.Parameter], values: Sequence[torch.Tensor]
) -> Iterator[None]:
    """Context in which the parameters have these values; their own come back afterwards."""
    own = [p.detach().clone() for p in parameters]
    load_values(parameters, values)
    try:
        yield
    finally:
        load_values(parameters, own)
