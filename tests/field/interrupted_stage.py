"""The command line with an event in the middle of a stage: `python -m tests.field.interrupted_stage EVENT …`.

The event happens when the stage counts its second step, batch or video, with its workers at work.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from vidprompt.system.errors import DataError
from vidprompt.system.progress import Progress


def _raise(error: Exception) -> None:
    raise error


def _allocate() -> None:
    import torch

    torch.empty(2**60)


def _signal_workers(number: int) -> None:
    children = multiprocessing.active_children()
    assert children, "no worker is there"
    for child in children:
        os.kill(child.pid or 0, number)


def _hang_and_fail() -> None:
    _signal_workers(signal.SIGSTOP)
    raise RuntimeError("unexpected")


EVENTS: dict[str, Callable[[], Any]] = {
    "error": lambda: _raise(RuntimeError("unexpected")),
    "user_error": lambda: _raise(DataError("v.mp4 is bad")),
    "disk": lambda: _raise(OSError(28, "No space left on device", "cache/x")),
    "memory": _allocate,
    "exit": lambda: sys.exit(7),
    "sigterm": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "sigint": lambda: os.kill(os.getpid(), signal.SIGINT),
    "group": lambda: os.killpg(0, signal.SIGTERM),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "worker": lambda: _signal_workers(signal.SIGKILL),
    "hung": _hang_and_fail,
}


def interrupt(event: str) -> None:
    """Let the event happen at the second count of a progress bar."""
    advance, calls = Progress.advance, 0

    def counted(self: Progress, amount: int = 1, notes: str = "") -> None:
        nonlocal calls
        advance(self, amount, notes)
        calls += bool(amount)
        if calls == 2:
            calls += 1
            print("event", file=sys.stderr, flush=True)
            EVENTS[event]()

    Progress.advance = counted  # type: ignore[method-assign]


if __name__ == "__main__":
    from vidprompt.cli.main import main
    from vidprompt.pipeline.stages import features

    features.MIN_CLIPS_FOR_WORKERS = 0
    features.BATCH = {"cpu": 1, "cuda": 1}
    interrupt(sys.argv.pop(1))
    main()
