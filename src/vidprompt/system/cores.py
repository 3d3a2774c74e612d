"""How many cores this process may use."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

_CGROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@cache
def available_cores() -> int:
    """The cores that the scheduler gives this process, or fewer where its container's CPU time is limited.

    `os.cpu_count` counts all of the machine, of which a job of a cluster or a pod has some.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    limit = cpu_limit(_CGROUPS, _OWN_GROUPS)
    return cores if limit is None else max(1, min(cores, math.ceil(limit)))


def cpu_limit(root: Path, own: Path) -> float | None:
    """The least limit of CPU time in a process's control groups, in cores; None without one.

    `root`: where they are mounted; `own`: the process's list of them. Of both versions; a container may see
    its own group as the root.
    """
    try:
        groups = [line.split(":", 2) for line in own.read_text("utf-8").splitlines()]
    except OSError:
        return None
    limits = []
    for number, controllers, path in groups:
        if number == "0":
            mount, read = root, _limit
        elif "cpu" in controllers.split(","):
            mount, read = root / "cpu", _limit_1
        else:
            continue
        folder = mount / path.lstrip("/")
        limits += [read(one) for one in (folder, *folder.parents) if one.is_relative_to(mount)]
    return min((limit for limit in limits if limit is not None), default=None)


def _limit(folder: Path) -> float | None:
    """Of a group of version 2: `cpu.max` is `<quota or max> <period>`."""
    return _ratio(*_words(folder / "cpu.max"))


def _limit_1(folder: Path) -> float | None:
    """Of a group of version 1, where no limit is -1."""
    return _ratio(*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us"))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").split()
    except OSError:
        return []


def _ratio(*words: str) -> float | None:
    numbers = [int(word) for word in words if word.isdigit()]
    return numbers[0] / numbers[1] if len(numbers) == 2 and all(numbers) else None
