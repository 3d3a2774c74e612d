"""Work that may hang or crash, each piece in a process that can be lost.

Decoders are C libraries fed with files from anywhere: one of them loops, another segfaults. A
`concurrent.futures` pool loses everything when a worker dies and cannot stop one that hangs. Here a
few long-lived processes are each fed through a pipe; one that passes its time limit or dies is
replaced, and only the piece it worked on is lost.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Generic, Literal, TypeVar

from vidprompt.errors import UserError

Item = TypeVar("Item")
Value = TypeVar("Value")
Progress = Callable[[int, int], None]  # (done, of how many)
Loss = Literal["timed_out", "crashed"]

_START_LIMIT_S = 180.0  # imports in a new process, on a busy machine


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """What came of one item.

    `value` is the last thing the function yielded, kept also when it failed later. `failure` is
    None when the function ran to its end; else `detail` says in words how it failed.
    """

    value: Value | None
    failure: Literal["raised"] | Loss | None = None
    detail: str = ""


def guarded_map(
    function: Callable[[Item], Iterator[Value]],
    items: Sequence[Item],
    workers: int,
    timeout_s: float,
    ahead: int = 64,
) -> Generator[Outcome[Value], None, None]:
    """Run a generator function on every item in worker processes; outcomes in the items' order.

    `function` and the items must be picklable (processes are spawned, not forked). It yields what
    it knows so far, better and better: the last yield is the value. `timeout_s` is per item, in
    seconds, and excludes the start of the process. At most `ahead` items are under way or done
    while an earlier one is awaited. RuntimeError when a worker cannot even start.
    """
    pool = _Pool(function, min(max(1, workers), len(items)), timeout_s)
    done: dict[int, Outcome[Value]] = {}
    taken = given = 0
    try:
        while given < len(items):
            last = min(len(items), given + ahead)
            while taken < last and pool.offer(taken, items[taken]):
                taken += 1
            for index, outcome in pool.collect(replace=taken < len(items)):
                done[index] = outcome
            while given in done:
                yield done.pop(given)
                given += 1
    finally:
        pool.close()


def _serve(pipe: Any, function: Callable[[Any], Iterator[Any]]) -> None:
    """A worker's life: say ready, then answer every item until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    pipe.send(("ready", None))
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        try:
            for value in function(item):
                pipe.send(("value", value))
            pipe.send(("end", None))
        except UserError as error:
            pipe.send(("raised", str(error)))
        except Exception as error:
            pipe.send(("raised", f"{type(error).__name__}: {error}"))


class _Worker:
    """One process and what it is doing. `index` is None while it has nothing to do."""

    def __init__(self, function: Callable[[Any], Iterator[Any]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self.process.start()
        theirs.close()  # so that its death reads as the end of the pipe
        self.ready = False
        self.index: int | None = None
        self.value: Any = None
        self.deadline = time.monotonic() + _START_LIMIT_S

    def end(self) -> str:
        """Kill the process if it lives; how it ended, in words."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        code = self.process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"


class _Pool:
    """`workers` processes, each replaced when it is lost."""

    def __init__(
        self, function: Callable[[Any], Iterator[Any]], workers: int, timeout_s: float
    ) -> None:
        self.function = function
        self.timeout_s = timeout_s
        self.workers = [_Worker(function) for _ in range(workers)]

    def offer(self, index: int, item: Any) -> bool:
        """Give the item to an idle worker; False when there is none."""
        for worker in self.workers:
            if worker.ready and worker.index is None:
                worker.index, worker.value = index, None
                worker.deadline = time.monotonic() + self.timeout_s
                with suppress(BrokenPipeError):  # died idle: `collect` reads the end of its pipe
                    worker.pipe.send(item)
                return True
        return False

    def collect(self, replace: bool) -> list[tuple[int, Outcome[Any]]]:
        """Wait for news of any worker, or for the nearest time limit; the items that ended.

        `replace`: start a new process for one that is lost, because items are still to come.
        """
        active: dict[Any, _Worker] = {
            w.pipe: w for w in self.workers if w.index is not None or not w.ready
        }
        if not active:
            return []
        left = min(worker.deadline for worker in active.values()) - time.monotonic()
        ended = []
        for pipe in wait(list(active), timeout=max(0.0, left)):
            outcome = self._receive(active.pop(pipe), replace)
            if outcome is not None:
                ended.append(outcome)
        now = time.monotonic()
        for worker in active.values():
            if worker.deadline <= now:
                ended.append(self._lose(worker, "timed_out", replace))
        return ended

    def _receive(self, worker: _Worker, replace: bool) -> tuple[int, Outcome[Any]] | None:
        try:
            word, content = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join(5)  # the pipe ends a moment before the process has its exit code
            return self._lose(worker, "crashed", replace)
        if word == "ready":
            worker.ready = True
            return None
        if word == "value":
            worker.value = content
            return None
        index, worker.index = worker.index, None
        assert index is not None
        if word == "raised":
            return index, Outcome(worker.value, "raised", content)
        return index, Outcome(worker.value)

    def _lose(self, worker: _Worker, loss: Loss, replace: bool) -> tuple[int, Outcome[Any]]:
        self.workers.remove(worker)
        ending = worker.end()
        if worker.index is None:
            raise RuntimeError(f"a worker process did not start ({loss}, {ending})")
        if replace:
            self.workers.append(_Worker(self.function))
        if loss == "timed_out":
            detail = f"It was not done after {self.timeout_s:g} s."
        else:
            detail = f"The process that worked on it died ({ending})."
        return worker.index, Outcome(worker.value, loss, detail)

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
