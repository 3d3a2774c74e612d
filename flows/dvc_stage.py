"""DVC stages as child processes: their output line by line, and none left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

GRACE_S = 10.0  # between SIGTERM and SIGKILL


class Children:
    """Runs commands, each in a process group of its own, from any thread; leaving stops them all.

    DVC does not stop the command it runs when it is told to stop itself, and Prefect signals the
    process of the flow alone: so the whole group gets the signal.
    """

    def __init__(self) -> None:
        # a plain set and flag: both are changed in one step each, which threads do not divide
        self._groups: set[int] = set()
        self._stopped = False

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    def run(self, command: Sequence[str], log: Callable[[str], object]) -> list[str]:
        """Every line of what the command says, as logged. RuntimeError with the last 20 if it fails."""
        if self._stopped:
            raise RuntimeError(f"{' '.join(command)}: the flow was stopped before it began")
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_environment(),
            start_new_session=True,
        )
        self._groups.add(child.pid)
        said: list[str] = []
        try:
            if self._stopped:  # meanwhile
                _signal(child.pid, signal.SIGTERM)
            for line in child.stdout or ():
                if line.strip():
                    said.append(line.rstrip())
                    log(said[-1])
            if child.wait():
                tail = "\n".join(deque(said, 20))
                raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}\n{tail}")
        finally:
            if child.poll() is None:
                _stop([child.pid])
                child.wait()
            self._groups.discard(child.pid)
        return said

    def stop(self) -> None:
        """Stop what runs, and let nothing else begin."""
        self._stopped = True
        _stop(list(self._groups))


def stage_names() -> list[str]:
    """All stages of the project stood in, in the order of dvc.yaml. RuntimeError when DVC fails."""
    with Children() as children:
        said = children.run(["dvc", "stage", "list", "--name-only"], lambda _: None)
    return [line.strip() for line in said]


def reproduce(stage: str, children: Children, log: Callable[[str], object]) -> bool:
    """Bring one stage up to date, not what it depends on. Was there anything to do?"""
    said = children.run(["dvc", "--wait-for-lock", "repro", "-s", stage], log)
    return f"Stage '{stage}' didn't change, skipping" not in said


def outdated(stages: Sequence[str], children: Children) -> list[str]:
    """Those of the stages that DVC says have changed."""
    said = children.run(["dvc", "--wait-for-lock", "status", "--json", *stages], lambda _: None)
    changed = json.loads(said[-1])
    return [stage for stage in stages if stage in changed]


def _environment() -> dict[str, str]:
    """With this interpreter's scripts (dvc, vidprompt) first, and output that comes as it is said."""
    scripts = str(Path(sys.executable).parent)
    path = f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"}


def _stop(groups: Sequence[int]) -> None:
    left = [group for group in groups if _signal(group, signal.SIGTERM)]
    end = time.monotonic() + GRACE_S
    while left and time.monotonic() < end:
        time.sleep(0.05)
        left = [group for group in left if _signal(group, 0)]
    for group in left:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Was there anybody to get it?"""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True
