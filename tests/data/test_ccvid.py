"""CCVID's lists: what is read from them and what is refused, by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidprompt.data.annotations.base import Annotation, Source
from vidprompt.data.annotations.ccvid import camera_of, read_ccvid
from vidprompt.system.errors import DataError

GOOD = {
    "train": "session1/001_01\t001\tu0_l0_s0_c0_a0\nsession3/001_12\t001\tu1_l1_s0_c0_a0\n",
    "query": "session2/076_03\t076\tu0_l0_s0_c0_a0\n",
    "gallery": "session3/076_03\t076\tu2_l0_s0_c0_a0\n",
}


def lists(root: Path, **changed: str) -> Path:
    for name, text in {**GOOD, **changed}.items():
        (root / f"{name}.txt").write_bytes(text.encode())
    return root


def test_reads_roles_cameras_and_clothes(tmp_path: Path) -> None:
    found = read_ccvid(Source("people", lists(tmp_path))).annotations
    assert found[0] == Annotation(
        video_id="people/session1/001_01",
        source="people",
        path="session1/001_01",
        kind="frames",
        label="001",
        group="001",
        split1="train",
        camera=1,
        clothes="u0_l0_s0_c0_a0",
        exists=False,
    )
    assert [a.split1 for a in found] == ["train", "train", "query", "gallery"]
    assert [a.camera for a in found] == [1, 24, 3, 15]
    assert len({a.clothes for a in found}) == 3
    assert (
        len({(a.label, a.clothes) for a in found}) == 4
    )  # the same string on another person differs


def test_the_third_session_alone_is_shifted() -> None:
    paths = ["session1/001_04", "session2/001_04", "session3/001_04", "session30/001_04"]
    assert [camera_of(path) for path in paths] == [4, 4, 16, 4]


def test_windows_ends_blank_lines_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    text = "\ufeff" + GOOD["train"].replace("\n", "\r\n") + "\r\n\n"
    plain = read_ccvid(Source("p", lists(tmp_path))).annotations
    assert read_ccvid(Source("p", lists(tmp_path, train=text))).annotations == plain


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("session1/001_01 001 u0", r"found 1 column"),
        ("session1/001_01\t001", r"found 2 column"),
        ("session1/001_01\t001\tu0\tmore", r"found 4 column"),
        ("session1/001_01\t\tu0", r"2 not empty"),
        ("../other/001_01\t001\tu0", r"leads out of"),
        ("session1/../../001_01\t001\tu0", r"leads out of"),
        ("/session1/001_01\t001\tu0", r"leads out of"),
        ("..\\other\\001_01\t001\tu0", r"leads out of"),
        ("C:/session1/001_01\t001\tu0", r"leads out of"),
        ("session1/001\t001\tu0", r"no camera"),
        ("session1/001_one\t001\tu0", r"no camera"),
        (".\t001\tu0", r"no camera"),
        ("session2/076_03\t076\tu0", r"listed twice; the first time at .*query\.txt:1"),
        ("./session3//076_03\t076\tu0", r"listed twice; the first time at .*gallery\.txt:1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    root = lists(tmp_path, gallery=f"{GOOD['gallery']}\n{line}\n")
    with pytest.raises(DataError, match=rf"gallery\.txt:3: .*{message}"):
        read_ccvid(Source("people", root))


def test_a_missing_or_unreadable_list_is_named(tmp_path: Path) -> None:
    lists(tmp_path)
    (tmp_path / "gallery.txt").write_bytes(b"session1/\xff")
    with pytest.raises(DataError, match=r"gallery\.txt is not UTF-8"):
        read_ccvid(Source("people", tmp_path))
    (tmp_path / "query.txt").unlink()
    with pytest.raises(DataError, match=r"query\.txt is missing"):
        read_ccvid(Source("people", tmp_path))
