"""Long-lived processes that work on the items of requests, which may hang, crash or run out of memory.

`data.workers.isolated` maps over items that are known beforehand; requests come one by one, from several
threads. The processes are the same: one that exceeds its time or dies is replaced and costs its item alone.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any, Generic, TypeVar

from vidprompt.data.workers.worker import Worker
from vidprompt.system.errors import DataError
from vidprompt.system.workers import deferred_signals

Item = TypeVar("Item")
Value = TypeVar("Value")

_MAX_FAILED_STARTS = 3  # processes in a row that die before they are ready
_MAX_ATTEMPTS = 2  # at an item whose process was killed from outside


class DecodingError(DataError):
    """An item that failed; `reason`: timed_out, crashed, out_of_memory, raised or stopped."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Killed(Exception):
    """The process was killed from outside before it gave a value: the item may be tried again."""


class DecoderPool(Generic[Item, Value]):
    """`size` processes that run a generator function on items, each item within a time limit.

    `function` and the items must be picklable. `memory_mb`: megabytes a process may take beyond what it has
    when it starts (Linux). `on_loss` is called with the reason for each process that is lost.
    """

    def __init__(
        self,
        function: Callable[[Item], Iterator[Value]],
        size: int,
        memory_mb: int | None,
        on_loss: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._function, self.size, self._memory_mb = function, size, memory_mb
        self._on_loss = on_loss
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._workers: set[Worker] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="decoder")

    def start(self) -> None:
        """Start the processes and wait until they are ready. Raises RuntimeError when they do not start."""
        for _ in range(self.size):
            self._idle.put(self._new_worker())
        workers = [self._ready_worker() for _ in range(self.size)]
        for worker in workers:
            self._idle.put(worker)

    async def run(self, item: Item, timeout_s: float) -> Value:
        """The last value that the function yields for an item. Raises DecodingError."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._last_value, item, timeout_s
        )

    def values(self, item: Item, timeout_s: float) -> Generator[Value, None, None]:
        """The values that the function yields for an item, as they come; blocks the calling thread.

        Close it where it is not read to its end. Raises DecodingError.
        """
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                yield from self._attempt(item, timeout_s)
                return
            except _Killed as error:
                if attempt == _MAX_ATTEMPTS or self._closed:
                    raise DecodingError(str(error), "crashed") from None

    def close(self) -> None:
        """End the processes; what runs fails."""
        with self._lock:
            self._closed = True
            workers, self._workers = list(self._workers), set()
        for worker in workers:
            worker.kill()  # all, before the first is waited for
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in workers:
            worker.end()

    def _last_value(self, item: Item, timeout_s: float) -> Value:
        with closing(self.values(item, timeout_s)) as values:
            (result,) = deque(values, maxlen=1)
        return result

    def _attempt(self, item: Item, timeout_s: float) -> Generator[Value, None, None]:
        worker = self._send(item, timeout_s)
        given = ended = False
        reason = "abandoned"
        try:
            while (message := _next_message(worker)) is not None:
                kind, content = message
                if kind == "value":
                    given = True
                    yield content
                    continue
                ended = kind in ("end", "raised")
                if kind == "end":
                    return
                reason = kind
                if kind == "out_of_memory":
                    content = (
                        f"it takes more memory than a request may have ({self._memory_mb:,} MB)"
                    )
                raise DecodingError(content, kind)
            reason, ending = "crashed", worker.end()
            sentence = f"the process that decoded it died ({ending.reason})"
            raise (
                _Killed(sentence)
                if ending.killed and not given
                else DecodingError(sentence, reason)
            )
        except TimeoutError:
            reason = "timed_out"
            raise DecodingError(f"it was not decoded within {timeout_s:g} s", reason) from None
        finally:
            if ended:
                self._idle.put(worker)
            else:  # it is still at work, or dead
                self._replace(worker, reason)

    def _send(self, item: Item, timeout_s: float) -> Worker:
        """Send an item to an idle process; waits for one."""
        while True:
            worker = self._ready_worker()
            if worker.send(item, timeout_s):
                return worker
            self._replace(worker, "crashed")  # it died while it was idle

    def _ready_worker(self) -> Worker:
        """An idle process that is ready; waits for one. Raises RuntimeError when none starts."""
        for _ in range(_MAX_FAILED_STARTS):
            worker = self._next_idle()
            with suppress(TimeoutError):
                if worker.ready or _next_message(worker) is not None:
                    return worker
            self._replace(worker, "not_started")
        raise RuntimeError("the decoding processes do not start")

    def _next_idle(self) -> Worker:
        while not self._closed:
            with suppress(queue.Empty):
                return self._idle.get(timeout=0.5)
        raise DecodingError("the server is stopping", "stopped")

    def _new_worker(self) -> Worker:
        """A process that a signal to the whole group does not end: the server decides when."""
        with self._lock:
            if self._closed:
                raise DecodingError("the server is stopping", "stopped")
            with deferred_signals():
                worker = Worker(self._function, self._memory_mb)
            self._workers.add(worker)
            return worker

    def _replace(self, worker: Worker, reason: str) -> None:
        """End a process and start another one in its place."""
        with self._lock:
            self._workers.discard(worker)
        worker.end()
        if not self._closed:
            self._on_loss(reason)
            self._idle.put(self._new_worker())


def _next_message(worker: Worker) -> tuple[str, Any] | None:
    """The next message; None when the process has died. Raises TimeoutError after its deadline."""
    if not worker.pipe.poll(max(0.0, worker.deadline - time.monotonic())):
        raise TimeoutError
    return worker.receive()
