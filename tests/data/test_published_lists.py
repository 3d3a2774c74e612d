"""Published lists taken as they are."""

from pathlib import Path

import pandas as pd
import pytest

from vidprompt.data.splits.published_lists import check_maps, label_maps, split_from_lists
from vidprompt.data.splits.split_file import Subset
from vidprompt.system.errors import DataError, UserError

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


def test_a_label_map_names_the_classes_as_the_manifest_writes_them(tmp_path) -> None:
    lists = "wave/other.avi 0\nbrush_hair/clip 2.avi 1\n"
    split = take(tmp_path, "id,name\n0,Wave\n1,brush hair\n2,Jump\n", test=lists)
    assert split.tests["test"].classes == ["wave", "brush_hair", "Jump"]  # Jump has no video here


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "wave/other.avi 0\nwave/gone.avi 0\n",
            r"test\.txt:2: wave/gone\.avi is not in the manifest",
        ),
        ("clip 1.avi 0\n", r"may be s/b/clip 1 or s/w/clip 1: list it with its folder"),
        ("wave/other.avi 0\nbrush_hair/clip 1.avi 0\n", r":2: label 0 stands for 'wave' before"),
        ("wave/other.avi 0\nwave/clip 1.avi 1\n", r"labels 0 and 1 are both 'wave'"),
        ("elsewhere/a.avi 0\nelsewhere/b.avi 0\n", r"nor are 1 more of 2 .* of another dataset\?"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        take(tmp_path, test=text)


def official(rows: list[tuple[str, str]], **columns: list[object]) -> pd.DataFrame:
    """A manifest of (path, label): the id is the path without its first folder."""
    table = pd.DataFrame(rows, columns=["path", "label"])
    ids = "d/" + table["path"].str.partition("/")[2]
    return table.assign(video_id=ids, **columns)


def listed(folder: Path, manifest: pd.DataFrame, text: str, **maps: str) -> Subset:
    """The list `test` of a text, with the label maps `label_map` (of all parts) or `<part>`."""
    (folder / "l.txt").write_text(text)
    paths = {}
    for part, names in maps.items():
        paths["" if part == "label_map" else part] = folder / f"{part}.csv"
        (folder / f"{part}.csv").write_text(names)
    files = {"test": folder / "l.txt"}
    split = split_from_lists(manifest, files, id="zero_shot/d@p", run="r", label_map=paths)
    return split.tests["test"]


UCF = official(
    [
        ("UCF-101/SoccerPenalty/v_SoccerPenalty_g04_c03.avi", "SoccerPenalty"),
        ("UCF-101/JumpingJack/v_JumpingJack_g06_c05.avi", "JumpingJack"),
        ("UCF-101/CricketShot/v_CricketShot_g04_c06.avi", "CricketShot"),
        ("UCF-101/HandstandPushups/v_HandStandPushups_g01_c01.avi", "HandstandPushups"),
    ]
)


@pytest.mark.parametrize(
    "line",
    [
        "/media/of authors/Data_for/UCF_101/{} 70 {}",
        "/media/of authors/Data_for/UCF_101/{}.avi 70 {}",
        "{} 70 {}",
        "{} {}",
        "{}.mp4,{}",
        "D:\\data\\UCF\\{}.avi {}",
        "SomeClass/{}\t70\t{}",
    ],
)
def test_paths_of_other_machines_are_found_by_their_end(tmp_path, line: str) -> None:
    names = ["v_SoccerPenalty_g04_c03", "v_JumpingJack_g06_c05", "v_HandstandPushups_g01_c01"]
    rows = [line.format(name, label) for name, label in zip(names, (84, 46, 36), strict=True)]
    found = listed(tmp_path, UCF, "\n".join(rows))
    assert found.classes == ["HandstandPushups", "JumpingJack", "SoccerPenalty"]
    assert found.videos == [UCF["video_id"][i] for i in (0, 1, 3)]
    assert found.labels == [2, 1, 0]


def test_names_with_dots_and_without_suffix_are_found(tmp_path) -> None:
    name = "Mr._Bean_-_vol.2_wave_u_nm_np1_fr_med_0"
    manifest = official([(f"videos/wave/{name}.avi", "wave"), ("videos/run/Mr.avi", "run")])
    for form in (f"wave/{name} 53 50", f"{name}.avi 50"):
        assert listed(tmp_path, manifest, form).videos == [f"d/wave/{name}.avi"]


def test_of_equal_names_the_longest_end_decides_or_nothing(tmp_path) -> None:
    rows = [("videos/a/x/1.mp4", "p"), ("videos/b/x/1.mp4", "q"), ("videos/b/x/1.avi", "r")]
    manifest = official(rows)
    assert listed(tmp_path, manifest, "/m/a/x/1 0\n").videos == ["d/a/x/1.mp4"]
    assert listed(tmp_path, manifest, "b/x/1.avi 0\n").videos == ["d/b/x/1.avi"]
    unclear = {"/m/x/1.mp4": ("a/x/1.mp4", "b/x/1.mp4"), "/m/b/x/1": ("b/x/1.mp4", "b/x/1.avi")}
    for path, (one, other) in unclear.items():
        with pytest.raises(DataError, match=rf"l\.txt:1: {path} may be d/{one} or d/{other}"):
            listed(tmp_path, manifest, f"{path} 0\n")


def test_a_youtube_id_is_its_clip_in_the_list_of_the_others(tmp_path) -> None:
    stems = ["--07WQ2iBlw_000001_000011", "0wR5jVB-WPk_000417_000427", "0wR5jVB-WPk_000001_000011"]
    rows = [(f"videos/{stem}.mp4", "abseiling") for stem in stems]
    roles: list[object] = ["val", "val", "train"]
    manifest = official(rows, split1=roles)
    text = "0wR5jVB-WPk 299 0\n--07WQ2iBlw 272 0\n"
    assert listed(tmp_path, manifest, text).videos == [f"d/{stem}.mp4" for stem in stems[1::-1]]
    with pytest.raises(
        DataError, match=r"may be d/0wR5jVB-WPk_000417_000427.mp4 or d/0wR5jVB-WPk_0"
    ):
        listed(tmp_path, official(rows), text)


def test_of_two_numbers_the_manifest_says_which_is_the_label(tmp_path) -> None:
    rows = [(f"v/{label}/{label}_{i}.avi", label) for label in ("clap", "run") for i in (1, 2)]
    frames: list[object] = [53, 70, 48, 99]
    text = "clap_1 53 4\nclap_2 70 4\nrun_1 48 9\nrun_2 99 9\n"
    swapped = "clap_1 4 53\nclap_2 4 70\nrun_1 9 48\nrun_2 9 99\n"
    for manifest in (official(rows), official(rows, n_frames=frames)):
        for one in (text, swapped):
            assert listed(tmp_path, manifest, one).classes == ["clap", "run"]
    # one video a class: both columns tell them apart, so known frames say it, or the label map
    text = "clap_1 4 53\nrun_1 9 48\n"
    by_last = listed(tmp_path, official(rows), text)
    assert (by_last.classes, by_last.labels) == (["run", "clap"], [1, 0])
    counted = listed(tmp_path, official(rows, n_frames=frames), text)
    mapped = listed(tmp_path, official(rows), text, label_map="4,clap\n9,run\n48,walk\n53,sit\n")
    assert (counted.classes, counted.labels) == (["clap", "run"], [0, 1])
    assert (mapped.classes[:2], mapped.labels) == (["clap", "run"], [0, 1])


def test_a_table_says_itself_which_column_is_the_label(tmp_path) -> None:
    rows = [("v/clap_1.avi", "clap"), ("v/clap_2.avi", "clap"), ("v/run_1.avi", "run")]
    text = "path,n_frames,label\nclap_1,4,53\nclap_2,4,70\nrun_1,9,48\n"
    with pytest.raises(DataError, match="labels 53 and 70 are both 'clap'"):
        listed(tmp_path, official(rows), text)


HMDB = official(
    [
        (f"videos/{label}/The_Matrix_{i}_{label}_f_cm_np1_le_med_{i}.avi", label)
        for label in ("catch", "kick", "kick_ball")
        for i in (2, 6)
    ]
)
SWAPPED = "id,name\n2,catch\n20,kick ball\n21,kick\n"


def test_the_videos_decide_against_a_label_map(tmp_path) -> None:
    def names(*labels: tuple[str, int]) -> str:
        stems = HMDB["path"].str.rpartition("/")[2]
        return "".join(
            f"{stem} {number}\n"
            for label, number in labels
            for stem in stems[HMDB["label"] == label]
        )

    both = names(("catch", 2), ("kick", 20), ("kick_ball", 21))
    says = r"l\.txt: the labels of 2 of 3 .*20 is 'kick_ball' there, and its 2 videos are 'kick'"
    with pytest.warns(UserWarning, match=says):
        found = listed(tmp_path, HMDB, both, label_map=SWAPPED)
    assert found.classes == ["catch", "kick", "kick_ball"]
    assert found.labels == [0, 0, 1, 1, 2, 2]
    # of a swap, the id without a listed video is the other class
    with pytest.warns(UserWarning, match="the labels of 1 of 1 classes contradict"):
        found = listed(tmp_path, HMDB, names(("kick", 20)), label_map=SWAPPED)
    assert found.classes == ["catch", "kick", "kick_ball"]
    # a right map has nothing to report
    listed(tmp_path, HMDB, both, label_map="2,catch\n20,kick\n21,kick ball\n")


def test_a_video_that_is_listed_twice_is_taken_once(tmp_path) -> None:
    text = "v_CricketShot_g04_c06 23\nv_JumpingJack_g06_c05 46\nv_CricketShot_g04_c06 23\n"
    with pytest.warns(
        UserWarning, match=r"1 of 3 rows repeat a video, which is taken once .*l\.txt:3"
    ):
        found = listed(tmp_path, UCF, text)
    assert (len(found.videos), found.labels) == (2, [0, 1])


def test_each_part_has_its_own_label_map_and_training_that_of_base(tmp_path) -> None:
    for part, text in {
        "train": "v_JumpingJack_g06_c05 0\n",
        "base": "v_SoccerPenalty_g04_c03 1\n",
        "novel": "v_CricketShot_g04_c06 1\n",
    }.items():
        (tmp_path / f"{part}.txt").write_text(text)
    (tmp_path / "base.csv").write_text("0,JumpingJack\n1,SoccerPenalty\n")
    (tmp_path / "novel.csv").write_text("0,HandstandPushups\n1,CricketShot\n")
    split = split_from_lists(
        UCF,
        {part: tmp_path / f"{part}.txt" for part in ("train", "base", "novel")},
        id="base_to_novel/d@p",
        run="r",
        label_map={part: tmp_path / f"{part}.csv" for part in ("base", "novel")},
    )
    assert split.train is not None
    assert split.train.classes == split.tests["base"].classes == ["JumpingJack", "SoccerPenalty"]
    assert split.tests["novel"].classes == ["HandstandPushups", "CricketShot"]
    assert [split.train.labels, split.tests["base"].labels] == [[0], [1]]


def test_label_maps_of_the_command_line(tmp_path) -> None:
    (tmp_path / "a=b.csv").write_text("")
    assert label_maps(["base=x.csv", "all.csv", str(tmp_path / "a=b.csv")][:2]) == {
        "base": Path("x.csv"),
        "": Path("all.csv"),
    }
    assert label_maps([str(tmp_path / "a=b.csv")]) == {"": tmp_path / "a=b.csv"}
    for given in (["a.csv", "b.csv"], ["base=a", "base=b"], ["base="]):
        with pytest.raises(UserError, match="one for each part"):
            label_maps(given)
    with pytest.raises(UserError, match="'nvel', which has no list: did you mean novel"):
        check_maps("base_to_novel/d@p", ("base", "novel"), ("", "nvel"))
