"""Data-parallel training: gather features and average gradients over the processes.

The parameters of prompts and adapters are a few million numbers, so one all-reduce a step is enough, and a
few where the backbone is trained. Torch's DistributedDataParallel would hook into every parameter to overlap
that with the backward pass, and would allow only one forward pass a step (micro-batches take two).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn

from vidprompt.system.errors import UserError

AT_ONCE = 1 << 25  # gradients that are averaged by one call: 128 MiB


class _Gather(torch.autograd.Function):
    """all_gather with gradient: rows of all processes by rank; each gets the gradient of its own."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, rows.contiguous())
        ctx.count = len(rows)
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        # every process computes the whole loss, so the sum is world_size times the gradient;
        # `all_reduce_gradients` divides by that
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        first = dist.get_rank() * ctx.count
        return gradient[first : first + ctx.count]


def _in_groups(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Parameters in groups of about AT_ONCE numbers, which are copied together."""
    groups: list[list[nn.Parameter]] = [[]]
    size = 0
    for parameter in parameters:
        if size >= AT_ONCE:
            groups.append([])
            size = 0
        groups[-1].append(parameter)
        size += parameter.numel()
    return groups


class Processes:
    """Rank and collective operations of this process; without a launcher there is one process."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.rank = int(accelerator.process_index)
        self.world_size = int(accelerator.num_processes)
        self.device = accelerator.device

    @property
    def is_main(self) -> bool:
        """True in the first process, which writes files and messages."""
        return self.rank == 0

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (n, …) of this process → (world_size · n, …) of all, by rank, with gradient."""
        if self.world_size == 1:
            return rows
        return _Gather.apply(rows)

    def local_slice(self, size: int) -> slice:
        """This process's part of a batch of `size`. Raises UserError if it does not divide evenly."""
        if size % self.world_size:
            raise UserError(
                f"a batch of {size} cannot be shared evenly by {self.world_size} processes: choose a "
                "trainer.batch_size (or people × tracklets) that they divide"
            )
        local = size // self.world_size
        return slice(self.rank * local, (self.rank + 1) * local)

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter], stop: bool) -> bool:
        """Average the gradients over the processes; returns True if `stop` is True in any of them."""
        if self.world_size == 1:
            return stop
        flag = torch.tensor([float(stop)], device=self.device)
        for group in _in_groups(parameters):
            gradients = [
                (torch.zeros_like(p) if p.grad is None else p.grad).flatten().float() for p in group
            ]
            flat = torch.cat([*gradients, flag])
            dist.all_reduce(flat)
            flag = flat[-1:].clone()
            flat = flat[:-1] / self.world_size
            sizes = [parameter.numel() for parameter in group]
            for parameter, gradient in zip(group, flat.split(sizes), strict=True):
                parameter.grad = gradient.view_as(parameter).to(parameter.dtype)
        return bool(flag > 0)

    def broadcast_parameters(self, parameters: Sequence[nn.Parameter]) -> None:
        """Copy the first process's values into the parameters of all."""
        if self.world_size > 1:
            for parameter in parameters:
                dist.broadcast(parameter.data, 0)

    def assert_equal_across_ranks(self, value: Any, what: str) -> None:
        """Raise UserError in all processes if `value` is not the same in all; `what` names it."""
        if self.world_size == 1:
            return
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        different = [str(rank) for rank, other in enumerate(values) if other != values[0]]
        if different:
            raise UserError(
                f"processes do not have the same {what} (process {', '.join(different)} differs from the "
                "first): every machine needs the same code, parameters, splits and frame cache"
            )

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world_size > 1:
            dist.barrier()
