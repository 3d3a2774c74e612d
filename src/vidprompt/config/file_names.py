"""A dataset's, method's or protocol's name is that of its file in `params/`, so no two write to one path.

Manifests, models and results lie in folders of these names. A copied file whose `name` was forgotten would
overwrite what belongs to the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidprompt.system.errors import UserError

NAMED_GROUPS = ("dataset", "method", "protocol")


def check_name(group: str, stem: str, given: Any, source: str) -> None:
    """Raise UserError where `given`, a file's `name` as `source` sets it, is not the file's own name."""
    if str(given) == stem:
        return
    file = f"params/{group}/{stem}.yaml"
    where = "" if source == file else f" (set by {source})"
    raise UserError(
        f"{file}: name: {given}{where}, but a {group}'s name is its file's, and what is computed lies in "
        f"folders of that name: write name: {stem}"
    )


def check_distinct(group: str, stem: str, stems: Sequence[str]) -> None:
    """Raise UserError where another file of a group differs in capitals only, as many systems ignore them."""
    others = [name for name in stems if name != stem and name.casefold() == stem.casefold()]
    if others and group in NAMED_GROUPS:
        raise UserError(
            f"params/{group}: {stem}.yaml and {others[0]}.yaml differ in capitals only, and would write "
            "to the same folders where the system ignores them: rename one"
        )


def check_unpacked_root(
    stem: str, dataset: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]
) -> None:
    """Raise UserError where unpacking a dataset would replace what another dataset unpacks.

    `others`: file's name → content, of the other datasets.
    """
    if not dataset.get("archives"):
        return
    root = _absolute(dataset["root"])
    for name, other in sorted(others.items()):
        if not other.get("archives") or not other.get("root"):
            continue
        there = _absolute(other["root"])
        if root.is_relative_to(there) or there.is_relative_to(root):
            raise UserError(
                f"datasets {stem} and {name} would both be unpacked to {dataset['root']}: give one another "
                "root in its file in params/dataset, or set archives: null to read what the other unpacks"
            )


def _absolute(path: Any) -> Path:
    return Path.cwd().joinpath(str(path)).resolve()
