"""`processes: N`: a stage in N processes of this machine, a GPU each where there are.

What they make is the same as one process's up to rounding. Several machines are `accelerate launch`'s
(docs/training.md); a stage that was launched, by it or from here, does not launch again.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

from vidprompt.system.errors import UserError

GRACE_S = 60.0  # for the others to end when one has failed
_PR_SET_PDEATHSIG = 1


def wanted(processes: Any) -> int:
    """How many processes `processes` asks for; 1 in a process that was launched."""
    if "LOCAL_RANK" in os.environ:
        return 1
    if processes == "auto":
        import torch

        return max(1, torch.cuda.device_count())
    if not isinstance(processes, int) or processes < 1:
        raise UserError(f"processes={processes}: a number of processes, or auto (a GPU each)")
    return processes


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run `vidprompt <arguments>` in `count` processes; the first failing one's exit status.

    SIGTERM and SIGINT are passed on. When one fails, the others are ended.
    """
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "vidprompt.cli", *arguments],
            env=environment,
            start_new_session=True,  # a signal to the whole group comes once, from here
            preexec_fn=_end_with_parent,
        )
        for environment in _environments(count)
    ]
    told: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        _signal(children, number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return _wait(children, told)
    finally:
        _signal(children, signal.SIGKILL)
        for number, handler in before.items():
            signal.signal(number, handler)


def _environments(count: int) -> list[dict[str, str]]:
    """What torch.distributed and accelerate read, a process each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cores = max(1, (os.cpu_count() or 1) // count)
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores)),
    }
    return [
        os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)
    ]


def _end_with_parent() -> None:
    """In a child: SIGKILL when the launcher is gone (Linux alone can be asked for that).

    A launcher that is told to end passes that on and waits; one that is gone was killed, and a process that
    waits for another's numbers in native code would never look at a gentler signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait(children: Sequence[subprocess.Popen[bytes]], told: Sequence[int]) -> int:
    """Until all have ended. `told`: signals they have had; a second one would not let them save."""
    failed: int | None = None
    end = float("inf")
    while None in [child.poll() for child in children] and time.monotonic() < end:
        codes = [child.returncode for child in children if child.returncode]
        if codes and failed is None:
            failed, end = codes[0], time.monotonic() + GRACE_S
            if not told:
                _signal(children, signal.SIGTERM)
        time.sleep(0.05)
    codes = [child.returncode for child in children if child.returncode]
    code = failed if failed is not None else (codes[0] if codes else 0)
    return 128 - code if code < 0 else code  # as a shell says that a signal ended it


def _signal(children: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)
