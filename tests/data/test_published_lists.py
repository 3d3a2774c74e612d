"""Published lists taken as they are."""

from pathlib import Path

import pandas as pd
import pytest

from vidprompt.data.splits.published_lists import split_from_lists
from vidprompt.system.errors import DataError

ROWS = [
    ("s/b/clip 1", "videos/brush_hair/clip 1.avi", "brush_hair"),
    ("s/b/clip 2", "videos/brush_hair/clip 2.avi", "brush_hair"),
    ("s/w/clip 1", "videos/wave/clip 1.avi", "wave"),
    ("s/w/other", "videos/wave/other.avi", "wave"),
]
MANIFEST = pd.DataFrame(ROWS, columns=["video_id", "path", "label"])


def take(folder: Path, label_map: str = "", **lists: str):
    files = {}
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text)
        files[name] = folder / f"{name}.txt"
    (folder / "map.csv").write_text(label_map)
    return split_from_lists(
        MANIFEST,
        files,
        id="base_to_novel/x@published",
        run="r",
        label_map=folder / "map.csv" if label_map else None,
    )


def test_order_labels_and_subsets_are_the_lists(tmp_path) -> None:
    split = take(
        tmp_path,
        train="wave/clip 1.mp4 1\nbrush_hair/clip 2.mp4 0\n",
        base="some/where/brush_hair/clip 1.mp4 0\nwave/clip 1.mp4 1\n",
        novel="other.mp4 0\n",
    )
    assert split.protocol == "base_to_novel"
    assert split.train is not None
    assert split.train.videos == ["s/w/clip 1", "s/b/clip 2"]
    assert split.train.classes == ["brush_hair", "wave"]
    assert split.train.labels == [1, 0]
    assert split.tests["base"].videos == ["s/b/clip 1", "s/w/clip 1"]
    assert (split.tests["novel"].classes, split.tests["novel"].labels) == (["wave"], [0])


def test_a_label_map_names_the_classes_and_is_held_against_the_manifest(tmp_path) -> None:
    lists = "wave/other.avi 0\nbrush_hair/clip 2.avi 1\n"
    split = take(tmp_path, "id,name\n0,Wave\n1,brush hair\n", test=lists)
    assert split.tests["test"].classes == ["wave", "brush_hair"]
    with pytest.raises(DataError, match=r"labelled 'brush hair', annotated 'wave'"):
        take(tmp_path, "id,name\n0,brush hair\n1,wave\n", test=lists)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "wave/other.avi 0\nwave/gone.avi 0\n",
            r"test\.txt:2: wave/gone\.avi is not in the manifest",
        ),
        ("clip 1.avi 0\n", r"may be s/b/clip 1 or s/w/clip 1: list it with its folder"),
        ("wave/other.avi 0\nbrush_hair/clip 1.avi 0\n", r"label 0 stands for 'wave' before"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        take(tmp_path, test=text)
