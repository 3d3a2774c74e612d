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

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Split:
        """The split of a JSON value. Raises KeyError or TypeError for another form."""
        return cls(
            id=raw["id"],
            protocol=raw["protocol"],
            run=raw["run"],
            train=Subset(**raw["train"]) if raw["train"] else None,
            val=Subset(**raw["val"]) if raw.get("val") else None,  # older files have no val
            tests={name: Subset(**test) for name, test in raw["tests"].items()},
        )

    def lists(self) -> Iterator[tuple[str, Subset]]:
        """Every list with its name: `train`, `val`, `tests.<name>`."""
        for name, subset in (("train", self.train), ("val", self.val)):
            if subset is not None:
                yield name, subset
        for name, test in sorted(self.tests.items()):
            yield f"tests.{name}", test

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
        return Split.from_json(json.loads(path.read_text("utf-8")))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not a split file: {error!r}") from error


def read_splits(folder: Path) -> dict[str, Split]:
    """Name of the file → split, of every split file in a folder. Raises DataError as `read_split`."""
    return {file.stem: read_split(file) for file in sorted(folder.glob("*.json"))}
