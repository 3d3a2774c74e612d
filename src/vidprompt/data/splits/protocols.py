"""Build the splits of every protocol from the manifest (see docs/protocols.md).

The functions are pure. Lists hold all *listed* videos, broken ones included: coverage is their usable share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vidprompt.data.manifest.table import usable
from vidprompt.data.splits.held_out import draw_beside_shots, draw_persons, draw_share
from vidprompt.data.splits.split_file import Split, Subset
from vidprompt.system.errors import DataError


def subset(rows: pd.DataFrame, classes: Sequence[str]) -> Subset:
    """The videos whose label is in `classes`, sorted by id."""
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
        count = f"only {names[0]}" if names else "none"
        raise DataError(
            f"base-to-novel needs two classes with training videos, there is {count}: leave it out "
            "(protocols: {base_to_novel: null} in the dataset's file)"
        )
    counts = train["label"].value_counts()
    order = sorted(names, key=lambda name: int(counts[name]))
    half = len(order) // 2
    return order[half:], order[:half]


def draw_shots(
    train: pd.DataFrame, classes: Sequence[str], shots: int, seed: int, nested: bool = False
) -> Subset:
    """Draw `shots` random usable videos of each class.

    A class's draw depends on its videos and the seed only. `nested`: the draw of fewer shots is part of
    that of more; otherwise every number of shots is a draw of its own. Where a class has too few usable
    videos, its first unusable ones join the draw; validation reports them (`shots_usable`). Raises
    DataError when a class lists fewer than `shots`.
    """
    rows = train[train["label"].isin(set(classes))]
    good, broken = (_by_label(rows[choice]) for choice in (usable(rows), ~usable(rows)))
    videos: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        ids = good.get(name, [])
        if len(ids) < shots:
            ids = sorted(ids + broken.get(name, [])[: shots - len(ids)])
        if len(ids) < shots:
            raise DataError(
                f"class {name} has {len(ids)} training videos, fewer than {shots} shots"
            )
        if nested:
            chosen = np.random.default_rng([seed, *name.encode()]).permutation(len(ids))[:shots]
        else:
            rng = np.random.default_rng([seed, shots, *name.encode()])
            chosen = rng.choice(len(ids), shots, replace=False)
        videos += [ids[i] for i in sorted(chosen)]
        labels += [label] * shots
    return Subset(list(classes), videos, labels)


def _by_label(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Each label's video ids, sorted."""
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
    train, val = _hold_out_share(rows[role == "train"], classes, held_out, held_out_seed, id)
    return Split(
        id=id,
        protocol="supervised",
        run=f"supervised_split{split}",
        train=train,
        val=val,
        tests={"test": subset(official_tests(rows, split), classes)},
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
    """`shots` training videos a class against the test set of the official split, all classes.

    `held_out`: how many of the other training videos of each class are `val` (see `draw_beside_shots`).
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
        val=_hold_out_beside_shots(rows[role == "train"], train, held_out, seed, id),
        tests={"test": subset(official_tests(rows, split), classes)},
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

    `held_out`: `val` of base classes: with shots, so many videos a class as in `few_shot`; else a share of
    the videos as in `supervised`. The base classes do not depend on it.
    """
    role = rows[f"split{split}"]
    train, test = rows[role == "train"], official_tests(rows, split)
    base, novel = base_and_novel(train)
    train = train[train["label"].isin(base)]
    variant = f"{shots}shot-seed{seed}" if shots else "full"
    id = f"base_to_novel/{dataset}@{variant}"
    if shots:
        drawn = draw_shots(train, base, shots, seed)
        val = _hold_out_beside_shots(train, drawn, int(held_out), seed, id)
    else:
        drawn, val = _hold_out_share(train, base, held_out, seed, id)
    return Split(
        id=id,
        protocol="base_to_novel",
        run=f"base_to_novel_{variant.replace('-', '_')}",
        train=drawn,
        val=val,
        tests={"base": subset(test, base), "novel": subset(test, novel)},
    )


def _hold_out_share(
    train: pd.DataFrame, classes: Sequence[str], share: float, seed: int, id: str
) -> tuple[Subset, Subset | None]:
    """The training list without the held-out share, and the held-out videos."""
    held = train["video_id"].isin(draw_share(train, share, seed))
    return subset(train[~held], classes), _val(train[held], classes, share, id)


def _hold_out_beside_shots(
    train: pd.DataFrame, shots: Subset, count: int, seed: int, id: str
) -> Subset | None:
    """The validation list drawn beside the shots."""
    held = train["video_id"].isin(draw_beside_shots(train, shots.videos, count, seed))
    return _val(train[held], shots.classes, count, id)


def _val(held: pd.DataFrame, classes: Sequence[str], held_out: float, id: str) -> Subset | None:
    """The held-out rows as a list; None for `held_out` 0. Raises DataError when there are none."""
    if not held_out:
        return None
    if held.empty:
        raise DataError(
            f"{id}: held_out={held_out:g}, and no usable training video can be held out of any class: each "
            "has one video or group only, or shots are of all its groups; set held_out: 0"
        )
    return subset(held, classes)


def zero_shot(rows: pd.DataFrame, id: str, trained_on: str, classes: Sequence[str]) -> Split:
    """The videos of some classes (see `class_lists`), by a model that was not trained on these."""
    return Split(
        id=f"zero_shot/{id}",
        protocol="zero_shot",
        run=trained_on,
        tests={"test": subset(rows, classes)},
    )


def official_tests(rows: pd.DataFrame, split: int) -> pd.DataFrame:
    """The rows of an official split's test list; of its validation list where no test list is known."""
    role = rows[f"split{split}"]
    return rows[role == ("test" if (role == "test").any() else "val")]


def reid(
    rows: pd.DataFrame, dataset: str, tracklet: str, held_out: float = 0.0, held_out_seed: int = 1
) -> Split:
    """Training persons, and the query and gallery tracklets of the others.

    `held_out`: this share of the training persons is `val` instead, all their tracklets; its classes are
    these persons (see `draw_persons`).
    """
    role = rows["split1"]
    train = rows[role == "train"]
    persons = sorted(rows.loc[role.isin(["query", "gallery"]), "label"].unique())
    held_out_persons = draw_persons(train, held_out, held_out_seed)
    left = train[~train["label"].isin(held_out_persons)]
    return Split(
        id=f"reid/{dataset}@{tracklet}",
        protocol="reid",
        run="reid",
        train=subset(left, sorted(left["label"].unique())),
        val=subset(train, held_out_persons) if held_out_persons else None,
        tests={name: subset(rows[role == name], persons) for name in ("query", "gallery")},
    )
