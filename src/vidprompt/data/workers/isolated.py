"""Work that may hang, crash or eat all memory, each piece in a process that can be lost.

Decoders are C libraries fed with files from anywhere: one of them loops, another segfaults. A
`concurrent.futures` pool loses everything when a worker dies and cannot stop one that hangs. Here a
few long-lived processes are each fed through a pipe; one that passes its time limit or dies is
replaced, and only the piece it worked on is lost. A piece whose process died is tried once more in
another: a person or the system, short of memory, may have killed the first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Generic, Literal, TypeVar

from vidprompt.data.workers.worker import Worker

Item = TypeVar("Item")
Value = TypeVar("Value")
Progress = Callable[[int, int], None]  # (done, of how many)
Loss = Literal["timed_out", "crashed", "out_of_memory"]

_ATTEMPTS = 2  # at a piece whose process dies
_FAILED_STARTS = 3  # processes in a row that die before they are ready: then something is wrong


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """What came of one item.

    `value` is the last thing the function yielded, kept also when it failed later. `failure` is
    None when the function ran to its end; else `detail` says in words how it failed. `killed`: the
    process was killed from outside, so that it may end otherwise another time.
    """

    value: Value | None
    failure: Literal["raised"] | Loss | None = None
    detail: str = ""
    killed: bool = False


def guarded_map(
    function: Callable[[Item], Iterator[Value]],
    items: Sequence[Item],
    workers: int,
    timeout_s: float,
    ahead: int = 64,
    memory_mb: int | None = None,
) -> Generator[Outcome[Value], None, None]:
    """Run a generator function on every item in worker processes; outcomes in the items' order.

    At most `ahead` items are under way or done while an earlier one is awaited. The rest is as
    for `guarded_unordered`.
    """
    done: dict[int, Outcome[Value]] = {}
    given = 0
    for index, outcome in guarded_unordered(function, items, workers, timeout_s, ahead, memory_mb):
        done[index] = outcome
        while given in done:
            yield done.pop(given)
            given += 1


def guarded_unordered(
    function: Callable[[Item], Iterator[Value]],
    items: Sequence[Item],
    workers: int,
    timeout_s: float,
    ahead: int = 64,
    memory_mb: int | None = None,
) -> Generator[tuple[int, Outcome[Value]], None, None]:
    """Run a generator function on every item in worker processes; (index, outcome) as each ends.

    `function` and the items must be picklable (processes are spawned, not forked). It yields what
    it knows so far, better and better: the last yield is the value. `timeout_s` is per item, in
    seconds, and excludes the start of the process. `memory_mb`: megabytes a process may take beyond
    what it has when it starts (Linux). Items are begun in order, at most `ahead` beyond the first
    that has not ended. RuntimeError when workers cannot even start.
    """
    pool = _Pool(function, min(max(1, workers), len(items)), timeout_s, memory_mb)
    fresh = deque(_Piece(index, item) for index, item in enumerate(items))
    try:
        while fresh or pool.pieces:
            first = min((piece.index for piece in pool.pieces), default=len(items))
            pool.staff(len(fresh))
            while fresh and fresh[0].index < first + ahead and pool.take(fresh[0]):
                first = min(first, fresh.popleft().index)
            yield from pool.collect()
    finally:
        pool.close()


@dataclass(eq=False)
class _Piece:
    """One item and how often it was tried. `value` is the latest it yielded."""

    index: int
    item: Any
    attempts: int = 0
    value: Any = None


class _Pool:
    """Up to `size` processes, each replaced when it is lost.

    `pieces` are those taken and not ended; `_again` those of them that wait for another try.
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
        self._work: dict[Worker, _Piece] = {}
        self._again: deque[_Piece] = deque()
        self._failed_starts = 0

    @property
    def pieces(self) -> list[_Piece]:
        return [*self._work.values(), *self._again]

    def staff(self, waiting: int) -> None:
        """Start processes until there is one for every piece at hand and `waiting` more, or `size`."""
        wanted = min(self._size, len(self.pieces) + waiting)
        while len(self._workers) < wanted:
            self._workers.append(Worker(self._function, self._memory_mb))
        while self._again and self.take(self._again[0], again=True):
            self._again.popleft()

    def take(self, piece: _Piece, again: bool = False) -> bool:
        """Give the piece to an idle process; False when there is none."""
        if self._again and not again:
            return False
        for worker in [w for w in self._workers if w.ready and w not in self._work]:
            if worker.send(piece.item, self._timeout_s):
                piece.attempts += 1
                self._work[worker] = piece
                return True
            self._workers.remove(worker)  # it died while it had nothing to do
            worker.end()
        return False

    def collect(self) -> list[tuple[int, Outcome[Any]]]:
        """Wait for news of any process, or for the nearest time limit; the pieces that ended."""
        active = {w.pipe: w for w in self._workers if w in self._work or not w.ready}
        if not active:
            return []
        left = min(worker.deadline for worker in active.values()) - time.monotonic()
        heard = wait(list(active), timeout=max(0.0, left))
        news = [worker for pipe, worker in active.items() if pipe in heard]
        ended = [self._receive(worker) for worker in news]
        now = time.monotonic()
        late = [w for w in active.values() if w not in news and w.deadline <= now]
        ended += [self._lose(worker, "timed_out") for worker in late]
        return [end for end in ended if end is not None]

    def _receive(self, worker: Worker) -> tuple[int, Outcome[Any]] | None:
        message = worker.receive()
        if message is None:
            return self._lose(worker, "crashed")
        word, content = message
        if word == "ready":
            self._failed_starts = 0
            return None
        if word == "out_of_memory":
            return self._lose(worker, "out_of_memory")
        piece = self._work[worker]
        if word == "value":
            piece.value = content
            return None
        del self._work[worker]
        if word == "raised":
            return piece.index, Outcome(piece.value, "raised", content)
        return piece.index, Outcome(piece.value)

    def _lose(self, worker: Worker, loss: Loss) -> tuple[int, Outcome[Any]] | None:
        """The end of a process: what it worked on is tried again, or ends with the reason."""
        self._workers.remove(worker)
        ending = worker.end()
        piece = self._work.pop(worker, None)
        if piece is None:
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS:
                raise RuntimeError(f"a worker process did not start ({loss}, {ending.words})")
            return None
        # a process that did other pieces before may have had little memory left for this one
        retry = loss == "crashed" or (loss == "out_of_memory" and worker.sent > 1)
        if retry and piece.attempts < _ATTEMPTS:
            self._again.append(piece)
            return None
        if loss == "timed_out":
            detail = f"It was not done after {self._timeout_s:g} s."
        elif loss == "out_of_memory":
            limit = f" (the limit is {self._memory_mb:,} MB)" if self._memory_mb else ""
            detail = f"It wanted more memory than it could have{limit}."
        else:
            detail = f"The process that worked on it died, twice ({ending.words})."
        killed = loss == "crashed" and ending.killed
        return piece.index, Outcome(piece.value, loss, detail, killed)

    def close(self) -> None:
        for worker in self._workers:
            worker.end()
