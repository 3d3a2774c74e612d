"""Receive the values of a generator that runs in a process of its own, as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

from vidprompt.data.workers.worker import Worker
from vidprompt.system.errors import DataError

Item = TypeVar("Item")
Value = TypeVar("Value")


def isolated_stream(
    function: Callable[[Item], Iterator[Value]], item: Item, timeout_s: float, memory_mb: int | None
) -> Generator[Value, None, None]:
    """The values that `function(item)` yields, computed in a process that waits for the reader.

    Both are pickled. Raises DataError, with a sentence, when the function does, when the next value takes
    longer than `timeout_s` seconds, and when the process dies or wants more than `memory_mb` megabytes.
    """
    worker = Worker(function, memory_mb)
    try:
        _message(worker)  # ready
        if not worker.send(item, timeout_s):
            raise DataError(f"The process that decodes did not start ({worker.end().reason}).")
        while True:
            kind, content = _message(worker)
            if kind == "end":
                return
            if kind == "raised":
                raise DataError(content)
            if kind == "out_of_memory":
                limit = f" (the limit is {memory_mb:,} MB)" if memory_mb else ""
                raise DataError(f"It wanted more memory than it could have{limit}.")
            yield content
            worker.deadline = time.monotonic() + timeout_s
    finally:
        worker.end()


def _message(worker: Worker) -> tuple[str, Any]:
    """The next message of the process, before its deadline."""
    if not worker.pipe.poll(max(0.0, worker.deadline - time.monotonic())):
        raise DataError("The decoder gave nothing for too long: it was stopped.")
    message = worker.receive()
    if message is None:
        raise DataError(f"The process that decoded it died ({worker.end().reason}).")
    return message
