"""The most bytes that tensors hold at once during a call, on any device."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int:
    """Bytes of the tensors that a call on this device makes, at their most.

    On a GPU the allocator's own figure. Elsewhere the storages that operations return are counted for as long
    as they live; what an operation allocates and frees within itself is not seen.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return int(torch.cuda.max_memory_allocated() - before)
    with _LiveStorages() as live:
        call()
    return live.peak


class _LiveStorages(TorchDispatchMode):
    """Counts the bytes of storages from the operation that returns them until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        for storage in _storages((args, kwargs)):
            self._add(storage, 0)  # was there before
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            self._add(storage, storage.nbytes())
        self.peak = max(self.peak, self.bytes)
        return out

    def _add(self, storage: torch.UntypedStorage, size: int) -> None:
        key = id(storage)  # PyTorch keeps the object for as long as the storage lives
        if key not in self._known:
            self._known.add(key)
            self.bytes += size
            weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [one.untyped_storage() for one in tree_leaves(tree) if isinstance(one, torch.Tensor)]
