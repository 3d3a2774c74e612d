"""Runs a command and ends with it; ends it, and all it started, when the process that wanted it is gone.

`python -I -S supervise.py PARENT GRACE COMMAND…`, as the leader of a process group of its own. A flow that
is killed cannot stop its children, and a training left behind would hold the GPU and the lock of its run.
"""

import os
import signal
import subprocess
import sys
import time

LOOK_S = 0.5  # how often the parent is looked for


def main(parent: int, grace_s: float, command: list[str]) -> int:
    """The command's exit status."""
    child = subprocess.Popen(command)
    told = False

    def end(*_: object) -> None:  # the group had the signal: the command has it too
        nonlocal told
        told = True

    signal.signal(signal.SIGTERM, end)
    while True:
        try:
            code = child.wait(timeout=LOOK_S)
            return 128 - code if code < 0 else code
        except subprocess.TimeoutExpired:
            if os.getppid() != parent and not told:
                break
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(max(0.0, min(0.5, deadline - time.monotonic())))  # for what the command started
    os.killpg(0, signal.SIGKILL)
    return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
