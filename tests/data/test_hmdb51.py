"""HMDB-51's lists: every layout of lists and videos, and names as they really are."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from vidprompt.data.annotations.base import Annotation, Source
from vidprompt.data.annotations.hmdb51 import film_of, read_hmdb51
from vidprompt.system.errors import DataError

TAIL = "f_cm_np1_ba_med_0"
# Official ones, or with what official ones hold; the last is a letter and its accent in one character.
CLIMB = f"(HQ)_Rock & Roll; don't_[look]_#7_-_STOP!_climb_{TAIL}.avi"
STAIRS = f"Goalkeeper_climb_climb_stairs_{TAIL}.avi"
ACCENT = unicodedata.normalize("NFC", f"Turnkür_climb_{TAIL}.avi")
ODD = "my own video.avi"


def write_lists(folder: Path, **changed: str) -> None:
    """Two classes, one of whose names begins the other's; `class__N` replaces that list's text."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, role in ((1, 1), (2, 2), (3, 0)):
        lists = {
            "climb": f"{CLIMB} {role} \n{ACCENT} 1 \n{ODD} 2\t\n",
            "climb_stairs": f"{STAIRS} {3 - role if role else 0} \n\n",
        }
        for label, text in lists.items():
            given = changed.get(f"{label}__{split}", text)
            (folder / f"{label}_test_split{split}.txt").write_text(given, encoding="utf-8")
    (folder / "class_list.txt").write_text("climb\n")
    (folder / "._climb_test_split1.txt").write_bytes(b"\xff macOS")


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def read(root: Path, **options: str) -> dict[str, Annotation]:
    listing = read_hmdb51(Source("hmdb", root, options))
    assert listing.classes == ["climb", "climb_stairs"]
    return {row.video_id: row for row in listing.annotations}


@pytest.mark.parametrize(
    "folder",
    [
        "annotations",
        "testTrainMulti_7030_splits",
        "test_train_splits",
        "annotations/testTrainMulti_7030_splits",
        "test_train_splits/testTrainMulti_7030_splits",
    ],
)
def test_lists_give_ids_roles_and_groups(tmp_path: Path, folder: str) -> None:
    write_lists(tmp_path / folder)
    rows = read(tmp_path)
    assert {key: (row.label, row.split1, row.split2, row.split3) for key, row in rows.items()} == {
        f"hmdb/climb/{CLIMB}": ("climb", "train", "test", ""),
        f"hmdb/climb/{ACCENT}": ("climb", "train", "train", "train"),
        f"hmdb/climb/{ODD}": ("climb", "test", "test", "test"),
        f"hmdb/climb_stairs/{STAIRS}": ("climb_stairs", "test", "train", ""),
    }
    assert rows[f"hmdb/climb/{CLIMB}"] == Annotation(
        video_id=f"hmdb/climb/{CLIMB}",
        source="hmdb",
        path=f"videos/climb/{CLIMB}",
        kind="video",
        label="climb",
        group="(HQ)_Rock & Roll; don't_[look]_#7_-_STOP!",
        split1="train",
        split2="test",
        exists=False,
    )


@pytest.mark.parametrize(
    ("name", "label", "film"),
    [
        (STAIRS, "climb_stairs", "Goalkeeper_climb"),
        ("Cati_Flic_Flac_flic_flac_f_cm_np1_ri_med_0.avi", "flic_flac", "Cati_Flic_Flac"),
        (
            "mortero_rondo_flic_flac_flic_flac_f_cm_np1_ri_bad_0.avi",
            "flic_flac",
            "mortero_rondo_flic_flac",
        ),
        ("TheBoondockSaints_drink_u_nm_np2_fr_goo_99.avi", "drink", "TheBoondockSaints"),
        ("TheBoondockSaints_kick_u_nm_np2_fr_goo_9.avi", "kick", "TheBoondockSaints"),
        ("TheBoondockSaints_kick_u_nm_np2_fr_goo_9.avi", "drink", ""),
        (unicodedata.normalize("NFD", ACCENT), "climb", "Turnkür"),
        (ODD, "climb", ""),
    ],
)
def test_the_group_is_the_film(name: str, label: str, film: str) -> None:
    assert film_of(name, label) == unicodedata.normalize("NFC", film)


@pytest.mark.parametrize("folder", ["videos", "hmdb51_org", "HMDB51", "hmdb51_org/hmdb51_org", "."])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_videos_are_found(
    tmp_path: Path, folder: str, flat: bool, form: Literal["NFC", "NFD"]
) -> None:
    write_lists(tmp_path / "annotations")
    paths = {}
    for label, name in (("climb", CLIMB), ("climb", ACCENT), ("climb_stairs", STAIRS)):
        on_disk = unicodedata.normalize(form, name).replace(".avi", ".mp4" if flat else ".avi")
        below = on_disk if flat else f"{label}/{on_disk}"
        paths[f"hmdb/{label}/{name}"] = below if folder == "." else f"{folder}/{below}"
    for path in paths.values():
        put(tmp_path / path)
    rows = read(tmp_path)
    assert {key: row.path for key, row in rows.items() if row.exists} == paths
    gone = rows[f"hmdb/climb/{ODD}"]
    named = folder.partition("/")[0]
    assert (gone.path, gone.exists) == (
        f"climb/{ODD}" if folder == "." else f"{named}/climb/{ODD}",
        False,
    )


def test_a_name_of_two_classes_is_taken_from_its_own_folder_only(tmp_path: Path) -> None:
    write_lists(tmp_path / "annotations", climb_stairs__1=f"{CLIMB} 1\n")
    own, other = (f"hmdb/{label}/{CLIMB}" for label in ("climb", "climb_stairs"))
    put(tmp_path / "videos/climb" / CLIMB)
    rows = read(tmp_path)
    assert (rows[own].path, rows[own].exists) == (f"videos/climb/{CLIMB}", True)
    assert (rows[other].path, rows[other].exists) == (f"videos/climb_stairs/{CLIMB}", False)
    put(tmp_path / "videos/climb_stairs" / CLIMB)
    assert read(tmp_path)[other].exists
    for label in ("climb", "climb_stairs"):
        (tmp_path / "videos" / label / CLIMB).unlink()
    put(tmp_path / "videos" / CLIMB)  # whose is it?
    rows = read(tmp_path)
    assert not rows[own].exists
    assert not rows[other].exists


def test_options_name_the_folders(tmp_path: Path) -> None:
    write_lists(tmp_path / "my lists")
    put(tmp_path / "climb" / "clips" / CLIMB)  # a class's name above the videos says nothing
    put(tmp_path / "climb" / "clips" / STAIRS)
    rows = read(tmp_path, annotations="my lists", videos="climb/clips/")
    assert rows[f"hmdb/climb/{CLIMB}"].path == f"climb/clips/{CLIMB}"
    assert rows[f"hmdb/climb_stairs/{STAIRS}"].path == f"climb/clips/{STAIRS}"
    assert rows[f"hmdb/climb/{ODD}"].path == f"climb/clips/climb/{ODD}"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"{CLIMB} 1", "listed twice in split 2"),
        ("other.avi 3", "'3' is no role"),
        ("other.avi 11", "'11' is no role"),
        ("other.avi", "expected 'name.avi"),
        ("two words.avi", "expected 'name.avi"),
        ("other 1", "expected 'name.avi"),
        ("../other.avi 1", "leads out"),
        ("walk/other.avi 1", "without a folder"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, says: str) -> None:
    write_lists(tmp_path / "annotations", climb__2=f"{CLIMB} 1 \n\n{line} \n")
    with pytest.raises(DataError, match=r"climb_test_split2\.txt:3: .*" + says):
        read(tmp_path)


def test_missing_lists_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "annotations"
    write_lists(folder)
    (folder / "climb_stairs_test_split3.txt").unlink()
    with pytest.raises(DataError, match=r"climb_stairs_test_split3\.txt is missing"):
        read(tmp_path)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"has no list <class>_test_split"):
        read(tmp_path)
