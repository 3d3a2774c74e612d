"""Tables of a manifest and its splits, with helper columns for Great Expectations' rules.

A helper column is null where its rule does not apply to a row: Great Expectations skips nulls.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import pandas as pd

from vidprompt.data.manifest.copies import contents
from vidprompt.data.manifest.health import Health
from vidprompt.data.manifest.table import usable
from vidprompt.data.splits.names import measure_of
from vidprompt.data.splits.split_file import Split, Subset
from vidprompt.system.errors import DataError
from vidprompt.system.suggestions import suggestion

REQUIRED = (
    *("video_id", "source", "path", "kind", "label", "group", "split1", "split2", "split3"),
    *("size", "n_frames", "duration", "width", "height", "health", "detail"),
)
OFFICIAL_SPLITS = ("split1", "split2", "split3")
ROLES = ("", "train", "val", "test", "query", "gallery")
OF_SPLITS = ("train", "val", "tests")
COUNTABLE = ("videos", "classes", "groups", "splits", *OF_SPLITS)
_SHOTS = re.compile(r"(\d+)shot")
_ALL_CLASSES = re.compile(r"zero_shot_(split|half)\d+(_val)?$")  # not chosen for being new


class Training(NamedTuple):
    """The training lists behind a split, and the key of the split file they are in."""

    key: str
    train: Subset
    val: Subset | None


def videos_table(manifest: pd.DataFrame) -> pd.DataFrame:
    """One row a video of the manifest, sorted by `video_id`, with helper columns."""
    missing = [name for name in REQUIRED if name not in manifest.columns]
    if missing:
        raise DataError(
            f"The manifest has no column {', '.join(missing)}; build it again (vidprompt manifest)."
        )
    table = manifest.loc[:, list(REQUIRED)].copy()
    for name in ("video_id", "source", "path", "label", "group", "health", "detail"):
        table[name] = table[name].astype(object).fillna("").astype(str)
    table = table.sort_values("video_id", kind="stable").reset_index(drop=True)
    table["broken"] = (~usable(table)).astype(float)
    healthy = table["health"] == Health.OK  # unopened videos have no measures
    table["source_label"] = table["source"] + "/" + table["label"]
    for name in ("n_frames", "duration", "size", "width", "height"):
        number = pd.to_numeric(table[name], errors="coerce").astype(float).fillna(-1.0)
        # a folder of frames has no clock, so no duration
        timed = healthy & (table["kind"] == "video") if name == "duration" else healthy
        table[f"healthy_{name}"] = number.where(timed)
    group = (table["source"] + "/" + table["group"]).where(table["group"] != "")
    odd = pd.Series([""] * len(table), dtype=object)
    for name in OFFICIAL_SPLITS:
        role = table[name].astype(object).fillna("").astype(str)
        odd = odd.where(role.isin(ROLES) | (odd != ""), name + "=" + role)
        side = role.map(lambda text: "train" if text == "train" else "test").where(role != "")
        sides = side[group.notna()].groupby(group[group.notna()]).nunique()
        table[f"{name}_sides"] = group.map(sides).astype(float).where(side.notna())
    table["odd_role"] = odd.where(odd != "", None)
    _add_copies(table, manifest)
    return table


def _add_copies(table: pd.DataFrame, manifest: pd.DataFrame) -> None:
    """Add `content`: the hash of a usable video that another one has too; `copy_of`: the first of these, for
    the others; `other_label`: one of them that has another label in the same source, with this label."""
    by_id = manifest.assign(content=contents(manifest)).drop_duplicates("video_id")
    table["content"] = table["video_id"].map(by_id.set_index("video_id")["content"].to_dict())
    table["copy_of"] = pd.Series([None] * len(table), dtype=object)
    table["other_label"] = table["copy_of"].copy()
    for _, rows in table.groupby("content"):
        table.loc[rows.index[1:], "copy_of"] = rows["video_id"].iloc[0]
        for _, same in rows.groupby("source"):
            if same["label"].nunique() > 1:
                names = {row: _of_another_label(same, row) for row in same.index}
                table.loc[same.index, "other_label"] = pd.Series(names)


def _of_another_label(rows: pd.DataFrame, row: int) -> str:
    other = rows[rows["label"] != rows.at[row, "label"]].iloc[0]
    return f"{other['video_id']}, {other['label']}"


def training_of(key: str, splits: Mapping[str, Split]) -> Training | None:
    """The training lists behind a split: its own, or those of the split its `run` names.

    `run` is a split file's name; where no file has it, the training split with the same `run`.
    """
    run = splits[key].run
    for name in (key, run, *sorted(other for other in splits if splits[other].run == run)):
        split = splits.get(name)
        if split is not None and split.train is not None:
            return Training(name, split.train, split.val)
    return None


def lists_table(videos: pd.DataFrame, splits: Mapping[str, Split]) -> pd.DataFrame:
    """One row a (split, list, video): its label in the manifest, and the training list that has it too."""
    by_id = videos.drop_duplicates("video_id").set_index("video_id")
    group = by_id["source"] + "/" + by_id["group"]
    groups = {str(video): str(name) for video, name in group[by_id["group"] != ""].items()}
    copied = by_id["content"].dropna()
    contents_of = {str(video): str(content) for video, content in copied.items()}
    frames = []
    for key in sorted(splits):
        training = training_of(key, splits)
        for part, listed in splits[key].lists():
            rows = _list_rows(key, part, listed, training, groups)
            rows["shared_content"] = _shared_contents(key, part, listed, training, contents_of)
            frames.append(rows)
    if not frames:
        return pd.DataFrame()
    table = pd.concat(frames, ignore_index=True)
    table["manifest_label"] = table["video_id"].map(by_id["label"].to_dict())
    drawn = {key for key in splits if measure_of(key) and _SHOTS.search(splits[key].id)}
    shot = table["split"].isin(drawn) & (table["part"] == "train")
    health = table["video_id"].map(by_id["health"].to_dict())
    broken = table["video_id"].isin(set(by_id.index[by_id["broken"] > 0]))
    table["unusable_shot"] = health.where(shot & broken, None)
    return table


def _list_rows(
    key: str,
    part: str,
    listed: Subset,
    training: Training | None,
    groups: Mapping[str, str],
) -> pd.DataFrame:
    ids, labels, classes = listed.videos, listed.labels, listed.classes
    if len(ids) != len(labels):
        raise DataError(
            f"Split {key}, {part}: {len(ids)} videos but {len(labels)} labels; build it again."
        )
    shared_video: list[str | None] = [None] * len(ids)
    shared_group: list[str | None] = [None] * len(ids)
    for name, other in _other_side(key, part, training):
        seen = set(other.videos)
        seen_groups = {groups[video] for video in seen if video in groups}
        for row, video in enumerate(ids):
            if video in seen:
                shared_video[row] = shared_video[row] or name
            if groups.get(video) in seen_groups:
                shared_group[row] = shared_group[row] or name
    return pd.DataFrame(
        {
            "split": key,
            "part": part,
            "video_id": ids,
            "class": [classes[i] if 0 <= i < len(classes) else f"#{i}" for i in labels],
            "group": [groups.get(video, "") for video in ids],
            "shared_video": shared_video,
            "shared_group": shared_group,
        },
        dtype=object,
    )


def _shared_contents(
    key: str, part: str, listed: Subset, training: Training | None, contents_of: Mapping[str, str]
) -> pd.Series:
    """For each video of a list, another video of the training lists that is the same file, and its list."""
    shared: list[str | None] = [None] * len(listed.videos)
    for name, other in _other_side(key, part, training) if contents_of else ():
        copies: dict[str, list[str]] = {}
        for video in other.videos:
            if video in contents_of:
                copies.setdefault(contents_of[video], []).append(video)
        for row, video in enumerate(listed.videos):
            others = [one for one in copies.get(contents_of.get(video, ""), ()) if one != video]
            if others:
                shared[row] = shared[row] or f"{others[0]} ({name})"
    return pd.Series(shared, dtype=object)


def _other_side(key: str, part: str, training: Training | None) -> list[tuple[str, Subset]]:
    """The lists that a list must have nothing in common with, by name."""
    if training is None or part == "train":
        return []
    where = "" if training.key == key else f" of {training.key}"
    lists = [(f"train{where}", training.train)]
    if training.val is not None and part != "val":
        lists.append((f"val{where}", training.val))
    return lists


def classes_table(splits: Mapping[str, Split], known: Collection[str] = ()) -> pd.DataFrame:
    """One row a (split, class), for the rules on classes.

    `known`: classes trained on elsewhere, which a zero-shot test among chosen classes leaves out.
    """
    rows: list[dict[str, Any]] = []
    for key in sorted(splits):
        rows += _novel_rows(key, splits[key])
        rows += _zero_shot_rows(key, splits, known)
        rows += _shot_rows(key, splits[key])
    columns = [
        "split",
        "class",
        "novel_sides",
        "zero_shot_sides",
        "shots",
        "wanted",
        "training_split",
    ]
    return pd.DataFrame(rows, columns=columns)


def _novel_rows(key: str, split: Split) -> list[dict[str, Any]]:
    if "novel" not in split.tests:
        return []
    learnt = (split.tests.get("base"), split.train, split.val)
    base = {name for listed in learnt if listed is not None for name in listed.classes}
    return [
        {"split": key, "class": name, "novel_sides": 1 + (name in base)}
        for name in split.tests["novel"].classes
    ]


def _zero_shot_rows(
    key: str, splits: Mapping[str, Split], known: Collection[str]
) -> list[dict[str, Any]]:
    training = training_of(key, splits)
    if not splits[key].protocol.startswith("zero_shot"):
        return []
    if training is not None:
        seen = {*training.train.classes, *(training.val.classes if training.val else ())}
        training_split = training.key
    elif known and not _ALL_CLASSES.match(key):
        seen, training_split = set(known), splits[key].run
    else:  # trained on another dataset, whose classes may have the same names: the field allows it
        return []
    return [
        {
            "split": key,
            "class": name,
            "zero_shot_sides": 1 + (name in seen),
            "training_split": training_split,
        }
        for _, test in sorted(splits[key].tests.items())
        for name in test.classes
    ]


def _shot_rows(key: str, split: Split) -> list[dict[str, Any]]:
    wanted = _SHOTS.search(split.id) if measure_of(key) else None  # published lists are as they are
    if wanted is None or split.train is None:
        return []
    shots = Counter(split.train.labels)
    return [
        {"split": key, "class": name, "shots": shots[index], "wanted": int(wanted.group(1))}
        for index, name in enumerate(split.train.classes)
    ]


def sizes_table(videos: pd.DataFrame, splits: Mapping[str, Split]) -> pd.DataFrame:
    """One row a list for training or testing: its videos, the usable ones, and the classes of these.

    Classes are null where it has no usable video, and of persons, who are ranked.
    """
    good = set(videos.loc[videos["broken"] == 0, "video_id"])
    rows = []
    for key in sorted(splits):
        for part, listed in splits[key].lists():
            if part != "val":
                kept = listed.keep(good)
                ranked = splits[key].protocol == "reid" or not kept.videos
                classes = None if ranked else float(len(set(kept.labels)))
                rows.append((key, part, len(listed.videos), len(kept.videos), classes))
    columns = ["split", "part", "listed", "usable", "classes"]
    return pd.DataFrame(rows, columns=columns).astype({"classes": float})


def runs_table(splits: Mapping[str, Split]) -> pd.DataFrame:
    """One row a split without training lists of its own: the split its model was trained on."""
    rows = []
    for key in sorted(splits):
        if splits[key].train is None:
            training, run = training_of(key, splits), splits[key].run
            elsewhere = run if "/" in run else None  # a training list of another dataset
            trained_on = elsewhere if training is None else training.key
            rows.append({"split": key, "run": run, "trained_on": trained_on})
    return pd.DataFrame(rows, columns=["split", "run", "trained_on"])


def counts_table(
    videos: pd.DataFrame, splits: Mapping[str, Split], expected: Mapping[str, int]
) -> pd.DataFrame:
    """One row an expected count (`videos`, `videos.<source>`, `train.<split>`, …) with the actual one.

    `train.<split>` of an official training list includes what is held out of the list, so it equals the
    official count. Counts of drawn splits that were not built (the parameters leave them out) have no row.
    Raises DataError for an unknown name, and for a split that does not exist and is not a drawn one.
    """
    counts: dict[str, int] = {"videos": len(videos), "splits": len(splits)}
    for source, rows in videos.groupby("source"):
        counts[f"videos.{source}"] = len(rows)
        counts[f"classes.{source}"] = rows["label"].nunique()
        counts[f"groups.{source}"] = rows.loc[rows["group"] != "", "group"].nunique()
    for key, split in splits.items():
        for part, listed in split.lists():
            head, _, test = part.partition(".")
            name = f"{head}.{key}.{test}" if test else f"{head}.{key}"
            counts[name] = len(listed.videos)
        if split.val and measure_of(key) and not _SHOTS.search(split.id):
            counts[f"train.{key}"] += counts[f"val.{key}"]
    names = [name for name in sorted(expected) if name in counts or _is_due(name, splits)]
    return pd.DataFrame(
        {
            "name": pd.Series(names, dtype=object),
            "expected": pd.Series([int(expected[name]) for name in names], dtype="int64"),
            "counted": pd.Series([counts.get(name, 0) for name in names], dtype="int64"),
        }
    )


def _is_due(name: str, splits: Mapping[str, Split]) -> bool:
    """Whether an expected count without an actual one counts as 0; False for a split that was not built."""
    head, _, rest = name.partition(".")
    if head not in COUNTABLE or not rest:
        raise DataError(
            f"No such expected count: {name!r}; use videos, splits, videos.<source>, "
            "classes.<source>, groups.<source>, train.<split>, val.<split> or "
            "tests.<split>.<test>."
        )
    split = rest.partition(".")[0]
    if head not in OF_SPLITS or split in splits:
        return True
    if measure_of(split) is None:
        raise DataError(
            f"No split is called {split!r}, as the expected count {name!r} has it: "
            f"{suggestion(split, sorted(splits))}"
        )
    return False
