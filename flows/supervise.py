"""Run a command; end it, and all that it started, when the parent process has gone.

`python -I -S supervise.py PARENT GRACE COMMAND…`, as the leader of a process group of its own. A flow that
is killed cannot stop its children, and a training left behind would hold the GPU and the lock of its run.
"""

import os
import signal
import subprocess
import sys
import time

POLL_S = 0.5  # between checks of the parent


def main(parent: int, grace_s: float, command: list[str]) -> int:
    """The command's exit status."""
    stopping = False

    def end(*_: object) -> None:  # the group had the signal: the command has it too
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, end)
    child = subprocess.Popen(command)
    code = None
    while code is None and not stopping:
        try:
            code = child.wait(timeout=POLL_S)
        except subprocess.TimeoutExpired:
            if os.getppid() != parent:
                os.killpg(0, signal.SIGTERM)
                stopping = True
    if not stopping and code is not None:
        return 128 - code if code < 0 else code
    deadline = time.monotonic() + grace_s
    while (child.poll() is None or others()) and time.monotonic() < deadline:
        time.sleep(0.05)
    if child.poll() is None or others():
        os.killpg(0, signal.SIGKILL)
    return 128 - child.returncode if child.returncode < 0 else child.returncode


def others() -> bool:
    """True if this process group has another process; also where there is no /proc to see it."""
    group, here = os.getpgrp(), os.getpid()
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    except OSError:
        return True
    for name in names:
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                state, _, process_group = file.read().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(process_group) == group and int(name) != here and state != "Z":
            return True
    return False


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
