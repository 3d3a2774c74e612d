"""SIGTERM and Ctrl-C: a training ends after a step, with its state saved; other commands end at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from vidprompt.system.errors import UserError, causes

SIGNALS = (signal.SIGTERM, signal.SIGINT)
WAIT_S = 3.0  # how long a batch that is being loaded is waited for after a signal


class Interrupted(UserError):
    """A signal stopped the command; exit status 128 + its number, as a shell reports it."""

    def __init__(self, sentence: str, number: int) -> None:
        super().__init__(sentence)
        self.exit_code = 128 + number
        self.in_all_processes = True


class SignalReceived(KeyboardInterrupt):
    """A signal, raised where the main thread is: what is open is closed, and worker processes end."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM end what runs inside as Ctrl-C does, by SignalReceived in the main thread.

    Further ones are ignored while it ends.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise SignalReceived(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def signal_number(error: BaseException) -> int | None:
    """The signal that caused the error; None for another cause."""
    for cause in causes(error):
        if isinstance(cause, KeyboardInterrupt):
            return int(cause.args[0]) if isinstance(cause, SignalReceived) else signal.SIGINT
    return None


class Interruption:
    """Context that records the first SIGTERM or SIGINT; a second one has its usual effect."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}
        self._waiting = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # Python's rule for handlers
            self._before = {number: signal.signal(number, self._record) for number in SIGNALS}
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._stop_waiting)
        return self

    def _record(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        signal.signal(number, self._before[number])
        if self._waiting:
            signal.setitimer(signal.ITIMER_REAL, WAIT_S)

    def _stop_waiting(self, _number: int, _frame: FrameType | None) -> None:
        if self._waiting and self.number is not None:
            raise SignalReceived(self.number)

    @contextmanager
    def waiting(self, limited: bool = True) -> Iterator[None]:
        """While the main thread waits for what may never come: a signal raises SignalReceived after WAIT_S.

        Not if `limited` is false.
        """
        self._waiting = limited and bool(self._before)
        try:
            if self._waiting and self.requested:
                signal.setitimer(signal.ITIMER_REAL, WAIT_S)
            yield
        finally:
            if self._waiting:
                self._waiting = False
                signal.setitimer(signal.ITIMER_REAL, 0)

    @property
    def requested(self) -> bool:
        """True after a signal."""
        return self.number is not None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
