"""Which usable videos of a manifest are the same file, and groups of what belongs together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import pandas as pd

from vidprompt.data.manifest.table import usable

Item = TypeVar("Item", int, str)


def contents(manifest: pd.DataFrame) -> pd.Series:
    """The hash of each usable video that another usable one shares; None elsewhere."""
    if "hash" not in manifest:
        return pd.Series([None] * len(manifest), index=manifest.index, dtype=object)
    known = manifest["hash"].astype(object).fillna("").astype(str)
    known = known.where(usable(manifest) & (known != ""), None)
    return known.where(known.notna() & known.duplicated(keep=False), None)


def connected(pairs: Iterable[tuple[Item, Item]]) -> list[list[Item]]:
    """Groups that pairs connect, each sorted, in the order of their first."""
    parent: dict[Item, Item] = {}

    def root(item: Item) -> Item:
        while (above := parent.setdefault(item, item)) != item:
            parent[item] = parent.setdefault(above, above)
            item = parent[item]
        return item

    for one, other in pairs:
        a, b = sorted((root(one), root(other)))
        parent[b] = a
    groups: dict[Item, list[Item]] = {}
    for item in sorted(parent):
        groups.setdefault(root(item), []).append(item)
    return sorted(groups.values())
