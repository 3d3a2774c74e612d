"""Joins the predictions of two results on their common videos, and checks that they are comparable."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from vidprompt.comparison.per_video import KEYS
from vidprompt.system.errors import DataError, UserError


@dataclass(frozen=True)
class Coverage:
    """Counts of one test: videos that both results have, and that only one has."""

    split: str
    test: str
    common: int
    only_a: int
    only_b: int


def pair(
    a: pd.DataFrame, b: pd.DataFrame, names: tuple[str, str]
) -> tuple[pd.DataFrame, tuple[Coverage, ...]]:
    """The common videos of two tables of `read_per_video`, and how many there are a test.

    Sorted by split, test and video; columns other than the keys and `label` are there twice, with `_a`
    and `_b`. UserError when no video is common; DataError when one has two labels, or when different
    classes competed.
    """
    both = a.merge(b, how="outer", on=KEYS, suffixes=("_a", "_b"), indicator="side", sort=True)
    coverage = []
    for (split, test), group in both.groupby(["split", "test"]):
        common, left, right = (
            int((group["side"] == side).sum()) for side in ("both", "left_only", "right_only")
        )
        coverage.append(Coverage(str(split), str(test), common, left, right))
    pairs = both[both["side"] == "both"].drop(columns="side").reset_index(drop=True)
    if pairs.empty:
        raise UserError(f"{names[0]} and {names[1]} have no tested video in common")
    _check_labels(pairs, names)
    _check_classes(pairs, names)
    return pairs.rename(columns={"label_a": "label"}).drop(columns="label_b"), tuple(coverage)


def _check_labels(pairs: pd.DataFrame, names: tuple[str, str]) -> None:
    other = pairs[pairs["label_a"] != pairs["label_b"]]
    if len(other):
        first = other.iloc[0]
        raise DataError(
            f"{len(other)} common videos have different labels, {first['video_id']} for one is "
            f"{first['label_a']!r} in {names[0]} and {first['label_b']!r} in {names[1]}: evaluate both "
            "with the same annotations"
        )


def _check_classes(pairs: pd.DataFrame, names: tuple[str, str]) -> None:
    """DataError where different classes competed: that would be the difference of two tasks."""
    for (split, test), group in pairs.groupby(["split", "test"]):
        counts = [int(group[f"classes_{side}"].iloc[0]) for side in "ab"]
        if not all(counts):  # not kept above 1,000 classes, nor in re-identification
            continue
        seen = set(group["label_a"]) | set(group["predicted_a"]) | set(group["predicted_b"])
        if counts[0] != counts[1] or len(seen) > counts[0]:
            shown = f"{counts[0]} and {counts[1]}" if counts[0] != counts[1] else "different"
            raise DataError(
                f"{split}/{test}: {names[0]} and {names[1]} have {shown} classes, which are two "
                "tasks: compare results of the same class list"
            )
