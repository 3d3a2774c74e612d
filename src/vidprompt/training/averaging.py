"""What is kept of a training: the last values, their running mean, or a mix with the start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

Values = list[torch.Tensor]


class RunningMean:
    """Exponential moving average of parameters: mean ← decay · mean + (1 - decay) · value, each step.

    The decay grows with the steps as (1 + step) / (10 + step) up to its value, so that a short run is
    not mostly its start.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.values: Values = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self, parameters: Sequence[nn.Parameter], step: int) -> None:
        """After optimiser step number `step` (1 …)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, parameter in zip(self.values, parameters, strict=True):
            mean.lerp_(parameter.detach(), 1 - decay)


@torch.no_grad()
def mixed_with_start(
    values: Sequence[torch.Tensor], start: Sequence[torch.Tensor], share: float
) -> Values:
    """start + share · (values - start).

    WiSE-FT (Wortsman et al., CVPR 2022) mixes the weights of fine-tuned and zero-shot CLIP. Here CLIP is
    frozen and what is trained beside it stands, before training, for zero-shot CLIP: adapters start as
    the identity, prompts as almost nothing.
    """
    return [first + share * (last - first) for last, first in zip(values, start, strict=True)]


@contextmanager
def holding(parameters: Sequence[nn.Parameter], values: Sequence[torch.Tensor]) -> Iterator[None]:
    """Within, the parameters have these values."""
    own = [p.detach().clone() for p in parameters]
    _assign(parameters, values)
    try:
        yield
    finally:
        _assign(parameters, own)


@torch.no_grad()
def _assign(parameters: Sequence[nn.Parameter], values: Sequence[torch.Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
