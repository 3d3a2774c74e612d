"""Videos held out of a training list, to choose among checkpoints by. Never videos of a test list.

A draw is a function of the training videos (id, class, group, health) and of the seed: their order does
not matter, and a class's draw does not depend on other classes unless they share groups. Only usable
videos are drawn, as shots are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from vidprompt.data.manifest.table import usable
from vidprompt.system.errors import DataError, UserError

LEAST_PERSONS = 2  # to rank among each other, and to train on
NAMED = 5  # classes that a sentence names


def check_share(value: Any, where: str) -> None:
    """A share of videos or persons in [0, 1); 0 holds nothing out. Raises UserError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise UserError(
            f"{where}: held_out={value} is no share: give 0 (none) or a number below 1, as 0.1"
        )


def check_count(value: Any, where: str) -> None:
    """So many videos of a class; 0 holds nothing out. Raises UserError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(
            f"{where}: held_out={value} is no count: give 0 (none) or how many videos of each class, as 4"
        )


def check_seed(value: Any, where: str) -> None:
    """A draw's seed, an integer from 0. Raises UserError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"{where}: held_out_seed={value} is no seed: give an integer from 0")


def draw_share(train: pd.DataFrame, share: float, seed: int) -> set[str]:
    """Ids of about `share` of each class's videos, by whole groups where groups are known.

    `train`: rows of the manifest. In a random order of a class's groups (a video without one is its
    own), each is taken that brings the class nearer to its share, and no class of the group further from
    its own. Where none does, the smallest is taken, so that every class has some; but never the last
    usable videos of a class, so a class of a single group has none. With groups within classes, a class
    has its share to within one group. A group goes as a whole, its unusable videos too.
    """
    if not share:
        return set()
    group = train["group"].where(train["group"] != "", "video " + train["video_id"])
    good = usable(train)
    sizes = Counter(zip(group[good], train.loc[good, "label"], strict=True))
    parts: dict[str, dict[str, int]] = {}  # group → class → usable videos
    groups: dict[str, list[str]] = {}  # class → groups, sorted
    for (name, label), count in sorted(sizes.items()):
        parts.setdefault(name, {})[label] = count
        groups.setdefault(label, []).append(name)
    there: Counter[str] = Counter()
    for part in parts.values():
        there.update(part)
    held: Counter[str] = Counter()
    chosen: set[str] = set()

    def spares(name: str) -> bool:
        return all(held[c] + n < there[c] for c, n in parts[name].items())

    def nearer(name: str) -> bool:
        gaps = ((n, share * there[c] - held[c]) for c, n in parts[name].items())
        return all(abs(gap - n) <= abs(gap) for n, gap in gaps)

    def take(name: str) -> None:
        chosen.add(name)
        held.update(parts[name])

    for label in sorted(groups):
        order = [groups[label][i] for i in _rng(seed, label).permutation(len(groups[label]))]
        for name in order:
            if held[label] >= share * there[label]:
                break
            if name not in chosen and nearer(name) and spares(name):
                take(name)
        spared = [name for name in order if spares(name)]
        if not held[label] and spared:
            take(min(spared, key=lambda name: sum(parts[name].values())))
    return set(train.loc[group.isin(chosen), "video_id"])


def draw_beside(train: pd.DataFrame, shots: Collection[str], count: int, seed: int) -> set[str]:
    """Ids of `count` random videos of each class that are no shots, and of no group that a shot is of.

    `train`: rows of the manifest, the shots among them. A class that has fewer such videos gives those.
    """
    if not count:
        return set()
    taken = train["video_id"].isin(set(shots))
    near = train["group"].isin(set(train.loc[taken, "group"]) - {""})
    left = train[usable(train) & ~taken & ~near]
    drawn: set[str] = set()
    for label, videos in left.groupby("label")["video_id"]:
        ids = sorted(videos)
        order = _rng(seed, str(label)).permutation(len(ids))
        drawn |= {ids[i] for i in order[:count]}
    return drawn


def draw_persons(train: pd.DataFrame, share: float, seed: int) -> list[str]:
    """About `share` of the persons to train on, sorted: two at least, and two at least are left.

    Only persons with two usable tracklets are drawn: a query wants something to find. Raises DataError
    where there are too few.
    """
    if not share:
        return []
    persons = train["label"].nunique()
    tracklets = train.loc[usable(train), "label"].value_counts()
    able = sorted(str(name) for name in tracklets.index[tracklets >= 2])
    wanted = max(LEAST_PERSONS, math.floor(share * persons + 0.5))
    count = min(wanted, persons - LEAST_PERSONS, len(able))
    if count < LEAST_PERSONS:
        raise DataError(
            f"reid: {persons} persons to train on, {len(able)} of them with two usable tracklets: to hold "
            f"out {share:g} of them takes {LEAST_PERSONS} of these, and {LEAST_PERSONS} left to train on"
        )
    order = _rng(seed, "persons").permutation(len(able))
    return sorted(able[i] for i in order[:count])


def shortfall(classes: Collection[str], labels: Collection[int], wanted: int) -> str:
    """A sentence about the classes of which fewer than `wanted` videos are held out, or nothing."""
    found = Counter(labels)
    short = [(name, found[i]) for i, name in enumerate(classes) if found[i] < wanted]
    if not short:
        return ""
    named = ", ".join(f"{name} {count}" for name, count in short[:NAMED])
    more = ", …" if len(short) > NAMED else ""
    few = "no video" if wanted == 1 else f"fewer than {wanted} videos"
    return (
        f"{len(short)} of {len(classes)} classes have {few} held out ({named}{more}): no more usable ones "
        "can be spared (those of a shot's group cannot, nor a class's last)"
    )


def _rng(seed: int, name: str) -> np.random.Generator:
    """A stream that no draw of shots has: those have the number of shots for the 0, or nothing."""
    return np.random.default_rng([seed, 0, *name.encode()])
