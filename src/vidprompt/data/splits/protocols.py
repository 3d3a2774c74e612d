"""The protocols: pure functions from a manifest to split files (see docs/protocols.md).

Lists hold what is *listed*, broken videos included: coverage is counted against them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vidprompt.data.manifest.table import usable
from vidprompt.data.splits.held_out import draw_beside, draw_persons, draw_share
from vidprompt.data.splits.split_file import Split, Subset
from vidprompt.system.errors import DataError


def subset(rows: pd.DataFrame, classes: Sequence[str]) -> Subset:
    """Rows whose label is in `classes`, sorted by id, whatever their order."""
    index = {name: i for i, name in enumerate(classes)}
    chosen = rows[rows["label"].isin(index)].sort_values("video_id", kind="stable")
    return Subset(
        classes=list(classes),
        videos=chosen["video_id"].tolist(),
        labels=[index[label] for label in chosen["label"]],
    )


def base_and_novel(train: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Base and novel class names: the classes with the fewest training videos are novel.

    Count the official training split per class, stable sort ascending (ties in label order, labels
    sorted by name); the first ⌊C/2⌋ are novel, the rest base; each half keeps that order. Raises
    DataError where a half would have no class.
    """
    names = sorted(train["label"].unique())
    if len(names) < 2:
        there = f"only {names[0]}" if names else "none"
        raise DataError(
            f"base-to-novel needs two classes with training videos, there is {there}: leave it out "
            "(protocols: {base_to_novel: null} in the dataset's file)"
        )
    counts = train["label"].value_counts()
    order = sorted(names, key=lambda name: int(counts[name]))
    half = len(order) // 2
    return order[half:], order[:half]


def draw_shots(
    train: pd.DataFrame, classes: Sequence[str], shots: int, seed: int, nested: bool = False
) -> Subset:
    """`shots` random videos a class (of the usable ones), independent of the other classes.

    A draw depends on the class's videos and the seed alone. `nested`: the draw of fewer shots is
    part of that of more; else every number of shots is a draw of its own. A class with too few
    usable videos has its first unusable ones drawn from too, which validation finds (`shots_usable`).
    Raises DataError when a class lists fewer.
    """
    rows = train[train["label"].isin(set(classes))]
    good, spare = (_by_label(rows[choice]) for choice in (usable(rows), ~usable(rows)))
    videos: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        ids = good.get(name, [])
        if len(ids) < shots:
            ids = sorted(ids + spare.get(name, [])[: shots - len(ids)])
        if len(ids) < shots:
            raise DataError(f"class {name} has {len(ids)} training videos, {shots} are asked")
        if nested:
            chosen = np.random.default_rng([seed, *name.encode()]).permutation(len(ids))[:shots]
        else:
            rng = np.random.default_rng([seed, shots, *name.encode()])
            chosen = rng.choice(len(ids), shots, replace=False)
        videos += [ids[i] for i in sorted(chosen)]
        labels += [label] * shots
    return Subset(list(classes), videos, labels)


def _by_label(rows: pd.DataFrame) -> dict[str, list[str]]:
    return {str(label): sorted(ids) for label, ids in rows.groupby("label")["video_id"]}


def supervised(
    rows: pd.DataFrame, dataset: str, split: int, held_out: float = 0.0, held_out_seed: int = 1
) -> Split:
    """The whole official training split against its test split, all classes.

    `held_out`: this share of each class's training videos is `val` instead (see `draw_share`).
    """
    classes = sorted(rows["label"].unique())
    role = rows[f"split{split}"]
    id = f"supervised/{dataset}@split{split}"
    train, val = _less_a_share(rows[role == "train"], classes, held_out, held_out_seed, id)
    return Split(
        id=id,
        protocol="supervised",
        run=f"supervised_split{split}",
        train=train,
        val=val,
        tests={"test": subset(rows[role == "test"], classes)},
    )


def few_shot(
    rows: pd.DataFrame,
    dataset: str,
    split: int,
    shots: int,
    seed: int,
    nested: bool = False,
    held_out: int = 0,
) -> Split:
    """K videos a class of split-1 train; the split-1 test set, all classes.

    `held_out`: `val` has so many of the other training videos a class (see `draw_beside`).
    """
    classes = sorted(rows["label"].unique())
    role = rows[f"split{split}"]
    variant = f"{shots}shot-nested-seed{seed}" if nested else f"{shots}shot-seed{seed}"
    id = f"few_shot/{dataset}@{variant}"
    train = draw_shots(rows[role == "train"], classes, shots, seed, nested)
    return Split(
        id=id,
        protocol="few_shot",
        run=f"few_shot_{variant.replace('-', '_')}",
        train=train,
        val=_beside(rows[role == "train"], train, held_out, seed, id),
        tests={"test": subset(rows[role == "test"], classes)},
    )


def base_to_novel(
    rows: pd.DataFrame,
    dataset: str,
    split: int,
    shots: int | None,
    seed: int,
    held_out: float = 0,
) -> Split:
    """Train on base classes (K shots, or all with None); test each half among its own classes.

    `held_out`: `val` of base classes, so many videos a class as in `few_shot`; with all videos, a share of
    them as in `supervised`. Which classes are base does not depend on it.
    """
    role = rows[f"split{split}"]
    train, test = rows[role == "train"], rows[role == "test"]
    base, novel = base_and_novel(train)
    train = train[train["label"].isin(base)]
    variant = f"{shots}shot-seed{seed}" if shots else "full"
    id = f"base_to_novel/{dataset}@{variant}"
    if shots:
        drawn = draw_shots(train, base, shots, seed)
        val = _beside(train, drawn, int(held_out), seed, id)
    else:
        drawn, val = _less_a_share(train, base, held_out, seed, id)
    return Split(
        id=id,
        protocol="base_to_novel",
        run=f"base_to_novel_{variant.replace('-', '_')}",
        train=drawn,
        val=val,
        tests={"base": subset(test, base), "novel": subset(test, novel)},
    )


def _less_a_share(
    train: pd.DataFrame, classes: Sequence[str], share: float, seed: int, id: str
) -> tuple[Subset, Subset | None]:
    """The training list without what is held out of it, and that."""
    held = train["video_id"].isin(draw_share(train, share, seed))
    return subset(train[~held], classes), _val(train[held], classes, share, id)


def _beside(train: pd.DataFrame, shots: Subset, count: int, seed: int, id: str) -> Subset | None:
    """Videos held out beside the shots."""
    held = train["video_id"].isin(draw_beside(train, shots.videos, count, seed))
    return _val(train[held], shots.classes, count, id)


def _val(held: pd.DataFrame, classes: Sequence[str], asked: float, id: str) -> Subset | None:
    if not asked:
        return None
    if held.empty:
        raise DataError(
            f"{id}: held_out={asked:g}, and no usable training video can be held out of any class: each "
            "has one video or group only, or shots are of all its groups; set held_out: 0"
        )
    return subset(held, classes)


def zero_shot(rows: pd.DataFrame, dataset: str, split: int, trained_on: str) -> Split:
    """An official test split of a dataset the model was not trained on, all its classes."""
    classes = sorted(rows["label"].unique())
    return zero_shot_among(rows, f"{dataset}@split{split}", split, trained_on, classes)


def zero_shot_among(
    rows: pd.DataFrame, id: str, split: int, trained_on: str, classes: Sequence[str]
) -> Split:
    """The test videos of some classes, told apart among these only (see `class_lists`)."""
    return Split(
        id=f"zero_shot/{id}",
        protocol="zero_shot",
        run=trained_on,
        tests={"test": subset(rows[rows[f"split{split}"] == "test"], classes)},
    )


def reid(
    rows: pd.DataFrame, dataset: str, tracklet: str, held_out: float = 0.0, held_out_seed: int = 1
) -> Split:
    """Training persons, and the query and gallery tracklets of the others.

    `held_out`: this share of the training persons is `val` instead, all their tracklets; its classes are
    these persons (see `draw_persons`).
    """
    role = rows["split1"]
    train = rows[role == "train"]
    tested = rows[role.isin(["query", "gallery"])]
    persons = sorted(tested["label"].unique())
    apart = draw_persons(train, held_out, held_out_seed)
    left = train[~train["label"].isin(apart)]
    return Split(
        id=f"reid/{dataset}@{tracklet}",
        protocol="reid",
        run="reid",
        train=subset(left, sorted(left["label"].unique())),
        val=subset(train, apart) if apart else None,
        tests={name: subset(rows[role == name], persons) for name in ("query", "gallery")},
    )
