"""Put batches of a loading process into shared memory that it uses again and again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

Stack = Callable[[Sequence[torch.Tensor]], torch.Tensor]  # as `stack`, into the loader's memory
Collate = Callable[[Sequence[Any], Stack], Any]  # the items of a batch → the batch


def stack(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Put tensors together along a new first dimension, in memory of their own."""
    return torch.stack(list(tensors))


class SharedBatches:
    """A DataLoader's `collate_fn` that has memory for a few batches and uses it in turn.

    New shared memory for every batch costs a page fault for each 4 KB, a fifth of the time that a clip takes
    with crops alone. A batch keeps its values until its process has made `batches` - 1 more. What does not
    fit into `batch_bytes` gets memory of its own. Made in the main process; a loading process takes memory
    when it makes its batches.
    """

    def __init__(self, collate: Collate, *, batches: int, batch_bytes: int) -> None:
        self.collate, self.batches, self.batch_bytes = collate, batches, batch_bytes
        self._memory: list[torch.Tensor] = []
        self._made = 0
        self._used = 0  # bytes of the batch that is being made

    def __call__(self, items: Sequence[Any]) -> Any:
        if len(self._memory) < self.batches:
            self._memory.append(torch.empty(self.batch_bytes, dtype=torch.uint8).share_memory_())
        self._used = 0
        batch = self.collate(items, self._stack)
        self._made += 1
        return batch

    def _stack(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        first = tensors[0]
        shape = (len(tensors), *first.shape)
        width = first.element_size()
        start = math.ceil(self._used / width) * width
        end = start + math.prod(shape) * width
        if end > self.batch_bytes:
            return stack(tensors)
        self._used = end
        memory = self._memory[self._made % self.batches][start:end]
        return torch.stack(list(tensors), out=memory.view(first.dtype).view(shape))
