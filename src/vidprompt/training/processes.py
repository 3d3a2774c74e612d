"""Several processes as one: the loss is the whole batch's, and so is the gradient.

What is trained is a few million numbers, so one sum over the processes a step carries all gradients;
torch's DistributedDataParallel would hook into every parameter to overlap that with the backward
pass, and would allow one forward a step only (micro-batches take two).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn

from vidprompt.system.errors import UserError


class _Gather(torch.autograd.Function):
    """All processes' rows, in their order; the gradient of each row goes back to where it is from."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, rows.contiguous())
        ctx.count = len(rows)
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        # every process has the whole loss: the sum is `world` times the gradient, and `mean_gradients`
        # divides by that
        whole = gradients[0].contiguous()
        dist.all_reduce(whole)
        first = dist.get_rank() * ctx.count
        return whole[first : first + ctx.count]


class Processes:
    """This process among those that train together; one alone where nothing launched more."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.rank = int(accelerator.process_index)
        self.count = int(accelerator.num_processes)
        self.device = accelerator.device

    @property
    def main(self) -> bool:
        return self.rank == 0

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """(n, …) of this process → (processes · n, …) of all, in their order, with gradient."""
        if self.count == 1:
            return rows
        return _Gather.apply(rows)

    def share(self, size: int) -> slice:
        """Which of `size` samples this process takes. Raises UserError where shares differ."""
        if size % self.count:
            raise UserError(
                f"a batch of {size} cannot be shared evenly by {self.count} processes: choose a "
                "trainer.batch_size (or people × tracklets) that they divide"
            )
        each = size // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def mean_gradients(self, parameters: Sequence[nn.Parameter], stop: bool) -> bool:
        """Replace all gradients by their mean over the processes; does any of them want to stop?"""
        if self.count == 1:
            return stop
        parts = [
            (torch.zeros_like(p) if p.grad is None else p.grad).flatten().float()
            for p in parameters
        ]
        flag = torch.tensor([float(stop)], device=self.device)
        flat = torch.cat([*parts, flag])
        dist.all_reduce(flat)
        flat[:-1] /= self.count
        begin = 0
        for parameter in parameters:
            end = begin + parameter.numel()
            parameter.grad = flat[begin:end].view_as(parameter).to(parameter.dtype)
            begin = end
        return bool(flat[-1] > 0)

    def start_alike(self, parameters: Sequence[nn.Parameter]) -> None:
        """Every process begins with the first one's values."""
        if self.count > 1:
            for parameter in parameters:
                dist.broadcast(parameter.data, 0)

    def agree(self, value: Any, what: str) -> None:
        """Raises UserError in all processes where `value` differs among them."""
        if self.count == 1:
            return
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        other = [str(rank) for rank, one in enumerate(values) if one != values[0]]
        if other:
            raise UserError(
                f"processes do not have the same {what} (another in process {', '.join(other)} than in "
                "the first): every machine needs the same code, parameters, splits and frame cache"
            )

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            dist.barrier()
