"""Kinetics' lists: releases' spellings of them, and how downloads lay the videos out."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from vidprompt.data.annotations.base import Annotation, Source
from vidprompt.data.annotations.kinetics import read_kinetics
from vidprompt.system.errors import DataError, UserError

HEADER = "label,youtube_id,time_start,time_end,split"
TIE, HEAD, PET = "tying knot (not on a tie)", "massaging person's head", 'petting, "not cat"'
TRAIN = [
    (TIE, "-3B32lodo2M", "59", "69"),
    (PET, "_dbc_JuKJQ_", "0", "10"),
    (HEAD, "twice000000", "7", "17"),
    (HEAD, "twice000000", "83", "93"),
]
VAL = [(HEAD, "--nQbRBEz2s", "1104", "1114")]
TEST = [(TIE, "--6bJUbfpnQ", "17", "27")]
# The stem of each clip's file, in the order of the lists.
STEMS = [
    "-3B32lodo2M_000059_000069",
    "_dbc_JuKJQ__000000_000010",
    "twice000000_000007_000017",
    "twice000000_000083_000093",
    "--nQbRBEz2s_001104_001114",
]


def write_list(path: Path, rows: Sequence[tuple[str, ...]], header: str = HEADER) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(header + "\n")
        csv.writer(file, lineterminator="\n").writerows((*row, "split") for row in rows)


def write(root: Path, folder: str = "annotations", names: str = "{}.csv") -> Source:
    write_list(root / folder / names.format("train"), TRAIN)
    write_list(root / folder / names.format("val"), VAL)
    return Source("k", root)


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(source: Source) -> dict[str, str]:
    """The stems of the clips that are there, and their files."""
    rows = read_kinetics(source).annotations
    return {row.video_id.removeprefix("k/"): row.path for row in rows if row.exists}


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("annotations", "{}.csv"),
        ("annotations/kinetics400", "{}.csv"),
        ("annotations/kinetics600", "kinetics-600_{}.csv"),
        ("annotations", "kinetics_{}.csv"),
        (".", "{}.csv"),
        (".", "kinetics400_{}.csv"),
        (".", "k400_{}.csv"),
        (".", "Kinetics_400_{}.csv"),
    ],
)
def test_lists_give_ids_labels_roles_and_groups(tmp_path: Path, folder: str, names: str) -> None:
    source = write(tmp_path, folder, names)
    write_list(tmp_path / folder / "test.csv", TEST)  # not asked for
    (tmp_path / "annotations").mkdir(exist_ok=True)  # may be there for other things
    (tmp_path / "videos").mkdir()
    listing = read_kinetics(source)
    assert listing.classes == sorted([TIE, HEAD, PET])
    assert [row.video_id for row in listing.annotations] == [f"k/{stem}" for stem in STEMS]
    assert [row.label for row in listing.annotations] == [TIE, PET, HEAD, HEAD, HEAD]
    assert [row.split1 for row in listing.annotations] == ["train"] * 4 + ["val"]
    assert listing.annotations[1] == Annotation(
        video_id="k/_dbc_JuKJQ__000000_000010",
        source="k",
        path=f"videos/train/{PET}/_dbc_JuKJQ__000000_000010.mp4",
        kind="video",
        label=PET,
        group="_dbc_JuKJQ_",
        split1="train",
        exists=False,
    )
    assert listing.annotations[-1].path == f"videos/val/{HEAD}/{STEMS[-1]}.mp4"


def test_columns_go_by_the_header(tmp_path: Path) -> None:
    text = f'\ufeffis_cc,split,time_end,Label,time_start,youtube_id\r\n0,train,69.0,"{TIE}",59.0,abc\r\n\r\n'
    (tmp_path / "train.csv").write_bytes(text.encode())
    write_list(tmp_path / "validate.csv", VAL)
    rows = read_kinetics(Source("k", tmp_path)).annotations
    assert [(row.video_id, row.label) for row in rows] == [
        ("k/abc_000059_000069", TIE),
        (f"k/{STEMS[-1]}", HEAD),
    ]
    assert rows[0].path == f"train/{TIE}/abc_000059_000069.mp4"


@pytest.mark.parametrize("videos", ["videos", "k400", "k600", "kinetics400", "kinetics600", "."])
@pytest.mark.parametrize(
    "layout",
    [
        "{stem}.mp4",
        "{name}/{stem}.webm",
        "{name}/{label}/{stem}.mkv",
        "{name}/{underscored}/{stem}.mp4",
        "{label}/{stem}.avi",
        "videos_{name}/{bare}/{stem}.mp4",
    ],
)
def test_videos_are_found_in_any_folder(tmp_path: Path, videos: str, layout: str) -> None:
    source = write(tmp_path)
    expected = {}
    for stem, label in zip(STEMS, (TIE, PET, HEAD, HEAD, HEAD), strict=True):
        path = layout.format(
            stem=stem,
            name="val" if stem == STEMS[-1] else "train",
            label=label,
            underscored=label.replace(" ", "_"),
            bare="".join(
                letter for letter in label.replace(" ", "_") if letter.isalnum() or letter == "_"
            ),
        )
        expected[stem] = path if videos == "." else f"{videos}/{path}"
    put(*(tmp_path / path for path in expected.values()))
    assert found(source) == expected


@pytest.mark.parametrize("lists", ["kinetics400", "k400", "annotations/kinetics400"])
def test_a_folder_of_lists_is_not_taken_for_the_videos(tmp_path: Path, lists: str) -> None:
    """The lists' archive unpacks to kinetics400/, beside train/ and val/ as the videos' tools make them."""
    source = write(tmp_path, lists)
    (tmp_path / "videos").mkdir()  # nor an empty one
    train, val = f"train/{HEAD}/{STEMS[2]}.mp4", f"val/{HEAD}/{STEMS[-1]}.mp4"
    put(tmp_path / train, tmp_path / val)
    assert found(source) == {STEMS[2]: train, STEMS[-1]: val}
    missing = next(row for row in read_kinetics(source).annotations if not row.exists)
    assert missing.path == f"train/{TIE}/{STEMS[0]}.mp4"


@pytest.mark.parametrize(
    "folder",
    ["replacement", "replacement_for_corrupted_k400", "replacement/replacement_for_corrupted_k400"],
)
def test_replacements_come_first(tmp_path: Path, folder: str) -> None:
    source = write(tmp_path)
    put(
        tmp_path / "k400/a train" / f"{STEMS[0]}.mp4",
        tmp_path / "k400" / folder / f"{STEMS[0]}.mp4",
    )
    put(tmp_path / "k400/train" / f"{STEMS[1]}.mp4")
    assert found(source) == {
        STEMS[0]: f"k400/{folder}/{STEMS[0]}.mp4",
        STEMS[1]: f"k400/train/{STEMS[1]}.mp4",
    }


def test_a_file_named_by_the_id_alone_needs_an_id_of_one_clip(tmp_path: Path) -> None:
    source = write(tmp_path)
    put(*(tmp_path / "videos" / f"{row[1]}.mp4" for row in TRAIN + VAL))
    put(tmp_path / "videos" / f"{STEMS[0]}.mp4")
    assert found(source) == {
        STEMS[0]: f"videos/{STEMS[0]}.mp4",
        STEMS[1]: "videos/_dbc_JuKJQ_.mp4",
        STEMS[4]: "videos/--nQbRBEz2s.mp4",
    }


def test_the_lists_that_are_named_are_read(tmp_path: Path) -> None:
    write(tmp_path)
    write_list(tmp_path / "annotations/test.csv", TEST)
    rows = read_kinetics(Source("k", tmp_path, {"lists": ["test", "train", "val"]})).annotations
    assert [row.split1 for row in rows] == ["train"] * 4 + ["val", "test"]
    (tmp_path / "annotations/train.csv").unlink()  # and no other is needed
    rows = read_kinetics(Source("k", tmp_path, {"lists": ["val", "test"]})).annotations
    assert [row.split1 for row in rows] == ["val", "test"]
    assert rows[-1].path == f"test/{TIE}/--6bJUbfpnQ_000017_000027.mp4"
    (tmp_path / "annotations/test.csv").write_text(
        "youtube_id,time_start,time_end,split\nabc,17,27,test\n"
    )
    assert len(read_kinetics(Source("k", tmp_path, {"lists": ["val"]})).annotations) == 1
    with pytest.raises(DataError, match=r"test\.csv:1: this release of the list has no labels"):
        read_kinetics(Source("k", tmp_path, {"lists": ["test"]}))
    for lists in ("test", [], ["valid"]):
        with pytest.raises(UserError, match="give some of train, val, test, as a list"):
            read_kinetics(Source("k", tmp_path, {"lists": lists}))
    with pytest.raises(
        UserError, match=r"test_on is no option of a source: set lists: \[val, test\]"
    ):
        read_kinetics(Source("k", tmp_path, {"test_on": "test"}))


def test_a_clip_under_two_labels_keeps_the_first(tmp_path: Path) -> None:
    source = write(tmp_path)
    write_list(tmp_path / "annotations/train.csv", [*TRAIN, (HEAD, *TRAIN[0][1:]), TRAIN[1]])
    put(tmp_path / f"{TRAIN[0][1]}.mp4")  # still an id of one clip
    with pytest.warns(UserWarning, match="k: 2 rows repeat a clip"):
        listing = read_kinetics(source)
    assert [row.label for row in listing.annotations] == [TIE, PET, HEAD, HEAD, HEAD]
    assert listing.annotations[0].exists


def test_a_clip_in_two_lists_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path)
    write_list(tmp_path / "annotations/val.csv", [*VAL, TRAIN[1]])
    with pytest.raises(DataError, match=rf"val\.csv:3: {STEMS[1]} is also at .*train\.csv:3"):
        read_kinetics(source)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (f"{HEAD},abc,1", "expected 4 columns, found 3"),
        (",abc,1,11,val", "expected label and YouTube id"),
        (f"{HEAD},../abc,1,11,val", "expected label and YouTube id"),
        (f"{HEAD},,1,11,val", "expected label and YouTube id"),
        ("../up,abc,1,11,val", "leads out"),
        (f"{HEAD},abc,1.5,11,val", "whole seconds, found '1.5'"),
        (f"{HEAD},abc,-1,11,val", "whole seconds, found '-1'"),
        (f"{HEAD},abc,1,nan,val", "whole seconds, found 'nan'"),
        (f"{HEAD},abc,1,inf,val", "whole seconds, found 'inf'"),
        (f"{HEAD},abc,1,,val", "whole seconds, found ''"),
        (
            f'"{HEAD},abc,1,11,val\n{HEAD},abd,1,11,val',
            "expected 4 columns, found 1",
        ),  # an open quote
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: str, says: str) -> None:
    source = write(tmp_path)
    (tmp_path / "annotations/val.csv").write_text(f'{HEADER}\n"two\nlines",xyz,1,11,val\n\n{row}\n')
    with pytest.raises(DataError, match=r"val\.csv:5: .*" + says):
        read_kinetics(source)


@pytest.mark.parametrize("header", ["", "path label", "label,youtube_id,start,end"])
def test_other_lists_are_refused(tmp_path: Path, header: str) -> None:
    source = write(tmp_path)
    write_list(tmp_path / "annotations/train.csv", TRAIN, header)
    with pytest.raises(DataError, match=r"train\.csv:1: no column .*time_start, time_end"):
        read_kinetics(source)


def test_missing_and_ambiguous_lists(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no train\.csv"):
        read_kinetics(Source("k", tmp_path))
    source = write(tmp_path)
    (tmp_path / "annotations/val.csv").rename(tmp_path / "annotations/other.csv")
    with pytest.raises(DataError, match=r"has no val\.csv or validate\.csv or validation\.csv"):
        read_kinetics(source)
    write_list(tmp_path / "annotations/val.csv", VAL)
    write_list(tmp_path / "annotations/kinetics_validate.csv", VAL)
    with pytest.raises(
        DataError, match=r"kinetics_validate\.csv and .*val\.csv are both val lists"
    ):
        read_kinetics(source)
    write(tmp_path, "annotations/kinetics600")
    with pytest.raises(DataError, match="in the option 'annotations' of k"):
        read_kinetics(source)
    chosen = Source("k", tmp_path, {"annotations": "annotations/kinetics600"})
    assert len(read_kinetics(chosen).annotations) == 5


def test_lists_of_another_kind_in_the_root_do_not_matter(tmp_path: Path) -> None:
    source = write(tmp_path)
    (tmp_path / "train.csv").write_text("videos/a.mp4 0\n")
    assert len(read_kinetics(source).annotations) == 5
