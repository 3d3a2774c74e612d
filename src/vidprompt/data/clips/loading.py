"""Load batches in worker processes, which end with the loop over the batches, however it ends."""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from vidprompt.data.clips.shared_batches import Collate, SharedBatches, stack
from vidprompt.system.errors import UserError
from vidprompt.system.machine_errors import SHARED_MEMORY, free_shared_memory
from vidprompt.system.workers import Workers, deferred_signals, end_with_parent

logger = logging.getLogger(__name__)

_AHEAD = 2  # batches that a worker loads ahead


def load_batches(
    clips: Dataset[Any],
    plan: Iterable[Sequence[Any]],
    workers: int,
    *,
    collate: Collate,
    pin_memory: bool,
    batch_bytes: int,
    in_use: int = 1,
) -> Generator[Any, None, None]:
    """The batches of `plan` in order.

    `workers`: loading processes (0: this one loads). They pass batches of at most `batch_bytes` through
    shared memory, which is used again: the caller may use the last `in_use` batches, older ones change. Where
    /dev/shm is too small for that they pass through pipes. Raises DataError or UserError as the clips do,
    RuntimeError when a worker dies.
    """
    collate_fn: Callable[[Any], Any] = partial(_collate_here, collate)
    kept = _AHEAD + math.ceil(in_use / max(1, workers))  # batches of a worker: they take turns
    pipes = workers > 0 and not _fits_shared_memory(workers * kept * batch_bytes)
    if pipes:
        collate_fn = partial(_collate_arrays, collate)
    elif workers:
        collate_fn = SharedBatches(collate, batches=kept, batch_bytes=batch_bytes)
    loader = DataLoader(
        clips,
        batch_sampler=plan,  # type: ignore[arg-type]
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_start_worker,
        pin_memory=pin_memory,
        prefetch_factor=_AHEAD if workers else None,
        collate_fn=collate_fn,
    )
    if not workers:
        yield from loader
        return
    with Workers() as own:
        try:
            with deferred_signals():  # a worker that starts inherits it: see _start_worker
                iterator: Any = iter(loader)
            # in order first: PyTorch has threads and queues to end, too, but would wait for a hanging worker
            own.before_kill = iterator._shutdown_workers
            for batch in iterator:
                yield _as_tensors(batch) if pipes else batch
        except UserError as error:  # of a worker: its message follows its traceback
            raise _without_traceback(error) from error


def _start_worker(_worker: int) -> None:
    """Let the process that started this worker end it: signals often go to a whole process group."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()


def _fits_shared_memory(wanted: int) -> bool:
    """Is there room for so many bytes of each process of this machine?"""
    free = free_shared_memory()
    wanted *= int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    if free is None or wanted <= 0.9 * free:
        return True
    logger.info(
        f"{SHARED_MEMORY} has {free / 1e6:,.1f} MB free and the workers may need {wanted / 1e6:,.1f} MB: "
        "batches pass through pipes, which takes longer (in Docker, --shm-size=1g or more avoids it)"
    )
    return False


def _collate_here(collate: Collate, items: Any) -> Any:
    return collate(items, stack)


def _collate_arrays(collate: Collate, items: Any) -> Any:
    """A batch without tensors, which PyTorch would put into shared memory."""
    return _convert(_collate_here(collate, items), torch.Tensor, lambda tensor: tensor.numpy())


def _as_tensors(batch: Any) -> Any:
    return _convert(batch, np.ndarray, torch.from_numpy)


def _convert(batch: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """The function's values of a batch's members of a type, in lists and tuples too."""
    if isinstance(batch, kind):
        return function(batch)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_convert(one, kind, function) for one in batch))
    if type(batch) in (list, tuple):
        return type(batch)(_convert(one, kind, function) for one in batch)
    return batch


def _without_traceback(error: UserError) -> UserError:
    """The error of a worker with its own message alone."""
    kind, text = type(error), str(error).strip()
    if not text.startswith(f"Caught {kind.__name__} "):
        return error
    return kind(text.rpartition(f"{kind.__name__}: ")[2])
