"""The record of the processes that `make up` started; ids that were reused later do not count."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from vidprompt.files.atomic import write_json

FILE = "services.json"


def started(pid: int) -> str | None:
    """The start time of a process, which tells it from a later one with the same id; None if it has ended.

    A zombie has ended.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if Path("/proc/self/stat").exists():  # clock ticks since the boot: nobody sets that clock
            after_name = (
                Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            )
            boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
            return f"{boot} {after_name[19]}"
        return f"{process.create_time():.2f}"
    except (psutil.Error, OSError):
        return None


@dataclass(frozen=True)
class Process:
    """The leader of a process group that `make up` started."""

    pid: int
    started: str
    at: str  # its address or name
    log: str
    since: str  # ISO 8601, to the second

    @property
    def alive(self) -> bool:
        return started(self.pid) == self.started


@dataclass
class Record:
    """`.prefect/services.json`: processes by name, and what was deployed (a hash)."""

    path: Path
    processes: dict[str, Process] = field(default_factory=dict)
    deployed: str = ""

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Read the record of a folder, living processes only; empty if missing or damaged."""
        path = folder / FILE
        try:
            content = json.loads(path.read_text("utf-8"))
            processes = {name: Process(**entry) for name, entry in content["processes"].items()}
            deployed = str(content["deployed"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(path)
        return cls(path, {name: one for name, one in processes.items() if one.alive}, deployed)

    def write(self) -> None:
        entries = {name: asdict(one) for name, one in self.processes.items()}
        write_json(self.path, {"processes": entries, "deployed": self.deployed})

    def add(self, name: str, process: Process) -> None:
        self.processes[name] = process
        self.write()

    def remove(self, name: str) -> None:
        self.processes.pop(name, None)
        self.write()


def short(path: Path | str) -> str:
    """A path relative to the current folder."""
    return os.path.relpath(path)
