"""UCF-101's annotation files, with their traps."""

import pytest

from vidprompt.data.annotations import Source, read_annotations
from vidprompt.system.errors import DataError


def write(root, classes="1 ApplyEyeMakeup\n2 HandstandPushups\n", train="", test="") -> None:
    folder = root / "annotations"
    folder.mkdir(exist_ok=True)
    (folder / "classInd.txt").write_text(classes)
    for split in (1, 2, 3):
        (folder / f"trainlist0{split}.txt").write_text(train if split == 1 else "")
        (folder / f"testlist0{split}.txt").write_text(test if split == 1 else "")


def test_handstand_pushups_is_one_class(tmp_path) -> None:
    write(
        tmp_path,
        train="HandstandPushups/v_HandStandPushups_g08_c01.avi 2\n",
        test="HandStandPushups/v_HandStandPushups_g01_c01.avi\n",
    )
    rows = read_annotations("ucf101", Source("ucf", tmp_path)).annotations
    assert [row.label for row in rows] == ["HandstandPushups"] * 2
    assert {(row.split1, row.group) for row in rows} == {
        ("train", "HandstandPushups/g08"),
        ("test", "HandstandPushups/g01"),
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 2", "label 2 is not the class"),
        ("../v_ApplyEyeMakeup_g01_c01.avi 1", "is not in classInd"),
        ("Diving/v_Diving_g01_c01.avi 1", "is not in classInd"),
        ("ApplyEyeMakeup/v_ApplyEyeMakeup.avi 1", "has no group"),
        ("v_ApplyEyeMakeup_g01_c01.avi 1", "expected 'Class/file"),
    ],
)
def test_bad_lines_are_named(tmp_path, line: str, says: str) -> None:
    write(tmp_path, train=f"ApplyEyeMakeup/v_ApplyEyeMakeup_g09_c01.avi 1\n{line}\n")
    with pytest.raises(DataError, match=r"trainlist01.txt:2") as caught:
        read_annotations("ucf101", Source("ucf", tmp_path))
    assert says in str(caught.value) or ".." in line


def test_missing_and_misnumbered_class_lists(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no folder of annotations .*ucfTrainTestlist"):
        read_annotations("ucf101", Source("ucf", tmp_path))
    write(tmp_path, classes="2 ApplyEyeMakeup\n")
    with pytest.raises(DataError, match=r"classInd\.txt:1"):
        read_annotations("ucf101", Source("ucf", tmp_path))


@pytest.mark.parametrize(
    "file",
    [
        "videos/HandstandPushups/v_HandStandPushups_g08_c01.avi",
        "UCF-101/HandstandPushups/v_HandStandPushups_g08_c01.avi",
        "videos/v_HandStandPushups_g08_c01.mp4",
        "videos/handstand pushups/v_HandStandPushups_g08_c01.MKV",
        "HandstandPushups/v_HandStandPushups_g08_c01.avi",
        "v_HandStandPushups_g08_c01.avi",
        "UCF101/HandstandPushups/v_HandStandPushups_g08_c01.avi",
    ],
)
def test_layouts_found_in_the_wild(tmp_path, file: str) -> None:
    """Whatever the folders and the container: the id stays, and the path is what is there."""
    write(tmp_path, train="HandstandPushups/v_HandStandPushups_g08_c01.avi 2\n")
    (tmp_path / "annotations").rename(tmp_path / "ucfTrainTestlist")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(b"x")
    (row,) = read_annotations("ucf101", Source("ucf", tmp_path)).annotations
    assert row.exists
    assert row.path == file
    assert row.video_id == "ucf/HandstandPushups/v_HandStandPushups_g08_c01.avi"


def test_a_missing_video_stays_listed_under_the_name_it_would_have(tmp_path) -> None:
    write(tmp_path, train="ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n")
    listing = read_annotations("ucf101", Source("ucf", tmp_path))
    (row,) = listing.annotations
    assert not row.exists
    assert row.path == "videos/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi"
    assert listing.classes == ["ApplyEyeMakeup", "HandstandPushups"]


def test_a_missing_video_beside_class_folders_in_the_source(tmp_path) -> None:
    name = "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c0{}.avi"
    write(tmp_path, train=f"{name.format(1)} 1\n{name.format(2)} 1\n")
    (tmp_path / "UCF-101").mkdir()  # holds no video, so it is not where they lie
    (tmp_path / "ApplyEyeMakeup").mkdir()
    (tmp_path / name.format(2)).write_bytes(b"x")
    rows = read_annotations("ucf101", Source("ucf", tmp_path)).annotations
    assert [(row.path, row.exists) for row in rows] == [
        (name.format(1), False),
        (name.format(2), True),
    ]
