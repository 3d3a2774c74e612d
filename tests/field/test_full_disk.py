"""A disk that fills at any write of a stage: one sentence, nothing half is left, the same command goes on."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file
from tests.field.small_project import NAME, OVERRIDES, STAGES, make_project, outputs, run_stage
from tests.pipeline.project import environment

from vidprompt.data.manifest.health import Health
from vidprompt.data.probe.cache import ProbeCache
from vidprompt.data.probe.file_state import Stamp
from vidprompt.data.probe.result import Limits, ProbeResult
from vidprompt.data.shards.cache_build import index_writer
from vidprompt.files.atomic import replacing, replacing_folder, write_text
from vidprompt.system.machine_errors import DiskFullError, disk_full, machine_error
from vidprompt.training.step_log import StepLog

SLOW = ("validate", "report")  # Great Expectations, plots
NAMES = [pytest.param(s, marks=pytest.mark.slow if s in SLOW else ()) for s in STAGES]
# every write of a training: two snapshots, the step log, the checkpoint, and what it reports
FREQUENT = ("trainer.save_every=2",)
# what a run keeps for the next one: removed, so that every write is made again
KEPT = {"frames": "cache/frames/own", "train": "cache/training", "features": "cache/encoding"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project") / NAME
    make_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in STAGES:
            if stage not in SLOW:
                run_stage(stage)
        yield folder


class Disk:
    """Stands for os.fsync: the disk is full at call number `full_at`; `calls` counts them."""

    def __init__(self, full_at: int | None = None) -> None:
        self.calls, self.full_at = 0, full_at

    def fsync(self, _file: int) -> None:
        self.calls += 1
        if self.calls == self.full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("stage", NAMES)
def test_every_write_of_every_stage(
    project: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def run(disk: Disk) -> None:
        if stage in KEPT:
            shutil.rmtree(project / KEPT[stage], ignore_errors=True)
        monkeypatch.setattr(os, "fsync", disk.fsync)
        run_stage(stage, *FREQUENT)

    run(whole := Disk())
    wanted = outputs(project)
    assert whole.calls
    for number in range(1, whole.calls + 1):
        with pytest.raises(DiskFullError) as caught:
            run(Disk(full_at=number))
        message = str(caught.value)
        assert "cannot be written: No space left on device (" in message
        assert message.startswith(("cache/", "models/", "results/"))
        assert "free some space and run the same again" in message
        assert "\n" not in message
        assert not list(project.rglob("*.part"))
    monkeypatch.setattr(os, "fsync", Disk().fsync)
    run_stage(stage, *FREQUENT)  # from what the last failure left
    assert outputs(project) == wanted


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """No file may be larger: a real error of the system in every library."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _index(path: Path) -> None:
    row = {"video_id": "v", "shard": "s", "offset": 0, "n_frames": 1, "height": 1, "width": 1}
    numbers = list(range(5000))
    with index_writer(path) as write:
        write([row | {"lengths": numbers, "crc32": numbers, "source_frames": numbers}])


def _replaced(write: Callable[[Path], object]) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        with replacing(path) as temporary:
            write(temporary)

    return run


NOISE = np.random.default_rng(0).random(5000)
WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: write_text(path, "x" * 20_000),
    "parquet": _replaced(lambda path: pq.write_table(pa.table({"a": NOISE}), path)),
    "arrow": _index,
    "safetensors": _replaced(lambda path: save_file({"a": NOISE}, path)),
    "copy": _replaced(lambda path: shutil.copyfile(__file__, path)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_library_that_writes(tmp_path: Path, name: str) -> None:
    path = tmp_path / "out" / "file"
    with limited_files(2048), pytest.raises(DiskFullError) as caught:
        WRITERS[name](path)
    assert str(caught.value).startswith(f"{path} cannot be written: File too large (a limit on")
    assert list(path.parent.iterdir()) == []
    WRITERS[name](path)
    before = path.read_bytes()
    with limited_files(2048), pytest.raises(DiskFullError):
        WRITERS[name](path)
    assert path.read_bytes() == before


def test_probes_that_cannot_be_kept_stop_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, mark = tmp_path / "probes.sqlite", Stamp(1, 1, 1)
    result = ProbeResult(Health.OK, "x" * 5000)

    def fill() -> None:
        with ProbeCache(cache, Limits()) as opened:
            for number in range(8):
                opened.put(str(number), "video", mark, result)

    with limited_files(16_384):
        fill()
    [message] = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert message.startswith(f"{cache}: ")
    assert message.endswith("probes are not kept in this run")
    fill()  # the file is whole
    with ProbeCache(cache, Limits()) as opened:
        assert opened.get("7", "video", mark) == result


def test_a_folder_of_pages_is_replaced_as_a_whole(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    with replacing_folder(pages) as folder:
        (folder / "index.html").write_text("old")

    def write() -> None:
        with replacing_folder(pages) as folder, limited_files(100):
            (folder / "a.html").write_text("new")
            (folder / "index.html").write_text("new" * 100)

    with pytest.raises(DiskFullError, match=f"^{pages} cannot be written"):
        write()
    assert [path.name for path in tmp_path.rglob("*")] == ["pages", "index.html"]
    assert (pages / "index.html").read_text() == "old"


def test_a_step_that_cannot_be_logged_is_a_sentence(tmp_path: Path) -> None:
    def write() -> None:
        with StepLog(tmp_path, 0, tensorboard=False) as log:
            log._file = Path("/dev/full").open("a", encoding="utf-8")  # noqa: SIM115
            log.write({"step": 1})

    with pytest.raises(DiskFullError, match=r"steps.jsonl cannot be written: No space left"):
        write()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        OSError(
            "[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"
        ),
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]),
        sqlite3.OperationalError("database or disk is full"),
        SafetensorError('IoError(Os { code: 28, kind: StorageFull, message: "…" })'),
        SafetensorError("I/O error: No space left on device (os error 28)"),
        RuntimeError(
            "Caught OSError in DataLoader worker process 0.\nOSError: [Errno 28] No space"
        ),
    ],
)
def test_what_says_that_a_disk_is_full(error: Exception) -> None:
    raised = ValueError("it went wrong")
    raised.__cause__ = error
    assert str(disk_full(raised, "cache/x")).startswith("cache/x cannot be written: ")
    assert "maybe in" in str(disk_full(raised))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOENT, "No such file or directory", "28"),
        ValueError("class 28 has no space"),
        RuntimeError("exit code: 2"),
        KeyError(28),
    ],
)
def test_what_does_not(error: Exception) -> None:
    assert disk_full(error) is None
    assert machine_error(error) is None


def test_the_sentence_names_what_is_written_and_what_is_free(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "read.mp4")
    error.filename2 = str(tmp_path / "deep/er/copy.mp4")
    message = str(disk_full(error))
    assert message.startswith(f"{tmp_path}/deep/er/copy.mp4 cannot be written: No space left on")
    assert "B are free on this disk)" in message


FULL = """
set -e
mount -t tmpfs -o size=$SIZE tmpfs cache
cp -r ready/cache/. cache/ 2>/dev/null || true
vidprompt $STAGE "$@"
"""


@pytest.mark.slow  # a minute; where a user may mount a file system
@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_is_really_full(tmp_path: Path, stage: str) -> None:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    make_project(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for before in STAGES[: STAGES.index(stage)]:
            run_stage(before)
    (tmp_path / "ready").mkdir()
    if (tmp_path / "cache").is_dir():
        shutil.move(tmp_path / "cache", tmp_path / "ready/cache")
    (tmp_path / "cache").mkdir()
    ready = sum(4096 + p.stat().st_size for p in (tmp_path / "ready").rglob("*") if p.is_file())
    codes = []
    for spare in (8, 16, 32, 64, 128, 256, 1024, 100_000):
        size = f"{(ready // 1024) + spare}k"
        done = subprocess.run(
            ["unshare", "-m", "bash", "-c", FULL, "bash", *OVERRIDES],
            cwd=tmp_path,
            env=environment() | {"SIZE": size, "STAGE": stage},
            capture_output=True,
            text=True,
        )
        codes.append(done.returncode)
        assert done.returncode in (0, 2), done.stderr
        assert "Traceback" not in done.stderr
        if done.returncode:
            assert "No space left on device" in done.stderr.splitlines()[-1]
        assert not list(tmp_path.rglob("*.part"))
    assert codes[-1] == 0
