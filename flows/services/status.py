"""`make status`: a line a service."""

from __future__ import annotations

from pathlib import Path

from flows.services.record import Record, short
from vidprompt.cli.prefect_server import server_problem


def status(folder: Path) -> None:
    """What `make up` started here and whether it runs."""
    record = Record.read(folder)
    for name in ("server", "worker", "reports"):
        process = record.processes.get(name)
        if process is None:
            print(f"{name:<8} not running")
            continue
        problem = name == "server" and server_problem(process.at)
        state = "does not answer" if problem else "running"
        where = f"process {process.pid} since {process.since}, log {short(process.log)}"
        print(f"{name:<8} {state}: {process.at} ({where})")
