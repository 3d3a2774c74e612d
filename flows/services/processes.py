"""Starting, finding and stopping processes of this machine."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import psutil

from flows.services.record import Process, Record, short, started
from vidprompt.system.errors import UserError
from vidprompt.system.interruption import Interruption

POLL_S = 0.1
START = "---"  # the first line of every start in a log
EXCEPTION = re.compile(r"[\w.]+(Error|Exception): .")
LOG_BYTES = 10_000_000  # a longer log is put aside as *.old at the next start


def start(
    name: str, command: Sequence[str], at: str, record: Record, environment: Mapping[str, str]
) -> Process:
    """Start a service in a session of its own, and record it."""
    log = record.path.parent / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.old"))
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    # a Ctrl-C waits until the started process is on record
    with Interruption() as interruption, log.open("ab") as out:
        out.write(f"{START} {since} {' '.join(command)}\n".encode())
        out.flush()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **environment},
        )
        process = Process(child.pid, started(child.pid) or "", at, str(log), since)
        record.add(name, process)
    if interruption.number is not None:
        signal.raise_signal(interruption.number)
    return process


def wait_for(name: str, process: Process, ready: Callable[[], bool], timeout_s: float) -> None:
    """Until it is ready. Raises UserError when it ends before that, or is not in time."""
    end = time.monotonic() + timeout_s
    while not ready():
        if not process.alive:
            raise UserError(
                f"The {name} ended as it started: {last_error(Path(process.log))} "
                f"(all of it in {short(process.log)})"
            )
        if time.monotonic() > end:
            raise UserError(
                f"The {name} was started and is not ready after {timeout_s:.0f} s: "
                f"see {short(process.log)}, and `make down`"
            )
        time.sleep(POLL_S)


def is_free(port: int) -> bool:
    """True if no process of this machine listens on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def port_user(port: int) -> str:
    """The process that listens on a port, as text, as far as this user may see it."""
    try:
        for line in psutil.net_connections("tcp"):
            if line.status == psutil.CONN_LISTEN and line.laddr.port == port and line.pid:
                words = " ".join(psutil.Process(line.pid).cmdline())
                return f"process {line.pid} ({words if len(words) <= 80 else words[:79] + '…'})"
    except psutil.Error:
        pass
    return "another process"


def descendants(process: Process) -> list[psutil.Process]:
    """The child processes of a service, and theirs."""
    try:
        return psutil.Process(process.pid).children(recursive=True) if process.alive else []
    except psutil.Error:
        return []


def stop(process: Process, grace_s: float) -> None:
    """SIGTERM to the service's process group, SIGKILL after `grace_s`; only if it is that very process."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        if not process.alive:
            return
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        end = time.monotonic() + wait_s
        while process.alive and time.monotonic() < end:
            time.sleep(POLL_S)


def stop_all(processes: Sequence[psutil.Process], grace_s: float) -> list[int]:
    """SIGTERM, then SIGKILL after `grace_s`, to single processes; returns the ids of those that still ran."""
    left = [one for one in set(processes) if one.is_running()]
    stopped = sorted(one.pid for one in left)
    for signalled in (psutil.Process.terminate, psutil.Process.kill):
        for one in left:
            try:
                signalled(one)
            except psutil.Error:
                continue
        left = psutil.wait_procs(left, timeout=grace_s)[1]
    return stopped


def last_error(log: Path) -> str:
    """The last line of a log since the last start; the last line of an exception, if there is one."""
    lines: list[str] = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        lines = [] if line.startswith(START) else [*lines, line] if line.strip() else lines
    errors = [line for line in lines if EXCEPTION.match(line)]
    return " ".join((errors or lines or ["nothing"])[-1].split())
