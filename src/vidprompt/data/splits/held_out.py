"""Draw the validation videos that are held out of a training list, to choose a checkpoint by.

A draw depends on the training videos (id, class, group, health) and on the seed, not on their order; a
class's draw does not depend on other classes unless they share groups. Only usable videos are drawn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from vidprompt.data.manifest.copies import connected, contents
from vidprompt.data.manifest.table import usable
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.suggestions import first_names

LEAST_PERSONS = 2  # needed for a ranking, and to train on
NAMED = 5  # classes named in a message


def check_share(value: Any, where: str) -> None:
    """Raise UserError, naming `where`, unless the value is a share in [0, 1); 0 holds nothing out."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise UserError(
            f"{where}: held_out={value} is no share: give 0 (none) or a number below 1, as 0.1"
        )


def check_count(value: Any, where: str) -> None:
    """Raise UserError, naming `where`, unless the value is a number of videos; 0 holds nothing out."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(
            f"{where}: held_out={value} is no count: give 0 (none) or how many videos of each class, as 4"
        )


def check_seed(value: Any, where: str) -> None:
    """Raise UserError, naming `where`, unless the value is an integer from 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"{where}: held_out_seed={value} is no seed: give an integer from 0")


def draw_share(train: pd.DataFrame, share: float, seed: int) -> set[str]:
    """Ids of about `share` of each class's videos, by whole groups where groups are known.

    `train`: rows of the manifest. A class's groups (a video without one is its own group) are visited in
    random order; a group is taken if it brings no class of its videos further from the share. If none is
    taken, the smallest is, so that every class has some; but never the last usable videos of a class, so a
    class of a single group has none. Copies of one file are of one group.
    Where no group spans classes, a class has its share to within one
    group. A group is taken whole, with its unusable videos.
    """
    if not share:
        return set()
    group = _groups_with_copies(train)
    good = usable(train)
    sizes = Counter(zip(group[good], train.loc[good, "label"], strict=True))
    counts: dict[str, dict[str, int]] = {}  # group → class → usable videos
    groups: dict[str, list[str]] = {}  # class → groups, sorted
    for (name, label), count in sorted(sizes.items()):
        counts.setdefault(name, {})[label] = count
        groups.setdefault(label, []).append(name)
    available: Counter[str] = Counter()
    for count_by_class in counts.values():
        available.update(count_by_class)
    held: Counter[str] = Counter()
    chosen: set[str] = set()

    def can_spare(name: str) -> bool:
        return all(held[c] + n < available[c] for c, n in counts[name].items())

    def improves(name: str) -> bool:
        gaps = ((n, share * available[c] - held[c]) for c, n in counts[name].items())
        return all(abs(gap - n) <= abs(gap) for n, gap in gaps)

    def take(name: str) -> None:
        chosen.add(name)
        held.update(counts[name])

    for label in sorted(groups):
        order = [groups[label][i] for i in _rng(seed, label).permutation(len(groups[label]))]
        for name in order:
            if held[label] >= share * available[label]:
                break
            if name not in chosen and improves(name) and can_spare(name):
                take(name)
        spare = [name for name in order if can_spare(name)]
        if not held[label] and spare:
            take(min(spare, key=lambda name: sum(counts[name].values())))
    return set(train.loc[group.isin(chosen), "video_id"])


def draw_beside_shots(
    train: pd.DataFrame, shots: Collection[str], count: int, seed: int
) -> set[str]:
    """Ids of `count` random videos of each class, outside the shots, their groups and copies of them.

    `train`: rows of the manifest, the shots among them. A class with fewer such videos gives all of them.
    """
    if not count:
        return set()
    taken = train["video_id"].isin(set(shots))
    same_group = train["group"].isin(set(train.loc[taken, "group"]) - {""})
    left = train[usable(train) & ~taken & ~same_group & ~_is_copy(train, taken)]
    drawn: set[str] = set()
    for label, videos in left.groupby("label")["video_id"]:
        ids = sorted(videos)
        order = _rng(seed, str(label)).permutation(len(ids))
        drawn |= {ids[i] for i in order[:count]}
    return drawn


def _groups_with_copies(train: pd.DataFrame) -> pd.Series:
    """The group of each video, itself where it has none; groups that share a file are one."""
    group = train["group"].where(train["group"] != "", "video " + train["video_id"])
    copied = contents(train)
    shared = group.groupby(copied).unique()
    merged = connected((names[0], other) for names in shared for other in names[1:])
    first = {name: names[0] for names in merged for name in names}
    return group.map(lambda name: first.get(name, name)) if first else group


def _is_copy(train: pd.DataFrame, taken: pd.Series) -> pd.Series:
    """Whether each video is the same file as one of the taken ones."""
    copied = contents(train)
    return copied.notna() & copied.isin(set(copied[taken].dropna()))


def draw_persons(train: pd.DataFrame, share: float, seed: int) -> list[str]:
    """About `share` of the training persons, sorted: at least two, and at least two are left.

    Only persons with two usable tracklets are drawn: a query needs a match. Raises DataError when there are
    too few.
    """
    if not share:
        return []
    persons = train["label"].nunique()
    tracklets = train.loc[usable(train), "label"].value_counts()
    eligible = sorted(str(name) for name in tracklets.index[tracklets >= 2])
    wanted = max(LEAST_PERSONS, math.floor(share * persons + 0.5))
    count = min(wanted, persons - LEAST_PERSONS, len(eligible))
    if count < LEAST_PERSONS:
        raise DataError(
            f"reid: {persons} persons to train on, {len(eligible)} of them with two usable tracklets: to "
            f"hold out {share:g} of them takes {LEAST_PERSONS} of these, and {LEAST_PERSONS} left to train on"
        )
    order = _rng(seed, "persons").permutation(len(eligible))
    return sorted(eligible[i] for i in order[:count])


def shortfall(classes: Collection[str], labels: Collection[int], wanted: int) -> str:
    """A sentence about the classes with fewer than `wanted` held-out videos; empty without any.

    `labels`: indices of `classes`, one a held-out video.
    """
    counts = Counter(labels)
    short = [(name, counts[i]) for i, name in enumerate(classes) if counts[i] < wanted]
    if not short:
        return ""
    named = first_names([f"{name} {count}" for name, count in short], NAMED)
    few = "no video" if wanted == 1 else f"fewer than {wanted} videos"
    return (
        f"{len(short)} of {len(classes)} classes have {few} held out ({named}): no more usable ones "
        "can be spared (those of a shot's group cannot, nor a class's last)"
    )


def _rng(seed: int, name: str) -> np.random.Generator:
    """A random stream that no draw of shots uses: those have the number of shots for the 0, or nothing."""
    return np.random.default_rng([seed, 0, *name.encode()])
