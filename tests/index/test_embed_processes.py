"""Several processes, and a cluster that loses a worker, make the bytes that one process makes."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_model import FakeInput, FakeModel, write_videos

from vidprompt.config.schema import RunnerConfig
from vidprompt.index import plan
from vidprompt.index.build import build_index
from vidprompt.index.cluster import ClusterRun
from vidprompt.index.encode import EncodeSettings
from vidprompt.index.processes import LocalProcesses
from vidprompt.system.errors import TransientError, UserError

HERE = EncodeSettings(workers=0)


def load(rank: int = 0) -> FakeModel:
    return FakeModel()


def load_slow(rank: int = 0) -> FakeModel:
    return FakeModel(input=FakeInput(seconds=0.05))


def load_nothing(rank: int = 0) -> Any:
    raise UserError("there is no such model here")


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plan, "SHARD_VIDEOS", 5)
    # the pickled functions of this file are found by its name
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}")
    return write_videos(tmp_path / "videos", {f"{n:03}": f"content {n}" for n in range(60)})


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
def test_several_processes_make_the_same_bytes(videos: Path, tmp_path: Path) -> None:
    build_index(FakeModel(), videos, tmp_path / "one", settings=HERE)
    decoding = EncodeSettings(workers=1)
    report = build_index(
        FakeModel(), videos, tmp_path / "two", make=LocalProcesses(load, 2, decoding)
    )
    assert report.encoded == 60
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.mark.slow
def test_an_error_of_a_process_is_raised_and_a_killed_one_is_a_sentence(
    videos: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="there is no such model here"):
        build_index(
            FakeModel(), videos, tmp_path / "index", make=LocalProcesses(load_nothing, 2, HERE)
        )

    def kill_one() -> None:
        while not list((tmp_path / "index/shards").glob("*.parquet")):
            time.sleep(0.01)
        workers = [c for c in psutil.Process().children() if "spawn_main" in " ".join(c.cmdline())]
        os.kill(workers[0].pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_one)
    thread.start()
    with pytest.raises(TransientError, match=r"was ended by SIGKILL .* What is finished is kept"):
        build_index(
            FakeModel(), videos, tmp_path / "index", make=LocalProcesses(load_slow, 2, HERE)
        )
    thread.join()
    report = build_index(FakeModel(), videos, tmp_path / "index", settings=HERE)
    assert 0 < report.encoded < 60
    build_index(FakeModel(), videos, tmp_path / "one", settings=HERE)
    assert contents(tmp_path / "index") == contents(tmp_path / "one")


@pytest.mark.slow
def test_a_cluster_makes_the_same_bytes(videos: Path, tmp_path: Path) -> None:
    build_index(FakeModel(), videos, tmp_path / "one", settings=HERE)
    make = ClusterRun(load, RunnerConfig("dask", workers=2), HERE)
    report = build_index(FakeModel(), videos, tmp_path / "two", make=make)
    assert report.encoded == 60
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_an_unknown_cluster_is_refused(videos: Path, tmp_path: Path) -> None:
    make = ClusterRun(load, RunnerConfig("slurm"), HERE)
    with pytest.raises(UserError, match="runner=slurm: valid: dask, ray"):
        build_index(FakeModel(), videos, tmp_path / "index", make=make)
