"""Split files: the videos and labels that one protocol trains and tests on; reading and writing them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vidprompt.files.atomic import write_json
from vidprompt.system.errors import DataError


@dataclass
class Subset:
    """Videos with labels that index `classes` (annotated names)."""

    classes: list[str]
    videos: list[str]
    labels: list[int]

    def keep(self, usable: set[str]) -> Subset:
        """The videos that are in `usable`, with their labels."""
        pairs = [(v, x) for v, x in zip(self.videos, self.labels, strict=True) if v in usable]
        return Subset(self.classes, [v for v, _ in pairs], [x for _, x in pairs])


@dataclass
class Split:
    """One split file. `run` names the split file whose training list its model is trained on.

    `val`: videos held out of the official training list, to choose a checkpoint by, or None.
    """

    id: str
    protocol: str
    run: str
    train: Subset | None = None
    val: Subset | None = None
    tests: dict[str, Subset] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The JSON value that docs/architecture.md describes."""
        return asdict(self)


def write_split(split: Split, path: Path) -> None:
    """Write one split file."""
    write_json(path, split.to_json())


def read_split(path: Path) -> Split:
    """Read one split file. Raises DataError when it is missing or malformed."""
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


def split_lists(split: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(`train` | `val` | `tests.<name>`, list) of every list of a split's JSON value."""
    for part in ("train", "val"):
        if split.get(part):
            yield part, split[part]
    for name, test in sorted((split.get("tests") or {}).items()):
        yield f"tests.{name}", test or {}
