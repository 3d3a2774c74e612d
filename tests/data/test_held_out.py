"""Videos held out of training lists: apart from training and tests, a function of the rows as a set."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprompt.data.splits import protocols as splits
from vidprompt.data.splits.held_out import draw_beside_shots, draw_persons, draw_share, shortfall
from vidprompt.data.splits.split_file import Split
from vidprompt.system.errors import DataError

Groups = dict[str, list[int]]  # class → sizes of its groups


def manifest(
    train: Groups, tests: int = 2, known: bool = True, shared: bool = False
) -> pd.DataFrame:
    """`shared`: the groups of one number are one group, whatever the class."""
    rows = []
    for label, sizes in train.items():
        count = 0
        for number, size in enumerate([*sizes, tests]):
            for _ in range(size):
                group = f"{'' if shared else label}{number}" if known else ""
                role = "train" if number < len(sizes) else "test"
                rows.append(
                    (f"s/{label}/{count:03d}", label, group if role == "train" else "", role)
                )
                count += 1
    table = pd.DataFrame(rows, columns=["video_id", "label", "group", "split1"])
    return table.assign(health="ok")


def people(tracklets: dict[str, int]) -> pd.DataFrame:
    roles = [("train", name, n) for name, n in tracklets.items()]
    roles += [(role, f"t{i}", 2) for i in range(3) for role in ("query", "gallery")]
    rows = [(f"p/{name}/{role}{i}", name, name, role) for role, name, n in roles for i in range(n)]
    table = pd.DataFrame(rows, columns=["video_id", "label", "group", "split1"])
    return table.assign(health="ok")


def moved(rows: pd.DataFrame, random) -> pd.DataFrame:
    order = list(range(len(rows)))
    random.shuffle(order)
    return rows.iloc[order].reset_index(drop=True)


def groups_of(rows: pd.DataFrame, videos: list[str]) -> set[str]:
    return set(rows.loc[rows["video_id"].isin(videos), "group"]) - {""}


def check_apart(rows: pd.DataFrame, split: Split) -> None:
    """Train, val and tests share no video, and train and val no group."""
    assert split.train is not None
    assert split.val is not None
    train, val = split.train.videos, split.val.videos
    tested = {video for test in split.tests.values() for video in test.videos}
    assert val
    assert not set(val) & {*train, *tested}
    assert not set(train) & tested
    assert not groups_of(rows, train) & groups_of(rows, val)
    label = rows.set_index("video_id")["label"]
    for part in (split.train, split.val):
        assert [part.classes[i] for i in part.labels] == [label[video] for video in part.videos]
    assert set(val) <= set(rows.loc[rows["split1"] == "train", "video_id"])


sizes = st.dictionaries(
    st.sampled_from("abcdef"), st.lists(st.integers(1, 6), min_size=2, max_size=9), min_size=2
)
seeds, orders = st.integers(0, 9), st.randoms(use_true_random=False)


@settings(max_examples=60, deadline=None)
@given(sizes, st.booleans(), st.floats(0.01, 0.9), seeds, orders)
def test_a_share_is_held_out_by_class_and_whole_groups(train, known, share, seed, random) -> None:
    rows = manifest(train, known=known)
    split = splits.supervised(rows, "x", 1, share, seed)
    assert splits.supervised(moved(rows, random), "x", 1, share, seed) == split
    check_apart(rows, split)
    assert split.train is not None
    assert split.val is not None
    official = splits.supervised(rows, "x", 1)
    assert official.val is None
    assert official.train is not None
    assert sorted([*split.train.videos, *split.val.videos]) == official.train.videos
    assert (split.id, split.run, split.tests) == (official.id, official.run, official.tests)
    for number, name in enumerate(split.val.classes):
        count, largest = split.val.labels.count(number), max(train[name]) if known else 1
        assert split.train.labels.count(number) >= 1
        assert count >= 1
        assert abs(count - share * sum(train[name])) <= largest
    # a class's draw is its own: no other class moves it
    alone = rows[rows["label"] == "a"]
    kept = {video for video in split.val.videos if video.startswith("s/a/")}
    assert draw_share(alone[alone["split1"] == "train"], share, seed) == kept


@settings(max_examples=40, deadline=None)
@given(sizes, st.floats(0.05, 0.6), seeds, orders)
def test_groups_that_classes_share_stay_whole(train, share, seed, random) -> None:
    rows = manifest(train, shared=True)
    listed = rows[rows["split1"] == "train"]
    held = draw_share(listed, share, seed)
    assert draw_share(moved(listed, random), share, seed) == held
    left = set(listed["video_id"]) - held
    assert not groups_of(rows, sorted(held)) & groups_of(rows, sorted(left))
    assert set(rows.loc[rows["video_id"].isin(left), "label"]) == set(train)
    # group 0 is of all classes and each has another: so something can be held out, and is
    assert held


def test_a_draw_depends_on_the_seed_and_on_nothing_that_may_change() -> None:
    rows = manifest({"jump": [2, 2, 2, 2, 2], "run": [3, 1, 1, 5]}, tests=0)
    drawn = {seed: sorted(draw_share(rows, 0.2, seed)) for seed in range(5)}
    # spelt out: checkpoints are chosen by these videos, on every machine alike
    assert drawn[1] == ["s/jump/006", "s/jump/007", "s/run/003", "s/run/004"]
    assert drawn[4] == ["s/jump/002", "s/jump/003", "s/run/000", "s/run/001", "s/run/002"]
    beside = draw_beside_shots(rows, ["s/jump/000", "s/run/005"], 1, 1)
    assert beside == {"s/jump/002", "s/run/003"}


def test_unusable_videos_are_not_counted_but_go_with_their_group() -> None:
    rows = manifest({"a": [2, 2, 2], "b": [1, 1, 1, 1]})
    rows.loc[rows["video_id"].isin(["s/a/000", "s/a/002", "s/a/004"]), "health"] = "empty"
    rows.loc[rows["video_id"].isin(["s/b/000", "s/b/001"]), "health"] = "missing"
    for seed in range(6):
        held = draw_share(rows[rows["split1"] == "train"], 0.4, seed)
        a = sorted(video for video in held if video.startswith("s/a/"))
        assert a in [["s/a/000", "s/a/001"], ["s/a/002", "s/a/003"], ["s/a/004", "s/a/005"]]
        assert held - set(a) < {"s/b/002", "s/b/003"}


def test_a_class_of_one_group_keeps_it_and_it_is_said() -> None:
    rows = manifest({"a": [6], "b": [3, 3]})
    split = splits.supervised(rows, "x", 1, 0.3)
    assert split.val is not None
    assert split.val.labels == [1, 1, 1]
    assert "1 of 2 classes have no video held out (a 0):" in shortfall(
        split.val.classes, split.val.labels, 1
    )
    assert shortfall(["b"], [0], 1) == ""
    with pytest.raises(DataError, match="supervised/x@split1: held_out=0.3, and no usable"):
        splits.supervised(manifest({"a": [6], "b": [3]}), "x", 1, 0.3)


@settings(max_examples=40, deadline=None)
@given(sizes, st.booleans(), st.integers(1, 3), st.integers(1, 4), seeds, orders)
def test_beside_the_shots_nothing_moves(train, shared, shots, count, seed, random) -> None:
    train = {name: [*groups, 5] for name, groups in train.items()}
    rows = manifest(train, shared=shared)
    without = splits.few_shot(rows, "x", 1, shots, seed)
    drawn = draw_beside_shots(rows[rows["split1"] == "train"], without.train.videos, count, seed)
    if not drawn:
        with pytest.raises(DataError, match=f"held_out={count}, and no usable training video"):
            splits.few_shot(rows, "x", 1, shots, seed, held_out=count)
        return
    split = splits.few_shot(rows, "x", 1, shots, seed, held_out=count)
    assert splits.few_shot(moved(rows, random), "x", 1, shots, seed, held_out=count) == split
    check_apart(rows, split)
    assert split.val is not None
    assert split.val.videos == sorted(drawn)
    assert (split.train, split.tests, split.id) == (without.train, without.tests, without.id)
    listed = rows[rows["split1"] == "train"]
    near = groups_of(rows, split.train.videos)
    for number, name in enumerate(split.val.classes):
        free = ((listed["label"] == name) & ~listed["group"].isin(near)).sum()
        assert split.val.labels.count(number) == min(count, free)


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from([None, 2]), seeds, orders)
def test_only_base_classes_are_held_out_of(train, shots, seed, random) -> None:
    rows = manifest({name: [*groups, 2] for name, groups in train.items()}, known=False)
    held_out = 1 if shots else 0.2
    split = splits.base_to_novel(rows, "x", 1, shots, seed, held_out)
    assert splits.base_to_novel(moved(rows, random), "x", 1, shots, seed, held_out) == split
    without = splits.base_to_novel(rows, "x", 1, shots, seed)
    check_apart(rows, split)
    assert split.val is not None
    assert split.train is not None
    assert without.train is not None
    assert split.val.classes == split.train.classes == without.train.classes
    assert set(split.val.labels) == set(range(len(split.val.classes)))
    assert split.tests == without.tests
    if shots:
        assert split.train == without.train
    else:
        assert sorted([*split.train.videos, *split.val.videos]) == without.train.videos


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 30), st.floats(0.01, 0.99), seeds, orders)
def test_persons_leave_training_with_all_their_tracklets(count, share, seed, random) -> None:
    rows = people({f"{i:03d}": 2 + i % 3 for i in range(count)})
    split = splits.reid(rows, "x", "8-frames", share, seed)
    assert splits.reid(moved(rows, random), "x", "8-frames", share, seed) == split
    without = splits.reid(rows, "x", "8-frames")
    assert (split.id, split.tests) == (without.id, without.tests)
    check_apart(rows, split)
    assert split.train is not None
    assert split.val is not None
    assert without.train is not None
    assert sorted([*split.train.classes, *split.val.classes]) == without.train.classes
    assert sorted([*split.train.videos, *split.val.videos]) == without.train.videos
    held = len(split.val.classes)
    assert 2 <= held <= count - 2
    assert abs(held - share * count) <= 0.5 or held in (2, count - 2)


def test_persons_that_could_not_be_ranked_are_not_held_out() -> None:
    rows = people({"a": 1, "b": 2, "c": 2, "d": 3, "e": 2})
    rows.loc[rows["video_id"] == "p/e/train1", "health"] = "undecodable"
    listed = rows[rows["split1"] == "train"]
    assert all(set(draw_persons(listed, 0.4, seed)) <= {"b", "c", "d"} for seed in range(9))
    with pytest.raises(DataError, match="reid: 5 persons to train on, 1 of them with two usable"):
        draw_persons(listed[~listed["label"].isin(["b", "c"])].pipe(_with, ["x", "y"]), 0.4, 1)


def _with(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    extra = rows.head(len(names)).assign(label=names, video_id=[f"p/{name}" for name in names])
    return pd.concat([rows, extra])
