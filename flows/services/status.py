"""`make status`: a line a service."""

from __future__ import annotations

from pathlib import Path

from flows.services.record import Record, short
from vidprompt.cli.prefect_server import trouble

NAMES = ("server", "worker", "reports")


def status(folder: Path) -> None:
    """What `make up` started here and whether it runs."""
    record = Record.read(folder)
    for name in NAMES:
        process = record.processes.get(name)
        if process is None:
            print(f"{name:<8} not running")
            continue
        silent = name == "server" and trouble(process.at)
        state = "does not answer" if silent else "running"
        where = f"process {process.pid} since {process.since}, log {short(process.log)}"
        print(f"{name:<8} {state}: {process.at} ({where})")
