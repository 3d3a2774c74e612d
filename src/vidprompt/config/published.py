"""Published figures: the rows of papers' tables (params/published), with the settings that make them."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from vidprompt.config.build import Range, build
from vidprompt.config.compose import compose
from vidprompt.config.names import METHODS
from vidprompt.config.params_files import params_folder, read_yaml
from vidprompt.config.plugins import package_params, plugins
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

FOLDER = "published"
Percent = Annotated[float, Range(0, 100)]


@dataclass(frozen=True)
class Figure:
    """A published figure in percent; `std`: the deviation that was published with it."""

    value: Percent
    std: Percent | None = None

    @property
    def text(self) -> str:
        """`48.6 ± 0.6`."""
        return f"{self.value:.1f}" + (f" ± {self.std:.1f}" if self.std is not None else "")


@dataclass(frozen=True)
class Source:
    """The table or page that a figure is from, and its address."""

    table: str
    url: str


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table. `name` is its file's name and its key, as `ez_clip/zero_shot/hmdb51`.

    Attributes:
        backbone: the published one: a file of params/backbone, or its name where there is none.
        ids: of the splits that the figures are means over; other splits give other figures.
        values: a measure of metrics.json's summary (`top1`, `base/top1`, `hm`, `general/R-1`) → its figure.
        experiment: the preset of params/experiment that makes it; None: the method as it is.
        overrides: `key=value` beside the preset.
        model: the preset that trains the tested model on another dataset (zero-shot).
        start: the preset that trains the checkpoint from which the row's own trainings start
            (`trainer.start_from`).
        differs: what is not as published, or not known.
    """

    name: str
    method: str
    protocol: Literal["zero_shot", "base_to_novel", "few_shot", "supervised", "reid"]
    dataset: str
    backbone: str
    ids: tuple[str, ...]
    values: Mapping[str, Figure]
    source: Source
    experiment: str | None = None
    overrides: tuple[str, ...] = ()
    model: str | None = None
    start: str | None = None
    differs: tuple[str, ...] = field(default=())

    @property
    def settings(self) -> tuple[str, ...]:
        """The overrides that the row stands for."""
        if self.experiment:
            return (f"experiment={self.experiment}", *self.overrides)
        named = {"dataset": self.dataset, "method": self.method, "protocol": self.protocol}
        return (*(f"{key}={value}" for key, value in named.items()), *self.overrides)


def published_rows(params: Path | None = None) -> dict[str, PublishedRow]:
    """Name → row, of all files of params/published, the project's and those of plug-ins' packages.

    Keys of a file beside `rows` count for all its rows; `differs` of both are joined. Raises UserError, with
    file and row, for an unknown key, a wrong value, a method that is neither ours nor an installed plug-in's,
    or a preset that is not there; of a package's file it is a warning, and the file is left out.
    """
    params = params or params_folder()
    presets = _files(params, "experiment")
    rows: dict[str, PublishedRow] = {}
    for file in _files(params, FOLDER).values():
        try:
            rows |= {row.name: row for row in _checked_rows(file, sorted(presets))}
        except UserError as error:
            if file.is_relative_to(params):
                raise
            warnings.warn(f"{error}: this file of a plug-in is left out", stacklevel=2)
    return rows


def _files(params: Path, group: str) -> dict[str, Path]:
    """Name → file of a group, sorted: of the packages of plug-ins, and of `params`, which wins."""
    folders = [*(one.folder for one in package_params()), params]
    return {file.stem: file for one in folders for file in sorted((one / group).glob("*.yaml"))}


def _checked_rows(file: Path, presets: Sequence[str]) -> Iterator[PublishedRow]:
    methods = [*METHODS, *(one.name for one in plugins("methods"))]
    for row in _rows_of(file):
        if row.method not in methods:
            raise UserError(
                f"{file}: {row.name}: method={row.method} is neither ours nor an installed plug-in's: "
                f"{suggestion(row.method, methods)}"
            )
        for preset in (row.experiment, row.model, row.start):
            if preset is not None and preset not in presets:
                raise UserError(
                    f"{file}: {row.name}: no experiment {preset!r}: {suggestion(preset, presets)}"
                )
        yield row


def _rows_of(file: Path) -> Iterator[PublishedRow]:
    content = read_yaml(file)
    rows = content.pop("rows", None)
    if not isinstance(rows, Mapping):
        raise UserError(f"{file}: `rows` is a mapping of names to rows")
    for key, own in rows.items():
        where = f"{file}: {key}"
        if not isinstance(own, Mapping):
            raise UserError(f"{where} is no mapping")
        differs = [*content.get("differs", []), *own.get("differs", [])]
        values = {**content, **own, "differs": differs, "name": f"{file.stem}/{key}"}
        values["values"] = _figures(own.get("values"), where)
        try:
            yield build(PublishedRow, values, "")
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


def _figures(values: Any, where: str) -> dict[str, Any]:
    """Measure → a mapping for `Figure`; `top1: 52.9` is short for `top1: {value: 52.9}`."""
    if not isinstance(values, Mapping) or not values:
        raise UserError(
            f"{where}: `values` is a mapping of measures to figures, and has one at least"
        )
    return {m: v if isinstance(v, Mapping) else {"value": v} for m, v in values.items()}


def find_row(name: str) -> PublishedRow:
    """The row of a name, or of a preset, which has no figures. Raises UserError with the closest names."""
    rows = published_rows()
    if name in rows:
        return rows[name]
    presets = _presets(params_folder())
    if name in presets:
        return _preset_row(name)
    near = [one for one in (*rows, *presets) if name.strip("/") in one]
    near += difflib.get_close_matches(name, [*rows, *presets], n=5, cutoff=0.4)
    nearest = f"close to it: {', '.join(list(dict.fromkeys(near))[:6])}; " if near else ""
    raise UserError(f"no published row {name!r}: {nearest}`vidprompt reproduce --list` shows all")


def _presets(params: Path) -> list[str]:
    """The experiments that stand for one method on one dataset."""
    presets = []
    for file in _files(params, "experiment").values():
        chosen = {key for one in read_yaml(file).get("defaults", []) for key in one}
        if {"override /dataset", "override /method"} <= chosen:
            presets.append(file.stem)
    return presets


def _preset_row(name: str) -> PublishedRow:
    """A preset as a row without figures; a zero-shot one tests its method's Kinetics-400 model."""
    config = compose([f"experiment={name}"])
    method, protocol = config.method.name, config.protocol.name
    borrows = protocol == "zero_shot" and config.method.objective is not None
    if borrows and f"{method}_k400" not in _files(params_folder(), "experiment"):
        raise UserError(
            f"{name} tests a model of Kinetics-400, and no preset {method}_k400 trains it: write one, or a "
            "row in params/published that names another (`model`)"
        )
    values: dict[str, Any] = {
        "name": name,
        "method": method,
        "protocol": protocol,
        "dataset": config.dataset.name,
        "backbone": "",
        "ids": [],
        "values": {},
        "source": {"table": "no published figure is known here", "url": ""},
        "experiment": name,
        "model": f"{method}_k400" if borrows else None,
    }
    return build(PublishedRow, values, "")


def rows_of_dataset(dataset: str, params: Path) -> list[PublishedRow]:
    """The published rows of a dataset, in their files' order."""
    return [row for row in published_rows(params).values() if row.dataset == dataset]
