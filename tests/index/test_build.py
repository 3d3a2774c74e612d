"""An index follows its folder: what is new is encoded, what is known is kept, what is gone is dropped."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_model import READ, FakeInput, FakeModel, feature_of, write_videos

from vidprompt.index import plan
from vidprompt.index.build import build_index
from vidprompt.index.encode import EncodeSettings
from vidprompt.index.search import Index
from vidprompt.index.store import read_info
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.locks import exclusive_lock

HERE = EncodeSettings(workers=0)
TEXTS = {f"class {n % 3}/video {n:03}": f"content {n}" for n in range(40)}


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_VIDEOS", 10)
    READ.clear()


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return write_videos(tmp_path / "videos", TEXTS)


def build(videos: Path, out: Path, **options: object) -> object:
    return build_index(FakeModel(), videos, out, settings=HERE, **options)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def features(index: Path) -> dict[str, np.ndarray]:
    opened = Index(index, FakeModel())
    rows = opened._rows["video"].to_pylist()
    return dict(zip(rows, opened._row_features(np.arange(len(rows))), strict=True))


def test_every_video_has_the_feature_of_the_model(videos: Path, tmp_path: Path) -> None:
    report = build(videos, tmp_path / "index")
    assert (report.videos, report.rows, report.failed, report.encoded) == (40, 40, 0, 40)
    assert len(read_info(tmp_path / "index").shards) > 3
    stored = features(tmp_path / "index")
    assert list(stored) == sorted(f"{name}.mp4" for name in TEXTS)
    for name, text in TEXTS.items():
        np.testing.assert_allclose(stored[f"{name}.mp4"], feature_of(text), atol=1e-6)


def test_a_second_run_reads_no_video_and_changes_no_byte(videos: Path, tmp_path: Path) -> None:
    build(videos, tmp_path / "index")
    before = contents(tmp_path / "index")
    READ.clear()
    assert build(videos, tmp_path / "index").encoded == 0
    assert not READ
    assert contents(tmp_path / "index") == before


def test_only_new_and_changed_files_are_read_and_the_result_is_that_of_a_new_index(
    videos: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    build(videos, index)
    READ.clear()
    write_videos(videos, {"new/one": "a new one", "class 1/video 001": "other content"})
    os.utime(videos / "class 2/video 002.mp4", (1, 1))  # touched, not changed
    (videos / "class 0/video 003.mp4").unlink()
    report = build(videos, index)
    assert sorted(READ) == ["one.mp4", "video 001.mp4"]
    assert (report.encoded, report.dropped, report.videos) == (2, 1, 40)
    build(videos, tmp_path / "again")
    assert contents(index) == contents(tmp_path / "again")
    READ.clear()
    build(videos, index)
    assert not READ  # the touched file's new time is noted


def test_failed_videos_are_rows_with_a_reason_and_are_tried_again(
    videos: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    write_videos(videos, {"a": "broken", "z": "broken"})
    report = build(videos, index)
    assert (report.videos, report.failed) == (40, 2)
    assert report.failures == tuple((n, "it cannot be read as a video") for n in ("a.mp4", "z.mp4"))
    before = contents(index)
    READ.clear()
    assert build(videos, index).encoded == 0
    assert READ == ["a.mp4", "z.mp4"]
    assert contents(index) == before
    write_videos(videos, {"a": "healed"})
    report = build(videos, index)
    assert (report.videos, report.failed, report.encoded) == (41, 1, 1)
    build(videos, tmp_path / "again")
    assert contents(index) == contents(tmp_path / "again")


def test_a_video_that_fails_after_it_was_good_has_no_row(videos: Path, tmp_path: Path) -> None:
    build(videos, tmp_path / "index")
    write_videos(videos, {"class 1/video 001": "broken"})
    report = build(videos, tmp_path / "index")
    assert (report.videos, report.failed, report.dropped) == (39, 1, 0)


def test_windows_are_rows_with_their_times(tmp_path: Path) -> None:
    videos = write_videos(tmp_path / "videos", {"a": "one two three", "b": "four"})
    report = build(videos, tmp_path / "index", window=2, stride=1)
    assert (report.rows, report.videos) == (4, 2)
    opened = Index(tmp_path / "index", FakeModel())
    (hit, *_) = opened.search("two", top=1)
    assert (hit.video, hit.start, hit.end) == ("a.mp4", 1, 3)
    with pytest.raises(UserError, match="a row a window of 2 s every 1 s, and a row a video"):
        build(videos, tmp_path / "index")


def test_another_model_and_another_folder_are_refused(videos: Path, tmp_path: Path) -> None:
    build(videos, tmp_path / "index")
    other = FakeModel("other", "other-identity")
    with pytest.raises(UserError, match=r"model fake \(fake-identity\), and other \(other-ident"):
        build_index(other, videos, tmp_path / "index", settings=HERE)
    elsewhere = write_videos(tmp_path / "elsewhere", {"a": "x"})
    with pytest.raises(UserError, match=r"is the index of .*videos: choose another --out"):
        build(elsewhere, tmp_path / "index")
    videos.rename(tmp_path / "moved")
    READ.clear()
    assert build(tmp_path / "moved", tmp_path / "index").encoded == 0
    assert not READ


def test_folders_that_cannot_be_used(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        build(tmp_path / "none", tmp_path / "index")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no video"):
        build(tmp_path / "empty", tmp_path / "index")
    with pytest.raises(UserError, match="has other files and no index"):
        build(videos, videos)
    for wrong in ({"window": 0.0}, {"window": 2.0, "stride": 0.0}, {"stride": 1.0}):
        with pytest.raises(UserError, match=r"seconds|stride"):
            build(videos, tmp_path / "index", **wrong)


def test_an_emptied_folder_does_not_empty_the_index(videos: Path, tmp_path: Path) -> None:
    """As of a disk that is not mounted."""
    build(videos, tmp_path / "index")
    before = contents(tmp_path / "index")
    shutil.rmtree(videos)
    videos.mkdir()
    with pytest.raises(DataError, match="has no video"):
        build(videos, tmp_path / "index")
    assert contents(tmp_path / "index") == before


def test_two_runs_on_one_index_are_one_sentence(videos: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    with (
        exclusive_lock(index, index / "lock"),
        pytest.raises(UserError, match="another process is at work in"),
    ):
        build(videos, index)


def test_an_index_inside_the_folder_is_not_searched_for_videos(
    videos: Path, tmp_path: Path
) -> None:
    build(videos, videos / "index")
    write_videos(videos / "index/search", {"x": "no video"})
    assert build(videos, videos / "index").videos == 40


def test_a_damaged_shard_is_made_again(videos: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    build(videos, index)
    before = contents(index)
    name = read_info(index).shards[0].name
    (index / f"shards/{name}.parquet").unlink()
    build(videos, index)
    assert contents(index) == before


def _build_slowly(videos: Path, out: Path) -> None:
    plan.SHARD_VIDEOS = 5
    model = replace(FakeModel(), input=FakeInput(seconds=0.01))
    build_index(model, videos, out, settings=HERE)


def test_a_killed_run_is_continued_to_the_same_bytes(videos: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    build(videos, tmp_path / "whole")
    process = context.Process(target=_build_slowly, args=(videos, tmp_path / "killed"))
    process.start()
    shards = tmp_path / "killed/shards"
    while not list(shards.glob("*.parquet")):
        process.join(0.005)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "killed/index.json").exists()
    done = len(list(shards.glob("*.parquet")))
    READ.clear()
    report = build(videos, tmp_path / "killed")
    assert 0 < report.encoded < 40
    assert len(READ) == report.encoded
    assert done < len(read_info(tmp_path / "killed").shards)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
