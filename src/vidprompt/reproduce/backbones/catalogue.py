"""The models of open_clip's registry that are taken, or why not, and figures of the weights people use.

`registry.tsv` is what `loading.unsupported_reason` answers; tests/models/registry_table.py writes it, and a
test compares. `figures.tsv` has sizes, and what others measured with its source.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from vidprompt.config.params_files import read_yaml
from vidprompt.config.plugins import package_params, plugins

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
    """A file of params/backbone with a model of open_clip's registry, or of a plug-in."""

    file: str
    model: str
    tag: str
    figures: Figures | None
    plugin: str | None = (
        None  # distribution and version that builds it; "" where it is not installed
    )

    @property
    def title(self) -> str:
        """`PE-Core-B-16:meta`; of a plug-in's model with its distribution."""
        name = f"{self.model}:{self.tag}" if self.tag or self.plugin is None else self.model
        return name if self.plugin is None else f"{name} ({self.plugin or 'not installed'})"


def registered() -> dict[str, str]:
    """Every model of the registry: its name → why it is refused; "" of those that are taken."""
    return {row[0]: row[1] for row in _rows(REGISTRY)}


def figures() -> dict[tuple[str, str], Figures]:
    """Figures by model and tag."""
    return {(row[0], row[1]): Figures(*row) for row in _rows(FIGURES)}


def configured(folder: Path) -> list[Configured]:
    """The files of a folder like params/backbone, and of plug-ins' packages, that name a registered model or
    the plug-in that builds one. No plug-in is imported; of one file name, the folder's counts."""
    models, known, found = registered(), figures(), []
    folders = [*(one.folder / "backbone" for one in package_params()), folder]
    paths = {path.stem: path for one in folders for path in one.glob("*.yaml")}
    for stem, path in sorted(paths.items()):
        spec = read_yaml(path)
        name, tag = str(spec.get("name")), str(spec.get("pretrained") or "")
        if loader := spec.get("loader"):
            origins = [one.origin for one in plugins("backbones") if one.name == loader]
            found.append(Configured(stem, name, tag, None, " and ".join(origins)))
        elif name in models and not spec.get("config"):
            found.append(Configured(stem, name, tag, known.get((name, tag))))
    return found


def _rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
