"""Shards built by a real local cluster are those that this machine builds."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from make_videos import write_video

from vidprompt.config.schema import RunnerConfig
from vidprompt.data.shards.cache_build import build_frame_cache
from vidprompt.data.shards.plan import FrameRow, FrameSettings
from vidprompt.data.shards.runners import shard_runner
from vidprompt.system.errors import UserError

SETTINGS = FrameSettings(short_side=48, frames=6, shard_mb=1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[FrameRow]:
    folder = tmp_path_factory.mktemp("videos")
    rows = []
    for n in range(3):
        path = write_video(folder / f"{n}.mp4", n=20, kind="h264.mp4", seed=n)
        # as tall as 1,500 pixels, says the manifest: so one fills a shard
        rows += [FrameRow(f"a/{n}-{k}", path, "video", 20, True, "a", 48, 20_000) for k in range(3)]
    return rows


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _kill_a_worker(before: set[int]) -> bool:
    """SIGKILL a process of the cluster that is at a shard: one with a decoder of its own."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for worker in psutil.Process().children(recursive=True):
            try:
                decoders = [c for c in worker.children() if "spawn_main" in " ".join(c.cmdline())]
                built_by = " ".join(worker.cmdline())
            except psutil.Error:
                continue  # it has just ended
            if worker.pid in before or not decoders:
                continue
            if "spawn_main" in built_by or built_by.startswith("ray::"):
                os.kill(worker.pid, signal.SIGKILL)
                return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dask", "ray"])
def test_a_cluster_that_loses_a_worker_builds_the_same_bytes(
    rows: list[FrameRow], tmp_path: Path, name: str
) -> None:
    if name == "ray" and importlib.util.find_spec("prefect_ray") is None:
        pytest.skip("the extra `ray` is not installed")
    here = build_frame_cache(rows, SETTINGS, {}, tmp_path / "here")
    settings = RunnerConfig(name, workers=2, retries=2)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    done: list[int] = []
    killed: list[bool] = []

    def progress(count: int, total: int) -> None:
        done.append(count)
        if len(done) == 2:
            killed.append(_kill_a_worker(before))

    runner = shard_runner(settings, timeout_s=60)
    there = build_frame_cache(
        rows, SETTINGS, {}, tmp_path / "there", progress=progress, runner=runner
    )
    assert killed == [True]
    assert here["shards"] == there["shards"] == len(rows)
    assert done == list(range(1, len(rows) + 1))
    assert _contents(tmp_path / "there") == _contents(tmp_path / "here")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("slurm", "runner.name=slurm: valid: local, dask, ray"),
        ("ray", "runner=ray needs `pip install 'vidprompt.ray.'`"),
    ],
)
def test_a_runner_that_is_not_there(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect_ray", None)
    with pytest.raises(UserError, match=says):
        shard_runner(RunnerConfig(name), 60)
    assert shard_runner(RunnerConfig("local"), 60) is None
