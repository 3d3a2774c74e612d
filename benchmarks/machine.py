"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def provenance() -> dict[str, Any]:
    """Commit and machine, for the record beside every figure.

    The commit is `COMMIT` of the environment where the tree was copied without its repository.
    """
    cpu = platform.processor() or platform.machine()
    commit = os.environ.get("COMMIT") or _commit()
    return {"commit": commit, "machine": {"cpu": cpu, "cores": os.cpu_count()}}


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
