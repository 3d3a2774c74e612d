"""UCF-101's annotation files, with their traps."""

import pytest

from vidprompt.data.annotations import read_annotations
from vidprompt.errors import DataError


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
    rows = read_annotations("ucf101", tmp_path, "ucf")
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
        read_annotations("ucf101", tmp_path, "ucf")
    assert says in str(caught.value) or ".." in line


def test_missing_and_misnumbered_class_lists(tmp_path) -> None:
    with pytest.raises(DataError, match="is missing"):
        read_annotations("ucf101", tmp_path, "ucf")
    write(tmp_path, classes="2 ApplyEyeMakeup\n")
    with pytest.raises(DataError, match=r"classInd\.txt:1"):
        read_annotations("ucf101", tmp_path, "ucf")
