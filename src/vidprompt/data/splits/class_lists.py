"""Choose the classes of a zero-shot test: new ones, published partitions, random halves.

Lists keep their order. Names are compared exactly, as the field does: a class of the training set under
another name counts as new unless it is listed as renamed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from vidprompt.data.annotations.label_maps import read_label_map
from vidprompt.system.errors import DataError


def read_classes_file(path: Path, classes: Collection[str] = ()) -> list[str]:
    """Class names of a file: one name a line, an official class list (`1 ApplyEyeMakeup`), or `id,name`.

    `classes`: the dataset's, which tell a header `name` from a class. Raises DataError for a file that is
    missing, names a class twice, or can be read in two ways.
    """
    return list(read_label_map(path, classes).values())


def new_classes(
    classes: Sequence[str], known: Sequence[str], renamed: Sequence[str] = ()
) -> list[str]:
    """The classes that are neither in `known` nor in `renamed` (known ones under another name).

    Kinetics-600 against Kinetics-400: 232 by exact name (EZ-CLIP's choice), 220 without the twelve
    that were only renamed (ER-ZSAR's).
    """
    left_out = {*known, *renamed}
    return [name for name in classes if name not in left_out]


def draw_partition(classes: Sequence[str], test: int, seed: int) -> tuple[list[str], list[str]]:
    """Draw (validation, test) classes by a seed, each in the order of `classes`; `test`: how many to test.

    These are not the published lists. Raises DataError when there are no more than `test` classes.
    """
    if test >= len(classes):
        raise DataError(
            f"{test} test classes of {len(classes)}: none is left for validation; give a smaller number"
        )
    chosen = set(
        np.random.default_rng([seed, len(classes)]).permutation(len(classes))[:test].tolist()
    )
    tested = [name for i, name in enumerate(classes) if i in chosen]
    return [name for i, name in enumerate(classes) if i not in chosen], tested


def half_classes(classes: Sequence[str], seed: int) -> list[str]:
    """A random half as BIKE and Text4Vis draw it: `np.random.seed(s)`, a permutation's first half."""
    order = np.random.RandomState(seed).permutation(len(classes))
    return [classes[i] for i in order[: len(classes) // 2]]


def check_known(wanted: Sequence[str], classes: Sequence[str], where: str) -> None:
    """Raise DataError, naming `where`, when wanted classes are not among the dataset's."""
    unknown = sorted(set(wanted) - set(classes))
    if unknown:
        raise DataError(
            f"{where}: {len(unknown)} of {len(wanted)} classes are not in the dataset, "
            f"first {unknown[0]!r}"
        )
