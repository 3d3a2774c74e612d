"""Map a function over items in worker processes that may hang, crash or run out of memory.

Decoders are C libraries: some files make them loop or crash. A `concurrent.futures` pool breaks when a
worker dies and cannot stop one that hangs. Here a few long-lived processes each receive items through a
pipe; one that exceeds its time limit or dies is replaced, and only the item it worked on is lost. An item
whose process died is tried once more in another: a person, or the system when memory is short, may have
killed the first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Generic, Literal, TypeVar

from vidprompt.data.workers.worker import Worker

Item = TypeVar("Item")
Value = TypeVar("Value")
Progress = Callable[[int, int], None]  # (done, total)
Loss = Literal["timed_out", "crashed", "out_of_memory"]

_MAX_ATTEMPTS = 2  # at an item whose process dies
_MAX_FAILED_STARTS = 3  # processes in a row that die before they are ready


@dataclass(frozen=True)
class TaskResult(Generic[Value]):
    """The result of one item.

    `value` is the last value the function yielded, kept when it fails later. `failure` is None when the
    function ran to its end; else `detail` is a sentence about the failure. `killed`: the process was
    killed from outside, so another run may succeed.
    """

    value: Value | None
    failure: Literal["raised"] | Loss | None = None
    detail: str = ""
    killed: bool = False


def isolated_map(
    function: Callable[[Item], Iterator[Value]],
    items: Sequence[Item],
    workers: int,
    timeout_s: float,
    ahead: int = 64,
    memory_mb: int | None = None,
) -> Generator[TaskResult[Value], None, None]:
    """Run a generator function on every item in worker processes; results in the items' order.

    At most `ahead` items are started beyond the first without a result. The arguments are those of
    `isolated_map_unordered`.
    """
    waiting: dict[int, TaskResult[Value]] = {}
    next_index = 0
    results = isolated_map_unordered(function, items, workers, timeout_s, ahead, memory_mb)
    with closing(results):
        for index, result in results:
            waiting[index] = result
            while next_index in waiting:
                yield waiting.pop(next_index)
                next_index += 1


def isolated_map_unordered(
    function: Callable[[Item], Iterator[Value]],
    items: Sequence[Item],
    workers: int,
    timeout_s: float,
    ahead: int = 64,
    memory_mb: int | None = None,
) -> Generator[tuple[int, TaskResult[Value]], None, None]:
    """Run a generator function on every item in worker processes; (index, result) as each ends.

    `function` and the items must be picklable (processes are spawned, not forked). The function yields
    improving values; the last one is the result. `timeout_s`: seconds for one item, without the start of
    the process. `memory_mb`: megabytes a process may take beyond what it has when it starts (Linux).
    Items are started in order, at most `ahead` beyond the first without a result. Raises RuntimeError
    when workers cannot start.
    """
    pool = _Pool(function, min(max(1, workers), len(items)), timeout_s, memory_mb)
    new = deque(_Task(index, item) for index, item in enumerate(items))
    try:
        while new or pool.tasks:
            first = min((task.index for task in pool.tasks), default=len(items))
            pool.start_workers(len(new))
            while new and new[0].index < first + ahead and pool.assign(new[0]):
                first = min(first, new.popleft().index)
            yield from pool.collect()
    finally:
        pool.close()


@dataclass(eq=False)
class _Task:
    """One item, how often it was tried, and the latest value it yielded."""

    index: int
    item: Any
    attempts: int = 0
    value: Any = None


class _Pool:
    """Up to `size` processes, each replaced when it is lost.

    `tasks` are those started and not ended; `_retries` those of them that wait for another try.
    """

    def __init__(
        self,
        function: Callable[[Any], Iterator[Any]],
        size: int,
        timeout_s: float,
        memory_mb: int | None,
    ) -> None:
        self._function, self._size = function, size
        self._timeout_s, self._memory_mb = timeout_s, memory_mb
        self._workers: list[Worker] = []
        self._running: dict[Worker, _Task] = {}
        self._retries: deque[_Task] = deque()
        self._failed_starts = 0

    @property
    def tasks(self) -> list[_Task]:
        return [*self._running.values(), *self._retries]

    def start_workers(self, waiting: int) -> None:
        """Start processes until there is one for every started task and `waiting` more, or `size`."""
        wanted = min(self._size, len(self.tasks) + waiting)
        while len(self._workers) < wanted:
            self._workers.append(Worker(self._function, self._memory_mb))
        while self._retries and self.assign(self._retries[0], retry=True):
            self._retries.popleft()

    def assign(self, task: _Task, retry: bool = False) -> bool:
        """Send the task to an idle process; False when there is none. Retries go first."""
        if self._retries and not retry:
            return False
        for worker in [w for w in self._workers if w.ready and w not in self._running]:
            if worker.send(task.item, self._timeout_s):
                task.attempts += 1
                self._running[worker] = task
                return True
            self._workers.remove(worker)  # it died while it was idle
            worker.end()
        return False

    def collect(self) -> list[tuple[int, TaskResult[Any]]]:
        """Wait for a message of any process, or for the nearest time limit; results of ended tasks."""
        active = {w.pipe: w for w in self._workers if w in self._running or not w.ready}
        if not active:
            return []
        left = min(worker.deadline for worker in active.values()) - time.monotonic()
        readable = wait(list(active), timeout=max(0.0, left))
        heard = [worker for pipe, worker in active.items() if pipe in readable]
        results = [self._receive(worker) for worker in heard]
        now = time.monotonic()
        late = [w for w in active.values() if w not in heard and w.deadline <= now]
        results += [self._lose(worker, "timed_out") for worker in late]
        return [result for result in results if result is not None]

    def _receive(self, worker: Worker) -> tuple[int, TaskResult[Any]] | None:
        """Handle one message of a process; the result if it ends a task."""
        message = worker.receive()
        if message is None:
            return self._lose(worker, "crashed")
        kind, content = message
        if kind == "ready":
            self._failed_starts = 0
            return None
        if kind == "out_of_memory":
            return self._lose(worker, "out_of_memory")
        task = self._running[worker]
        if kind == "value":
            task.value = content
            return None
        del self._running[worker]
        if kind == "raised":
            return task.index, TaskResult(task.value, "raised", content)
        return task.index, TaskResult(task.value)

    def _lose(self, worker: Worker, loss: Loss) -> tuple[int, TaskResult[Any]] | None:
        """End a process: its task is tried again, or ends with the reason."""
        self._workers.remove(worker)
        ending = worker.end()
        task = self._running.pop(worker, None)
        if task is None:
            self._failed_starts += 1
            if self._failed_starts >= _MAX_FAILED_STARTS:
                raise RuntimeError(f"a worker process did not start ({loss}, {ending.reason})")
            return None
        # a process that did other tasks before may have had little memory left for this one
        retry = loss == "crashed" or (loss == "out_of_memory" and worker.sent > 1)
        if retry and task.attempts < _MAX_ATTEMPTS:
            self._retries.append(task)
            return None
        if loss == "timed_out":
            detail = f"It was not done after {self._timeout_s:g} s."
        elif loss == "out_of_memory":
            limit = f" (the limit is {self._memory_mb:,} MB)" if self._memory_mb else ""
            detail = f"It wanted more memory than it could have{limit}."
        else:
            detail = f"The process that worked on it died, twice ({ending.reason})."
        killed = loss == "crashed" and ending.killed
        return task.index, TaskResult(task.value, loss, detail, killed)

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()  # all, before the first is waited for
        for worker in self._workers:
            worker.end()
