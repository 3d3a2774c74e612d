"""One worker process: it receives items through a pipe and may be killed at any time."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from vidprompt.system.errors import UserError
from vidprompt.system.workers import end_with_parent

_START_LIMIT_S = 180.0  # imports in a new process, on a busy machine
_JOIN_S = 10.0  # a process that waits for a dead disk cannot be killed: it is left behind
_OUTSIDE_SIGNALS = ("SIGKILL", "SIGTERM", "SIGHUP")


class ProcessEnd(NamedTuple):
    """How a process ended: exit status or signal, and whether it was killed from outside."""

    reason: str
    killed: bool


class Worker:
    """A process that runs `function` on items, and the pipe to it.

    `ready`: it has imported what `function` needs. `deadline` (of `time.monotonic`): when it must have
    answered. `sent`: how many items it has been sent.
    """

    def __init__(self, function: Callable[[Any], Iterator[Any]], memory_mb: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, function, memory_mb), daemon=True
        )
        self._process.start()
        theirs.close()  # so that its death reads as the end of the pipe
        self.ready = False
        self.sent = 0
        self.deadline = time.monotonic() + _START_LIMIT_S

    def send(self, item: Any, timeout_s: float) -> bool:
        """Send an item, to be answered within `timeout_s` seconds; False when the process has died."""
        try:
            self.pipe.send(item)
        except (BrokenPipeError, ConnectionResetError):
            return False
        self.sent += 1
        self.deadline = time.monotonic() + timeout_s
        return True

    def receive(self) -> tuple[str, Any] | None:
        """The next message: (`ready` | `value` | `end` | `raised` | `out_of_memory`, content).

        None when the process has died.
        """
        try:
            kind, content = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(5)  # the pipe ends a moment before the process has its exit code
            return None
        self.ready = True
        return kind, content

    def kill(self) -> None:
        """Kill the process without waiting for its end."""
        self._process.kill()

    def end(self) -> ProcessEnd:
        """Kill the process if it runs; returns how it ended."""
        self._process.kill()
        self._process.join(_JOIN_S)
        self.pipe.close()
        code = self._process.exitcode or 0
        if code >= 0:
            return ProcessEnd(f"exit status {code}", False)
        name = signal.Signals(-code).name
        return ProcessEnd(name, name in _OUTSIDE_SIGNALS)


def _serve(pipe: Any, function: Callable[[Any], Iterator[Any]], memory_mb: int | None) -> None:
    """The main function of a worker: send `ready`, then answer every item until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    end_with_parent()
    if memory_mb is not None:
        _limit_memory(memory_mb)
    with suppress(BrokenPipeError, ConnectionResetError, EOFError):
        pipe.send(("ready", None))
        while True:
            item = pipe.recv()
            try:
                for value in function(item):
                    pipe.send(("value", value))
                answer: tuple[str, Any] = ("end", None)
            except MemoryError:
                pipe.send(("out_of_memory", None))
                return
            except UserError as error:
                answer = ("raised", str(error))
            except (BrokenPipeError, ConnectionResetError):
                return
            except Exception as error:
                answer = ("raised", f"{type(error).__name__}: {error}")
            pipe.send(answer)


def _limit_memory(memory_mb: int) -> None:
    """Limit private writable memory to what the process has now and `memory_mb` megabytes more.

    Address space is no measure: libraries and threads reserve much of it and use little. Systems
    other than Linux do not enforce the limit.
    """
    import resource

    pages = 0
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text("utf-8").split()[5])
    limit = pages * resource.getpagesize() + memory_mb * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
