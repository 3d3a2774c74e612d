"""What was found out about files is kept, and found out again when it may have changed."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from make_videos import make
from PIL import Image

from vidprompt.config import paths
from vidprompt.config.compose import compose
from vidprompt.data.manifest.health import Health
from vidprompt.data.manifest.table import read_manifest
from vidprompt.data.probe import cache as probe_cache
from vidprompt.data.probe.cache import ProbeCache, probe_cached
from vidprompt.data.probe.result import Limits, ProbeResult
from vidprompt.pipeline.stages import manifest

ROOT = Path(__file__).parents[2]
ITEMS = [("a.mp4", "video"), ("b.mp4", "video"), ("person", "frames")]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made"), "b_frames.mp4")


@pytest.fixture
def root(video: Path, tmp_path: Path) -> Path:
    """Two videos and a folder of frames."""
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(video, tmp_path / name)
    (tmp_path / "person").mkdir()
    for number in range(9):
        Image.new("RGB", (16, 32), (number, 0, 0)).save(tmp_path / f"person/{number}.png")
    return tmp_path


class Messages(logging.Handler):
    """Collects what the cache logs."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def probe_all(
    root: Path, min_frames: int = 8, limits: Limits | None = None, items: Any = ITEMS
) -> tuple[list[ProbeResult], int, list[str]]:
    """The probes, how many were known, and the messages."""
    messages = Messages()
    probe_cache.logger.addHandler(messages)
    with ProbeCache(root / "probes.sqlite", limits or Limits(timeout_s=60)) as cache:
        probes, known = probe_cached(items, root, cache, min_frames, workers=1)
    probe_cache.logger.removeHandler(messages)
    return probes, known, messages.texts


def overwrite(path: Path, content: bytes) -> None:
    """New content of the same length at the same time of change."""
    state = path.stat()
    path.write_bytes(content.ljust(state.st_size, b"\0")[: state.st_size])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_a_second_run_opens_no_file(root: Path) -> None:
    first, known, _ = probe_all(root)
    assert (known, {probe.health for probe in first}) == (0, {Health.OK})
    for name in ("a.mp4", "b.mp4", "person/0.png", "person/8.png"):
        overwrite(root / name, b"nothing that can be decoded")
    assert probe_all(root) == (first, 3, [])
    os.utime(root / "a.mp4")
    os.utime(root / "person/8.png")
    again, known, _ = probe_all(root)
    assert known == 1
    assert [probe.health for probe in again] == [
        Health.NOT_A_VIDEO,
        Health.OK,
        Health.UNDECODABLE,
    ]


def test_a_folder_of_frames_that_lost_one_is_probed_again(root: Path) -> None:
    probe_all(root)
    newest = max((root / "person").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    other = next(path for path in (root / "person").iterdir() if path != newest)
    other.unlink()
    again, known, _ = probe_all(root)
    assert (known, again[2].n_frames) == (2, 8)


def test_how_many_frames_are_needed_is_asked_when_reading(root: Path) -> None:
    probe_all(root, min_frames=100)
    for name in ("a.mp4", "b.mp4"):
        overwrite(root / name, b"nothing that can be decoded")
    probes, known, _ = probe_all(root, min_frames=20)
    assert known == 3
    assert [probe.health for probe in probes] == [Health.OK, Health.OK, Health.TOO_FEW_FRAMES]
    assert "It is intact and has 9 frames; 20 are needed." in probes[2].detail


def test_what_depends_on_a_limit_holds_for_that_limit(root: Path) -> None:
    items = ITEMS[:1]
    small = Limits(timeout_s=60, max_pixels=100 * 96)
    assert probe_all(root, limits=small, items=items)[0][0].health is Health.TOO_LARGE
    assert probe_all(root, limits=small, items=items)[1] == 1
    probes, known, _ = probe_all(root, items=items)
    assert (known, probes[0].health) == (0, Health.OK)
    other_time = Limits(timeout_s=30)
    assert probe_all(root, limits=other_time, items=items)[1] == 1  # it was not the time
    probes, known, _ = probe_all(root, limits=small, items=items)
    assert (known, probes[0].health) == (0, Health.TOO_LARGE)


def test_another_version_of_the_code_or_the_decoders_probes_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe_all(root, items=ITEMS[:1])
    assert "av " in probe_cache.probe_version()
    assert "decord " in probe_cache.probe_version()
    monkeypatch.setattr(probe_cache, "PROBE_VERSION", 10_000)
    assert probe_all(root, items=ITEMS[:1])[1] == 0
    assert probe_all(root, items=ITEMS[:1])[1] == 1


def test_what_cannot_be_opened_is_looked_for_again(root: Path) -> None:
    (root / "folder.mp4").mkdir()
    items = [("gone.mp4", "video"), ("folder.mp4", "video")]
    assert probe_all(root, items=items)[1] == 0
    assert probe_all(root, items=items)[1] == 0
    shutil.copy(root / "a.mp4", root / "gone.mp4")
    assert probe_all(root, items=items)[0][0].health is Health.OK


def break_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(255 - byte for byte in data[4096:])
    path.write_bytes(data)


def write_text(path: Path) -> None:
    path.write_text("not a database, but text" * 100, encoding="utf-8")


def write_other_table(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE probes (something)")
    base.close()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])


@pytest.mark.parametrize("damage", [break_pages, write_text, write_other_table, cut])
def test_a_damaged_cache_is_set_aside_and_said(root: Path, damage: Any) -> None:
    probes, _, _ = probe_all(root)
    damage(root / "probes.sqlite")
    again, known, messages = probe_all(root)
    assert (again, known) == (probes, 0)
    assert len(messages) == 1
    assert "probes.sqlite cannot be used" in messages[0]
    assert "probes.sqlite.damaged" in messages[0]
    assert (root / "probes.sqlite.damaged").exists()
    assert probe_all(root) == (probes, 3, [])


def test_a_row_that_cannot_be_understood_is_not_known(root: Path) -> None:
    probes, _, _ = probe_all(root)
    with sqlite3.connect(root / "probes.sqlite") as base:
        base.execute("UPDATE probes SET probe = '{\"health\": \"odd\"}' WHERE kind = 'video'")
    base.close()
    assert probe_all(root) == (probes, 1, [])


def test_a_cache_that_cannot_be_kept_is_done_without(root: Path) -> None:
    (root / "probes.sqlite").mkdir()
    probes, known, messages = probe_all(root)
    assert (known, [probe.health for probe in probes]) == (0, [Health.OK] * 3)
    assert len(messages) == 1
    assert "probes are not kept in this run" in messages[0]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "data/own/walk").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_stage_asks_each_file_once(
    project: Path, video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        shutil.copy(video, f"data/own/walk/{number}.mp4")
    config = compose(["dataset=own"])
    manifest.run(config)
    first = paths.manifest("own").read_bytes()
    assert "were known" not in caplog.text
    caplog.clear()
    overwrite(Path("data/own/walk/1.mp4"), b"nothing that can be decoded")
    manifest.run(config)
    assert paths.manifest("own").read_bytes() == first
    assert "3 of 3 videos were known from cache/probes/own.sqlite" in caplog.text
    caplog.clear()
    os.utime("data/own/walk/1.mp4")
    manifest.run(config)
    table = read_manifest(paths.manifest("own")).set_index("path")
    assert table.loc["walk/1.mp4", "health"] == "not_a_video"
    assert "2 of 3 videos were known" in caplog.text


def test_a_run_that_was_killed_is_resumed(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The manifest is then the one of a run that was not, to the last byte."""
    large = make(project, "closed_gop.mp4", frames=100, size="640x480")
    for number in range(8):
        shutil.copy(large, f"data/own/walk/{number}.mp4")
    command = [Path(sys.executable).parent / "vidprompt", "manifest", "dataset=own", "workers=1"]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while _rows() == 0:
        assert killed.poll() is None, "it was done before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert 0 < _rows() < 8
    assert not paths.manifest("own").exists()
    manifest.run(compose(["dataset=own", "workers=1"]))
    assert "of 8 videos were known" in caplog.text
    bytes_ = paths.manifest("own").read_bytes()
    paths.probes("own").unlink()
    manifest.run(compose(["dataset=own", "workers=2"]))
    assert paths.manifest("own").read_bytes() == bytes_


def _rows() -> int:
    if not paths.probes("own").exists():
        return 0
    base = sqlite3.connect(f"file:{paths.probes('own')}?mode=ro", uri=True)
    try:
        return base.execute("SELECT count(*) FROM probes").fetchone()[0]
    except sqlite3.OperationalError:  # the table is being made
        return 0
    finally:
        base.close()
