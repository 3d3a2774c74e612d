"""Run DVC stages as child processes: stream their output, leave none running."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from vidprompt.system.errors import TRANSIENT_EXIT
from vidprompt.system.user import user_variables

GRACE_S = 3.0  # between SIGTERM, on which a training saves its step, and SIGKILL
_EXITED = re.compile(r"exited with (-?\d+)")  # DVC, of the command of a stage
_KILLED = (
    -signal.SIGKILL,
    128 + signal.SIGKILL,
)  # by whom, if not by us: memory ran out, a node went
_BUSY = (
    "is busy, it is being blocked"  # another dvc of the user's: --wait-for-lock is not about that
)
_OURS = "vidprompt: "  # what a sentence of ours begins with
_TAIL = 20  # lines of a failure that is not a sentence


class CommandFailed(Exception):
    """A command failed: `code` is its exit status, or that of the stage that DVC ran.

    `str()` is its last message of the form `vidprompt: …`, else its last lines.
    """

    def __init__(self, command: Sequence[str], code: int, output: Sequence[str]) -> None:
        inside = [int(match[1]) for line in output if (match := _EXITED.search(line))]
        self.code = inside[-1] if inside else code
        sentences = [line.removeprefix(_OURS) for line in output if line.startswith(_OURS)]
        tail = "\n".join(deque(output, _TAIL))
        super().__init__(
            sentences[-1] if sentences else f"{' '.join(command)} ended with {self.code}\n{tail}"
        )

    @property
    def transient(self) -> bool:
        """True if a retry with nothing changed may succeed: not for a wrong configuration."""
        return self.code == TRANSIENT_EXIT or self.code in _KILLED or _BUSY in str(self)


class Stopped(Exception):
    """The flow is being stopped and starts no more commands."""


class Children:
    """Runs commands, each in its own process group, from any thread; leaving the context stops them all.

    DVC does not stop its command when it is stopped itself, and Prefect signals the process of the flow
    alone: so the whole group gets the signal. A group also ends when this process has gone
    (flows/supervise.py).
    """

    def __init__(self) -> None:
        # a plain set and flag: both are changed in one step each, which threads do not divide
        self._groups: set[int] = set()
        self.stopped = False

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    def run(
        self,
        command: Sequence[str],
        log: Callable[[str], object] | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        keep_empty: bool = False,
    ) -> list[str]:
        """Run a command; returns its output lines, each of which goes to `log`, too, if given.

        `environment` is added to this process's. Empty lines are left out unless `keep_empty`.

        Raises CommandFailed, or Stopped when the flow was stopped before or during the command.
        """
        if self.stopped:
            raise Stopped(f"{' '.join(command)}: the flow was stopped before it began")
        supervisor = [sys.executable, "-I", "-S", str(Path(__file__).with_name("supervise.py"))]
        child = subprocess.Popen(
            [*supervisor, str(os.getpid()), str(GRACE_S), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=_environment() | dict(environment or {}),
            start_new_session=True,
        )
        self._groups.add(child.pid)
        output: list[str] = []
        try:
            if self.stopped:  # meanwhile
                _signal(child.pid, signal.SIGTERM)
            for line in child.stdout or ():
                if line.strip() or keep_empty:
                    output.append(line.rstrip())
                    if log is not None:
                        log(output[-1])
            if code := child.wait():
                if self.stopped:
                    raise Stopped(f"{' '.join(command)}: the flow was stopped")
                raise CommandFailed(command, code, output)
        finally:
            if child.poll() is None:
                _stop([child.pid])
                child.wait()
            self._groups.discard(child.pid)
        return output

    def stop(self) -> None:
        """Stop all commands and start no others."""
        self.stopped = True
        _stop(list(self._groups))


def stage_names(children: Children) -> list[str]:
    """All stages of the project in the current folder, in the order of dvc.yaml. Raises CommandFailed."""
    return [line.strip() for line in children.run(["dvc", "stage", "list", "--name-only"])]


def reproduce(
    stage: str,
    children: Children,
    log: Callable[[str], object],
    environment: Mapping[str, str] | None = None,
) -> bool:
    """Bring one stage up to date, without its dependencies; returns whether DVC ran it."""
    output = children.run(["dvc", "--wait-for-lock", "repro", "-s", stage], log, environment)
    return f"Stage '{stage}' didn't change, skipping" not in output


def outdated(stages: Sequence[str], children: Children) -> list[str]:
    """The stages that DVC reports as changed.

    One `dvc status` of the whole project: each named stage would take a fifth of a second more.
    """
    changed = _changed([], children)
    return [stage for stage in stages if stage in changed]


def outdated_upstream(stages: Sequence[str], children: Children) -> list[str]:
    """The changed ones of the stages and of all that they depend on."""
    return sorted(_changed(["--with-deps", *stages], children))


def _changed(arguments: Sequence[str], children: Children) -> dict[str, Any]:
    output = children.run(["dvc", "--wait-for-lock", "status", "--json", *arguments])
    changed = json.loads(output[-1])
    return changed if isinstance(changed, dict) else {}


def _environment() -> dict[str, str]:
    """This process's environment with the interpreter's scripts (dvc, vidprompt) first, unbuffered, UTF-8."""
    scripts = str(Path(sys.executable).parent)
    path = f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return (
        os.environ | user_variables() | {"PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    )


def _stop(groups: Sequence[int]) -> None:
    left = [group for group in groups if _signal(group, signal.SIGTERM)]
    end = time.monotonic() + GRACE_S
    while left and time.monotonic() < end:
        time.sleep(0.05)
        left = [group for group in left if _signal(group, 0)]
    for group in left:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Signal a process group; False if it has ended."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True
