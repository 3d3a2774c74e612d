"""Run a stage in several processes of this machine (`processes: N`), with a GPU each if there are any.

Their results equal those of one process up to rounding. For several machines use `accelerate launch`
(docs/training.md); a process that was launched, by it or from here, does not launch others.
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

from vidprompt.system.cores import available_cores
from vidprompt.system.errors import UserError

GRACE_S = 5.0  # how long the other processes may take to end after one has failed
_PR_SET_PDEATHSIG = 1


def process_count(processes: Any) -> int:
    """The number of processes to launch for the setting `processes`; 1 in a launched process.

    Raises UserError for more processes than GPUs, where there are any: two cannot share one.
    """
    if "LOCAL_RANK" in os.environ:
        return 1
    if processes != "auto" and (not isinstance(processes, int) or processes < 1):
        raise UserError(f"processes={processes}: a number of processes, or auto (a GPU each)")
    if processes == 1:
        return 1
    import torch

    gpus = torch.cuda.device_count()
    if processes == "auto":
        return max(1, gpus)
    if 0 < gpus < processes:
        raise UserError(
            f"processes={processes}, and there {'is 1 GPU' if gpus == 1 else f'are {gpus} GPUs'}: each "
            "process takes one; set processes=auto, or CUDA_VISIBLE_DEVICES= for processes on the CPU"
        )
    return processes


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run `vidprompt <arguments>` in `count` processes; returns the exit status of the first that fails.

    SIGTERM and SIGINT are passed on to all. When one fails, the others are terminated.
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
    signals: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        _signal(children, number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return _wait(children, signals)
    finally:
        _signal(children, signal.SIGKILL)
        for number, handler in before.items():
            signal.signal(number, handler)


def _environments(count: int) -> list[dict[str, str]]:
    """The environment of each process, with the variables of torch.distributed and accelerate."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cores = max(1, available_cores() // count)
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
    """In a child process, on Linux: request SIGKILL for the time when the launcher dies.

    A launcher that gets SIGTERM passes it on and waits; one that dies was killed. A child that waits in
    native code for another rank would never handle SIGTERM.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait(children: Sequence[subprocess.Popen[bytes]], signals: Sequence[int]) -> int:
    """Wait for all; the exit status of the first that failed.

    `signals`: those passed on so far. After one, none is terminated here: a second signal would keep a
    process from saving its state.
    """
    failed: int | None = None
    end = float("inf")
    while None in [child.poll() for child in children] and time.monotonic() < end:
        codes = [child.returncode for child in children if child.returncode]
        if codes and failed is None:
            failed, end = codes[0], time.monotonic() + GRACE_S
            if not signals:
                _signal(children, signal.SIGTERM)
        time.sleep(0.05)
    codes = [child.returncode for child in children if child.returncode]
    code = failed if failed is not None else (codes[0] if codes else 0)
    return 128 - code if code < 0 else code  # as a shell says that a signal ended it


def _signal(children: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)
