"""Which videos the arguments of a command name."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from tests.data.make_videos import make

from vidprompt.prediction.inputs import InputKind, find_inputs
from vidprompt.system.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """clips/{a 2.mp4, a 10.mp4, day/b.MOV, notes.txt, poster.jpg, .hidden.mp4}, empty."""
    (tmp_path / "clips/day").mkdir(parents=True)
    for name in ("a 10.mp4", "a 2.mp4", "day/b.MOV", "notes.txt", ".hidden.mp4"):
        (tmp_path / "clips" / name).touch()
    Image.new("RGB", (8, 8)).save(tmp_path / "clips/poster.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*arguments: str, stdin: bytes = b"") -> list[str]:
    return [one.name for one in find_inputs(arguments, io.BytesIO(stdin)).videos]


def test_a_folder_is_searched_in_the_order_of_numbers(folder: Path) -> None:
    found = find_inputs(["clips"])
    assert [one.name for one in found.videos] == [
        "clips/a 2.mp4",
        "clips/a 10.mp4",
        "clips/day/b.MOV",
    ]
    assert any("notes.txt" in note for note in found.notes)


def test_what_is_a_video_is_decided_by_opening_it(folder: Path) -> None:
    make(folder, "short.mp4").rename(folder / "clips/no suffix")
    Image.new("RGB", (8, 8)).save(
        folder / "clips/moving.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")]
    )
    (folder / "clips/table.dat").write_bytes(b"\0\1\2" * 100)
    assert names("clips")[2:] == ["clips/day/b.MOV", "clips/moving.gif", "clips/no suffix"]


def test_folders_of_images_are_videos_where_there_is_no_other(folder: Path) -> None:
    for name in ("frames/one/1.png", "frames/one/2.png", "frames/two/1.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    assert names("frames") == ["frames/one", "frames/two"]
    assert names("frames/one") == ["frames/one"]


def test_patterns_lists_and_repeats(folder: Path) -> None:
    assert names("clips/*.mp4") == ["clips/a 2.mp4", "clips/a 10.mp4"]
    assert names("clips/**") == ["clips/a 2.mp4", "clips/a 10.mp4", "clips/day/b.MOV"]
    listed = b"\xef\xbb\xbfclips/a 2.mp4\r\n\r\nclips/day\n"
    assert names("-", "clips/a 2.mp4", stdin=listed) == ["clips/a 2.mp4", "clips/day/b.MOV"]
    assert names("-", stdin=b"clips/a 2.mp4\0clips/a 10.mp4\0") == [
        "clips/a 2.mp4",
        "clips/a 10.mp4",
    ]
    bracket = folder / "clips/[x].mp4"
    bracket.touch()
    assert names("clips/[x].mp4") == ["clips/[x].mp4"]


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("nothing.mp4", "no such file"),
        ("clips/*.avi", "no file fits"),
        ("file:///etc/passwd", "give the path alone"),
        ("ftp://host/a.mp4", "http, https or s3"),
        ("https://host/live/index.m3u8?token=1", "playlist"),
        ("x" * 300, "no such|too long"),
    ],
)
def test_what_cannot_be_read_is_a_row_with_its_reason(
    folder: Path, argument: str, reason: str
) -> None:
    failed, other = find_inputs([argument, "clips/a 2.mp4"]).videos
    assert failed.kind is InputKind.FAILED
    assert re.search(reason, failed.reason)
    assert other.kind is InputKind.LOCAL


@pytest.mark.parametrize(
    ("argument", "kind"),
    [
        ("https://host/a.mp4?x=1", InputKind.REMOTE),
        ("s3://bucket/a b.mp4", InputKind.REMOTE),
        ("rtsp://user:secret@camera/1", InputKind.STREAM),
        ("/dev/video0", InputKind.STREAM),
    ],
)
def test_addresses_and_streams(argument: str, kind: InputKind) -> None:
    assert [one.kind for one in find_inputs([argument]).videos] == [kind]


def test_no_video_at_all_is_an_error_that_says_what_is_there(folder: Path) -> None:
    (folder / "texts").mkdir()
    (folder / "texts/a.txt").touch()
    with pytest.raises(UserError, match=r"no video in texts .*a\.txt"):
        find_inputs(["texts"])
    with pytest.raises(UserError, match="no video"):
        names("-")
