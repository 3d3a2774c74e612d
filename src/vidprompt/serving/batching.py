"""Micro-batches: what comes within a few milliseconds is computed together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


class Batcher(Generic[Item, Value]):
    """Collects items and calls `function` on lists of them, in `executor`, one list at a time.

    A list has up to `size` items; its first one waits at most `wait_s` for others, and all that come while a
    list is computed form the next one. Where a list fails, its items are tried one by one: none fails for
    another. `on_batch` is called with each list's length.
    """

    def __init__(
        self,
        function: Callable[[Sequence[Item]], Sequence[Value]],
        size: int,
        wait_s: float,
        executor: Executor,
        on_batch: Callable[[int], None] = lambda _size: None,
    ) -> None:
        self._function, self._size, self._wait_s = function, size, wait_s
        self._executor, self._on_batch = executor, on_batch
        self._queue: asyncio.Queue[tuple[Item, asyncio.Future[Value]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Items that no list has taken yet."""
        return self._queue.qsize()

    def start(self) -> None:
        """Start to collect, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def __call__(self, item: Item) -> Value:
        """The value of an item. Raises what `function` raises for it."""
        future: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((item, future))
        return await future

    async def close(self) -> None:
        """Stop to collect; items without a value are cancelled."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        while not self._queue.empty():
            self._queue.get_nowait()[1].cancel()

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            if self._queue.qsize() < self._size - 1 and self._wait_s:
                await asyncio.sleep(self._wait_s)
            while len(batch) < self._size and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            batch = [(item, future) for item, future in batch if not future.done()]
            if batch:
                await self._compute(batch)

    async def _compute(self, batch: list[tuple[Item, asyncio.Future[Value]]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._on_batch(len(batch))
            items = [item for item, _ in batch]
            values = await loop.run_in_executor(self._executor, self._function, items)
            results = zip(batch, values, strict=True)
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:
            if len(batch) > 1:
                for one in batch:
                    await self._compute([one])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        for (_, future), value in results:
            if not future.done():  # its request has ended
                future.set_result(value)
