"""Class folders with what cameras, downloads and people leave there: opening decides what is a video."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest
from tests.data.make_videos import write_video

from vidprompt.data.annotations.base import Annotation, DatasetAnnotations, Source
from vidprompt.data.annotations.folder import read_folder
from vidprompt.data.annotations.video_files import VideoFiles
from vidprompt.data.manifest.health import Health
from vidprompt.data.probe.videos import probe_video
from vidprompt.system.errors import DataError


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One clip as .mp4, .gif and .mts, and a sound."""
    folder = tmp_path_factory.mktemp("clips")
    mp4 = write_video(folder / "h264.mp4", n=12, height=48, width=64)
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
    for name in ("a.gif", "a.mts"):
        subprocess.run([*ffmpeg, "-i", mp4, folder / name], check=True)
    sine = ["-f", "lavfi", "-i", "sine=duration=0.2"]
    subprocess.run([*ffmpeg, *sine, folder / "a.ogg"], check=True)
    return {"mp4": mp4, **{path.suffix[1:]: path for path in folder.glob("a.*")}}


def put(root: Path, **files: Path | str) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            (root / name).write_text(content, encoding="utf-8")
        else:
            shutil.copy(content, root / name)


def read(root: Path) -> DatasetAnnotations:
    return read_folder(Source("mine", root, {}))


def names(rows: list[Annotation]) -> list[str]:
    return sorted(row.path for row in rows)


def test_opening_decides_and_all_else_is_named(tmp_path: Path, clips: dict[str, Path]) -> None:
    kept = {"wave/1.gif": clips["gif"], "wave/2.GIF": clips["gif"], "walk/1.MTS": clips["mts"]}
    kept |= {"walk/2.mp4.mp4": clips["mp4"], "walk/none": clips["mp4"], "jump/x.clip": clips["mp4"]}
    kept |= {"jump/2.Mp4": clips["mp4"]}
    put(tmp_path, **kept)
    put(tmp_path, **{"walk/README": "notes", "walk/a.txt": "x", "jump/b.csv": "x", "list": "ü"})
    put(tmp_path, **{"walk/.DS_Store": "x", "jump/sound": clips["ogg"], "docs/c.json": "{}"})
    (tmp_path / "empty").mkdir()
    (tmp_path / "again").symlink_to(tmp_path / "walk")
    os.mkfifo(tmp_path / "walk/pipe.mp4")
    listing = read(tmp_path)
    again = {f"again/{path[5:]}" for path in kept if path.startswith("walk/")}  # it comes first
    assert names(listing.annotations) == sorted(again | {p for p in kept if p[:4] != "walk"})
    assert listing.classes == ["again", "jump", "wave"]
    assert listing.notes == (
        "mine: 3 files are no videos by their names (.csv 1, .json 1, .txt 1): again/a.txt,"
        " docs/c.json, jump/b.csv",
        "mine: 3 files are no videos (opened): list, again/README, jump/sound",
        "mine: 1 hidden file is not read: again/.DS_Store",
        "mine: 1 entry is no regular file or a link that leads nowhere: again/pipe.mp4",
        "mine: 1 link leads to a folder that is read already: walk",
        "mine: 3 folders have no video and are no class: docs, empty, walk",
    )


def test_a_link_that_leads_nowhere_is_a_missing_video(
    tmp_path: Path, clips: dict[str, Path]
) -> None:
    put(tmp_path, **{"walk/a.mp4": clips["mp4"], "walk/b.mp4": clips["mp4"]})
    (tmp_path / "walk/c.mp4").symlink_to("/gone/c.mp4")
    (tmp_path / "walk/loop.mp4").symlink_to("loop.mp4")
    rows = read(tmp_path).annotations
    assert [row.exists for row in sorted(rows, key=lambda row: row.path)] == [
        True,
        True,
        False,
        False,
    ]
    assert probe_video(tmp_path / "walk/c.mp4", 1).health is Health.MISSING


def test_no_video_at_all_says_what_is_there(tmp_path: Path) -> None:
    put(tmp_path, **{"walk/a.txt": "x", "walk/b": "y"})
    with pytest.raises(DataError, match=r"no videos \(1 file is no video by its name \(\.txt 1\)"):
        read(tmp_path)


def test_a_listed_stem_is_found_by_any_suffix(tmp_path: Path) -> None:
    put(tmp_path, **{"a.avi.mp4": "", "b": "", "c.strange": "", "c.txt": "", "d.mts": "", "d": ""})
    files = VideoFiles(tmp_path)
    found = {stem: files.find(stem) for stem in "abcde"}
    assert found == {"a": "a.avi.mp4", "b": "b", "c": "c.strange", "d": "d.mts", "e": None}
