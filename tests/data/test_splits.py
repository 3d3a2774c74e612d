"""The protocols on a hand-made manifest."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprompt.data.splits import protocols as splits
from vidprompt.data.splits.split_file import Split, read_split, write_split
from vidprompt.system.errors import DataError


def manifest(counts: dict[str, int], tests: int = 2, broken: str = "") -> pd.DataFrame:
    rows = []
    for label, count in counts.items():
        for i in range(count + tests):
            video = f"s/{label}/{i:02d}"
            rows.append(
                {
                    "video_id": video,
                    "label": label,
                    "health": "empty" if video == broken else "ok",
                    "split1": "train" if i < count else "test",
                }
            )
    return pd.DataFrame(rows)


def test_the_rarest_classes_are_novel_and_ties_go_by_name() -> None:
    rows = manifest({"d": 5, "a": 9, "c": 5, "b": 5, "e": 7})
    base, novel = splits.base_and_novel(rows[rows["split1"] == "train"])
    assert novel == ["b", "c"]
    assert base == ["d", "e", "a"]


def test_equal_counts_make_the_first_half_novel() -> None:
    rows = manifest(dict.fromkeys(["b", "a", "d", "c", "e"], 4))
    base, novel = splits.base_and_novel(rows[rows["split1"] == "train"])
    assert (novel, base) == (["a", "b"], ["c", "d", "e"])


@pytest.mark.parametrize(
    ("counts", "says"), [({"walk": 5, "run": 0}, "there is only walk"), ({"run": 0}, "is none")]
)
def test_base_to_novel_of_one_class_is_refused(counts: dict[str, int], says: str) -> None:
    with pytest.raises(DataError, match=f"needs two classes with training videos, .*{says}"):
        splits.base_to_novel(manifest(counts), "x", 1, None, 1)


def test_base_to_novel_trains_on_base_and_tests_both_halves() -> None:
    rows = manifest({"a": 4, "b": 6, "c": 4, "d": 6})
    split = splits.base_to_novel(rows, "x", 1, 3, 1)
    assert split.id == "base_to_novel/x@3shot-seed1"
    assert split.run == "base_to_novel_3shot_seed1"
    assert split.train is not None
    assert split.train.classes == ["b", "d"]
    assert sorted(split.train.labels) == [0, 0, 0, 1, 1, 1]
    assert split.tests["novel"].classes == ["a", "c"]
    assert split.tests["base"].videos == ["s/b/06", "s/b/07", "s/d/06", "s/d/07"]
    assert splits.base_to_novel(rows, "x", 1, None, 1).id == "base_to_novel/x@full"


def test_shots_leave_broken_videos_out_and_depend_on_the_seed() -> None:
    rows = manifest({"a": 6, "b": 8}, broken="s/a/03")
    train = rows[rows["split1"] == "train"]
    drawn = {seed: splits.draw_shots(train, ["a", "b"], 5, seed) for seed in (1, 2)}
    assert "s/a/03" not in drawn[1].videos
    assert drawn[1].videos != drawn[2].videos
    assert drawn[1].videos == splits.draw_shots(train, ["a", "b"], 5, 1).videos
    short = splits.draw_shots(train, ["a", "b"], 6, 1)  # drawn all the same: validation stops
    assert short.videos[:6] == [f"s/a/{n:02d}" for n in range(6)]
    with pytest.raises(DataError, match="class a has 6 training videos, fewer than 7 shots"):
        splits.draw_shots(train, ["a", "b"], 7, 1)


def test_tests_keep_broken_videos_for_coverage() -> None:
    rows = manifest({"a": 2, "b": 2}, broken="s/a/02")
    split = splits.supervised(rows, "x", 1)
    assert "s/a/02" in split.tests["test"].videos
    assert "s/a/02" not in split.tests["test"].keep({"s/a/03"}).videos


def test_split_files_round_trip(tmp_path) -> None:
    split = splits.few_shot(manifest({"a": 4, "b": 4}), "x", 1, 2, 1)
    path = tmp_path / "few_shot.json"
    write_split(split, path)
    assert read_split(path) == split
    path.write_text('{"id": 3}')
    with pytest.raises(DataError, match="is not a split file"):
        read_split(path)


def test_nested_shots_grow_and_are_marked() -> None:
    rows = manifest(dict.fromkeys(["a", "b", "c"], 12))
    drawn = {k: splits.few_shot(rows, "x", 1, k, 7, nested=True) for k in (2, 4, 8)}
    assert all(split.train for split in drawn.values())
    videos = {k: set(split.train.videos) for k, split in drawn.items() if split.train}
    assert videos[2] < videos[4] < videos[8]
    assert drawn[2].id == "few_shot/x@2shot-nested-seed7"
    plain = splits.few_shot(rows, "x", 1, 2, 7)
    assert plain.run != drawn[2].run


counts = st.dictionaries(st.sampled_from("abcdef"), st.integers(4, 9), min_size=2)


@settings(max_examples=40, deadline=None)
@given(counts, st.integers(0, 9), st.booleans(), st.randoms(use_true_random=False))
def test_splits_are_a_function_of_the_rows_as_a_set(counts, seed, nested, random) -> None:
    rows = manifest(counts)
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = rows.iloc[order].reset_index(drop=True)

    def build(table: pd.DataFrame) -> list[Split]:
        return [
            splits.supervised(table, "x", 1),
            splits.few_shot(table, "x", 1, 3, seed, nested),
            splits.base_to_novel(table, "x", 1, 2, seed),
            splits.base_to_novel(table, "x", 1, None, seed),
            splits.zero_shot(table, "x", 1, "elsewhere/run"),
        ]

    assert build(shuffled) == build(rows)
    for split in build(rows):
        tested = {video for test in split.tests.values() for video in test.videos}
        if split.train:
            assert not tested & set(split.train.videos)
        if "novel" in split.tests:
            assert split.train is not None
            assert not set(split.train.classes) & set(split.tests["novel"].classes)
            assert len(tested) == 2 * len(counts)
