"""The cores of a process: of its affinity and of its container's limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vidprompt.system import cores


def groups(folder: Path, files: dict[str, str], own: str) -> tuple[Path, Path]:
    """Control groups with these files, and a process's list of its groups."""
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "own").write_text(own, encoding="utf-8")
    return folder / "cgroup", folder / "own"


@pytest.mark.parametrize(
    ("files", "own", "limit"),
    [
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),  # a container with a root of its own
        ({"cpu.max": "max 100000\n"}, "0::/\n", None),
        ({"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, "0::/a/b\n", 2.0),
        ({"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "50000 100000\n"}, "0::/a/b\n", 0.5),
        (
            {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            "4:cpuset:/\n3:cpu,cpuacct:/docker/0123\n",  # the path is the host's
            4.0,
        ),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "1:cpu:/\n", None),
        ({"cpu.max": "nonsense\n"}, "0::/\n", None),
        ({}, "0::/gone\n", None),
        ({}, "", None),
    ],
)
def test_the_least_limit_of_a_process_s_groups(
    tmp_path: Path, files: dict[str, str], own: str, limit: float | None
) -> None:
    assert cores.cpu_limit(*groups(tmp_path, files, own)) == limit


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert cores.cpu_limit(tmp_path, tmp_path / "none") is None


@pytest.mark.parametrize(("limit", "expected"), [(None, 8), (1.5, 2), (0.2, 1), (64.0, 8)])
def test_a_process_has_the_cores_of_its_affinity_or_its_limit(
    monkeypatch: pytest.MonkeyPatch, limit: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "cpu_limit", lambda *_: limit)
    assert cores.available_cores.__wrapped__() == expected


def test_torch_has_as_many_threads_as_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from vidprompt.models.backbones import loading

    before = torch.get_num_threads()
    monkeypatch.setattr(loading, "available_cores", lambda: 1)
    try:
        for variable, expected in (("2", 2), (None, 1)):
            monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
            if variable:
                monkeypatch.setenv("OMP_NUM_THREADS", variable)
            torch.set_num_threads(2)
            loading._limit_threads()
            assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
