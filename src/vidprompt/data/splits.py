"""The protocols: pure functions from a manifest to split files (see docs/protocols.md).

Lists hold what is *listed*, broken videos included: coverage is counted against them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vidprompt.atomic import write_json
from vidprompt.data.manifest import usable
from vidprompt.errors import DataError


@dataclass
class Subset:
    """Videos with labels that index `classes` (annotated names)."""

    classes: list[str]
    videos: list[str]
    labels: list[int]

    def keep(self, usable: set[str]) -> Subset:
        """The part whose videos are in `usable`."""
        pairs = [(v, x) for v, x in zip(self.videos, self.labels, strict=True) if v in usable]
        return Subset(self.classes, [v for v, _ in pairs], [x for _, x in pairs])


@dataclass
class Split:
    """One split file. `run` names the split file whose training list its model is trained on."""

    id: str
    protocol: str
    run: str
    train: Subset | None = None
    val: Subset | None = None
    tests: dict[str, Subset] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As docs/architecture.md describes it."""
        return asdict(self)


def write_split(split: Split, path: Path) -> None:
    """Write one split file."""
    write_json(path, split.to_json())


def read_split(path: Path) -> Split:
    """Read one split file. Raises DataError when it is missing or not of the form."""
    if not path.is_file():
        raise DataError(f"split file {path} is missing: run `dvc repro splits` first")
    try:
        raw = json.loads(path.read_text())
        return Split(
            id=raw["id"],
            protocol=raw["protocol"],
            run=raw["run"],
            train=Subset(**raw["train"]) if raw["train"] else None,
            val=Subset(**raw["val"]) if raw["val"] else None,
            tests={name: Subset(**test) for name, test in raw["tests"].items()},
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not a split file: {error!r}") from error


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


def supervised(rows: pd.DataFrame, dataset: str, split: int) -> Split:
    """The whole official training split against its test split, all classes."""
    classes = sorted(rows["label"].unique())
    role = rows[f"split{split}"]
    return Split(
        id=f"supervised/{dataset}@split{split}",
        protocol="supervised",
        run=f"supervised_split{split}",
        train=subset(rows[role == "train"], classes),
        tests={"test": subset(rows[role == "test"], classes)},
    )


def few_shot(
    rows: pd.DataFrame, dataset: str, split: int, shots: int, seed: int, nested: bool = False
) -> Split:
    """K videos a class of split-1 train; the split-1 test set, all classes."""
    classes = sorted(rows["label"].unique())
    role = rows[f"split{split}"]
    variant = f"{shots}shot-nested-seed{seed}" if nested else f"{shots}shot-seed{seed}"
    return Split(
        id=f"few_shot/{dataset}@{variant}",
        protocol="few_shot",
        run=f"few_shot_{variant.replace('-', '_')}",
        train=draw_shots(rows[role == "train"], classes, shots, seed, nested),
        tests={"test": subset(rows[role == "test"], classes)},
    )


def base_to_novel(
    rows: pd.DataFrame, dataset: str, split: int, shots: int | None, seed: int
) -> Split:
    """Train on base classes (K shots, or all with None); test each half among its own classes."""
    role = rows[f"split{split}"]
    train, test = rows[role == "train"], rows[role == "test"]
    base, novel = base_and_novel(train)
    variant = f"{shots}shot-seed{seed}" if shots else "full"
    return Split(
        id=f"base_to_novel/{dataset}@{variant}",
        protocol="base_to_novel",
        run=f"base_to_novel_{variant.replace('-', '_')}",
        train=draw_shots(train, base, shots, seed) if shots else subset(train, base),
        tests={"base": subset(test, base), "novel": subset(test, novel)},
    )


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


def reid(rows: pd.DataFrame, dataset: str, tracklet: str) -> Split:
    """Training persons, and the query and gallery tracklets of the others."""
    role = rows["split1"]
    train = rows[role == "train"]
    tested = rows[role.isin(["query", "gallery"])]
    persons = sorted(tested["label"].unique())
    return Split(
        id=f"reid/{dataset}@{tracklet}",
        protocol="reid",
        run="reid",
        train=subset(train, sorted(train["label"].unique())),
        tests={name: subset(rows[role == name], persons) for name in ("query", "gallery")},
    )
