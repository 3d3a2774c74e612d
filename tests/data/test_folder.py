"""People's own videos: class folders, lists, and the draw of a test set."""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprompt.data.annotations.base import Annotation, DatasetAnnotations, Source
from vidprompt.data.annotations.folder import draw_test, read_folder
from vidprompt.system.errors import DataError


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


def read(root: Path, **options: Any) -> DatasetAnnotations:
    return read_folder(Source("mine", root, options))


def roles(listing: DatasetAnnotations) -> dict[str, str]:
    return {a.video_id: a.split1 for a in listing.annotations}


@pytest.mark.parametrize("videos", ["videos", ".", "my clips"])
def test_class_folders_at_any_depth(tmp_path: Path, videos: str) -> None:
    touch(tmp_path / videos, "Walk 1/a.mp4", "Walk 1/day/b.AVI", "10/é, c.webm", "10/d.mp4")
    touch(tmp_path / videos, "Walk 1/notes.txt", ".trash/x.mp4")
    listing = read(tmp_path, **({"videos": videos} if videos == "my clips" else {}))
    prefix = "" if videos == "." else f"{videos}/"
    assert listing.classes == ["10", "Walk 1"]
    assert {(a.video_id, a.path, a.label) for a in listing.annotations} == {
        (f"mine/{path}", f"{prefix}{path}", path.split("/")[0])
        for path in ("Walk 1/a.mp4", "Walk 1/day/b.AVI", "10/é, c.webm", "10/d.mp4")
    }
    assert {a.kind for a in listing.annotations} == {"video"}
    by_class = sorted((a.label, a.split1) for a in listing.annotations)
    assert by_class == [(c, r) for c in ("10", "Walk 1") for r in ("test", "train")]


def test_roles_above_the_classes(tmp_path: Path) -> None:
    touch(tmp_path, "train/walk/a.mp4", "Test/walk/a.mp4", "validation/walk/deep/c.mp4")
    found = roles(read(tmp_path))
    assert found == {
        "mine/train/walk/a.mp4": "train",
        "mine/Test/walk/a.mp4": "test",
        "mine/validation/walk/deep/c.mp4": "",
    }
    (tmp_path / "Test/walk/a.mp4").unlink()
    assert set(roles(read(tmp_path)).values()) == {"train", "test"}  # validation plays the test set


def test_train_may_be_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.mp4", "train/b.mp4", "bus/a.mp4", "bus/b.mp4")
    assert read(tmp_path).classes == ["bus", "train"]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], r"has no videos .*as walking/clip 1\.mp4"),
        (["videos/a.mp4"], r"a\.mp4 lies in no class's folder: expected .*walking/clip 1\.mp4"),
        (["videos/walk/a.mp4", "videos/b.mp4"], r"b\.mp4 lies in no class's folder"),
        (["train/walk/a.mp4", "test/b.mp4"], r"test/b\.mp4 lies in no class's folder"),
        (["train/walk/a.mp4", "test/walk/b.mp4", "other/c.mp4"], r"train/ holds|test/ holds"),
    ],
)
def test_other_layouts_are_refused(tmp_path: Path, paths: list[str], message: str) -> None:
    touch(tmp_path, *paths)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_a_folder_videos_counts_only_with_something_in_it(tmp_path: Path) -> None:
    touch(tmp_path, "videos/notes.txt", "walk/a.mp4", "walk/b.mp4")
    assert {a.path for a in read(tmp_path).annotations} == {"walk/a.mp4", "walk/b.mp4"}
    touch(tmp_path, "videos/one/0001.jpg", "videos/two/0001.jpg")  # listed may be folders of frames
    (tmp_path / "list.txt").write_text("one 3 0\ntwo 3 0\n")
    rows = read(tmp_path, list="list.txt").annotations
    assert [(a.path, a.exists) for a in rows] == [("videos/one", True), ("videos/two", True)]


def test_a_list_with_frames_missing_files_and_a_label_map(tmp_path: Path) -> None:
    touch(tmp_path, "videos/b c.mp4", "videos/frames/1/0001.jpg", "elsewhere/d.mp4")
    (tmp_path / "videos/empty").mkdir()
    lines = "b c.mp4 9 1\nframes/1 30 0\ngone.mp4 5 1\nvideos/also gone 5 0\nempty 2 0\n"
    lines += f"elsewhere/d.mp4 7 1\n{tmp_path}/videos/absolute.mp4 3 0\n"
    (tmp_path / "list.txt").write_text(lines)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/classes.csv").write_text('id,name\n0,"walk, run"\n1,jump\n2,none\n')
    listing = read(tmp_path, list="list.txt", label_map="classes.csv")
    assert listing.classes == ["walk, run", "jump", "none"]
    assert [(a.video_id, a.path, a.kind, a.label, a.exists) for a in listing.annotations] == [
        ("mine/b c.mp4", "videos/b c.mp4", "video", "jump", True),
        ("mine/frames/1", "videos/frames/1", "frames", "walk, run", True),
        ("mine/gone.mp4", "videos/gone.mp4", "video", "jump", False),
        ("mine/also gone", "videos/also gone", "frames", "walk, run", False),
        ("mine/empty", "videos/empty", "frames", "walk, run", False),
        ("mine/elsewhere/d.mp4", "elsewhere/d.mp4", "video", "jump", True),
        ("mine/absolute.mp4", "videos/absolute.mp4", "video", "walk, run", False),
    ]


def test_lists_by_role_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a.mp4 0\nb.mp4 1\n")
    (tmp_path / "val.csv").write_text("path,label\nc.mp4,0\n")
    listing = read(tmp_path, list={"train": "train.txt", "validation": "val.csv"})
    assert roles(listing) == {"mine/a.mp4": "train", "mine/b.mp4": "train", "mine/c.mp4": "test"}
    assert listing.classes == ["0", "1"]


def test_columns_give_roles_and_groups(tmp_path: Path) -> None:
    text = "video,class,split,group\na.mp4,x,train,p1\nb.mp4,y,test,p2\nc.mp4,y,val,\nd.mp4,y,,\n"
    (tmp_path / "list.csv").write_text(text)
    found = read(tmp_path, list="list.csv").annotations
    assert [(a.split1, a.group) for a in found] == [
        ("train", "p1"),
        ("test", "p2"),
        ("", ""),
        ("", ""),
    ]
    with pytest.raises(DataError, match=r"list\.csv:3: its split is test, .* listed as train"):
        read(tmp_path, list={"train": "list.csv"})


def test_a_video_listed_twice_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "videos/a.mp4")
    (tmp_path / "train.txt").write_text("b.mp4 0\na.mp4 0\n")
    (tmp_path / "test.txt").write_text("videos/a.mp4 0\n")
    with pytest.raises(DataError, match=r"test\.txt:1: .*listed twice; the first .*train\.txt:2"):
        read(tmp_path, list={"train": "train.txt", "test": "test.txt"})


def test_a_missing_list_and_a_wrong_role_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list\.txt is missing"):
        read(tmp_path, list="list.txt")
    with pytest.raises(DataError, match=r"'learn' is no role"):
        read(tmp_path, list={"learn": "list.txt"})


def test_a_class_with_one_video_trains_and_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "many/a.mp4", "many/b.mp4", "one/a.mp4", "film/f1_a.mp4", "film/f1_b.mp4")
    with pytest.warns(UserWarning, match=r"1 of 3 classes.*: one$"):
        assert roles(read(tmp_path))["mine/one/a.mp4"] == "train"
    with pytest.warns(UserWarning, match=r"2 of 3 classes.*: film, one$"):
        read(tmp_path, group_pattern=r"^([a-z]\d?)")


def test_patterns_that_find_no_group_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "walk/p1_a.mp4", "walk/b.mp4")
    for pattern, message in [
        (r"(p\d+)_", r"walk/b\.mp4: group_pattern .* finds no group"),
        (r"p\d+_", "needs one group in brackets"),
        (r"(p", "is no regular expression"),
    ]:
        with pytest.raises(DataError, match=message):
            read(tmp_path, group_pattern=pattern)


@pytest.mark.parametrize("options", [{"test_share": 1}, {"test_share": "0.2"}, {"seed": -1}])
def test_bad_options_are_named(tmp_path: Path, options: dict[str, Any]) -> None:
    touch(tmp_path, "walk/a.mp4", "walk/b.mp4")
    with pytest.raises(DataError, match=f"option {next(iter(options))}="):
        read(tmp_path, **options)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "walk/a.mp4")
    try:
        (tmp_path / os.fsdecode(b"walk/\xe9.mp4")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes text only")
    with pytest.raises(DataError, match="is not UTF-8"):
        read(tmp_path)


_names = st.lists(
    st.tuples(st.sampled_from("xyz"), st.integers(0, 6), st.integers(0, 3)), min_size=1, unique=True
)


@given(_names, st.randoms(), st.integers(0, 5), st.sampled_from([0.1, 0.25, 0.5, 0.9]))
def test_the_draw_knows_neither_order_nor_other_classes(
    tmp_path_factory, names: list[tuple[str, int, int]], rng: random.Random, seed: int, share: float
) -> None:
    root = tmp_path_factory.mktemp("draw")
    lines = [f"{label}/p{person}_{take}.mp4,{label}" for label, person, take in names]

    def drawn(chosen: list[str]) -> list[Annotation]:
        (root / "list.csv").write_text("\n".join(["path,label", *chosen]))
        options = {"list": "list.csv", "group_pattern": r"^(p\d+)_", "seed": seed}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # classes with one group
            return read(root, test_share=share, **options).annotations

    first = drawn(lines)
    by_id = {a.video_id: a for a in first}
    shuffled = rng.sample(lines, len(lines))
    assert {a.video_id: a for a in drawn(shuffled)} == by_id
    for label in {a.label for a in first}:
        own = [a for a in first if a.label == label]
        alone = drawn([line for line in lines if line.endswith(f",{label}")])
        assert [by_id[a.video_id] for a in alone] == alone
        sides = {(a.group, a.split1) for a in own}
        groups = {a.group for a in own}
        assert groups == {f"{label}/p{person}" for x, person, _ in names if x == label}
        assert len(sides) == len(groups)  # each on one side
        assert {a.split1 for a in own} == ({"train", "test"} if len(groups) > 1 else {"train"})


def test_creation_order_does_not_matter(tmp_path: Path) -> None:
    paths = [f"{label}/{n}.mp4" for label in "xy" for n in range(12)]
    touch(tmp_path / "one", *paths)
    touch(tmp_path / "two", *reversed(paths))
    assert roles(read(tmp_path / "one")) == roles(read(tmp_path / "two"))


def test_share_and_seed_say_how_many_and_which() -> None:
    groups = [f"g{n}" for n in range(20)]
    sizes = {share: len(draw_test(groups, "x", share, 1)) for share in (0.01, 0.25, 0.99)}
    assert sizes == {0.01: 1, 0.25: 5, 0.99: 19}
    draws = {frozenset(draw_test(groups, label, 0.25, seed)) for label in "xy" for seed in (1, 2)}
    assert len(draws) == 4
