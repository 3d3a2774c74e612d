"""The models of open_clip's registry that are taken, or why not, and figures of the weights people use.

`registry.tsv` is what `loading.unsupported_reason` answers; tests/models/registry_table.py writes it, and a
test compares. `figures.tsv` has sizes, and what others measured with its source.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).parent
REGISTRY, FIGURES = HERE / "registry.tsv", HERE / "figures.tsv"


@dataclass(frozen=True)
class Figures:
    """What is known of a model with the weights of a tag."""

    model: str
    tag: str
    pixels: str  # of a side of the input
    parameters: str  # millions, of both towers
    gflops: str  # of a frame in the image tower, two a multiplication
    licence: str  # of the weights
    licence_source: str  # where it says so: a file on GitHub, or a model card of the Hub
    imagenet: str  # top-1 of zero-shot classification, percent
    kinetics400: str  # the same of videos
    source: str  # of the two


@dataclass(frozen=True)
class Configured:
    """A file of params/backbone with a registered model."""

    file: str
    model: str
    tag: str
    figures: Figures | None


def registered() -> dict[str, str]:
    """Every model of the registry: its name → why it is refused; "" of those that are taken."""
    return {row[0]: row[1] for row in _rows(REGISTRY)}


def figures() -> dict[tuple[str, str], Figures]:
    """Figures by model and tag."""
    return {(row[0], row[1]): Figures(*row) for row in _rows(FIGURES)}


def configured(folder: Path) -> list[Configured]:
    """The files of a folder like params/backbone that name a registered model."""
    models, known, found = registered(), figures(), []
    for path in sorted(folder.glob("*.yaml")):
        spec = yaml.safe_load(path.read_text("utf-8")) or {}
        name, tag = str(spec.get("name")), str(spec.get("pretrained") or "")
        if name in models and not spec.get("config"):
            found.append(Configured(path.stem, name, tag, known.get((name, tag))))
    return found


def _rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
