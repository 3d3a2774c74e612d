"""Worker processes of `multiprocessing` that end with what started them."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

_GRACE_S = 3.0  # how long workers may take to end in order, before they are killed
_JOIN_S = 2.0  # a killed process that waits for a dead disk does not end: it is left behind


def end_with_parent() -> None:
    """In a worker: exit when the parent process is gone; what hangs in a library would outlive it."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def deferred_signals() -> Iterator[None]:
    """SIGTERM and SIGINT wait until the context is left; for a process that is started inside, for ever."""
    resource_tracker.ensure_running()  # its start, which comes with the first process, unblocks both
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Workers:
    """Context that owns the worker processes started inside it: when it is left, however, they have ended.

    `before_kill` is called first, for what can end in order, and has three seconds. Where a generator with
    this context is not closed, as a traceback holds it, they are killed at the interpreter's exit, before
    Python waits for them.
    """

    before_kill: Callable[[], object] | None = None
    _ended = False

    def __enter__(self) -> Workers:
        self._others = set(multiprocessing.active_children())
        atexit.register(self.end)
        return self

    @property
    def processes(self) -> list[BaseProcess]:
        """Those that have not ended."""
        return [one for one in multiprocessing.active_children() if one not in self._others]

    def end(self) -> None:
        """End those that have not ended; nothing the second time.

        That may come at Python's very end, when an open generator is collected: a thread cannot start then.
        """
        if self._ended:
            return
        self._ended = True
        handler = _set_child_handler(signal.SIG_DFL)  # PyTorch's would raise an error for each
        try:
            if self.before_kill is not None:
                thread = threading.Thread(target=self.before_kill, daemon=True)
                # from Python 3.12 on none can start at the interpreter's exit: then all are killed
                with suppress(RuntimeError):
                    thread.start()
                    thread.join(_GRACE_S)
            processes = self.processes
            for process in processes:
                process.kill()
            for process in processes:
                process.join(_JOIN_S)
        finally:
            _set_child_handler(handler)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
        atexit.unregister(self.end)


def _set_child_handler(handler: Any) -> Any:
    """Set the handler of SIGCHLD; returns the one before. Only the main thread may."""
    if threading.current_thread() is not threading.main_thread() or handler is None:
        return None
    return signal.signal(signal.SIGCHLD, handler)
