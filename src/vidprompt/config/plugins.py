"""Plug-ins: what installed packages bring by entry points, listed without importing them.

A package names them in its pyproject.toml, one group a kind (docs/plugins.md):

    [project.entry-points."vidprompt.methods"]
    linear_probe = "my_method:LinearProbe"

Its parameters are package data, in the layout of a project's `params/`:
`my_method/params/method/linear_probe.yaml`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidprompt.system.errors import UserError, named_first_line
from vidprompt.system.suggestions import suggestion

if TYPE_CHECKING:
    from vidprompt.config.schema import Config

PACKAGE = "vidprompt"
KINDS = ("methods", "backbones", "datasets", "objectives", "metrics")
LINKS = "plugins"  # folder of a project: links to the packages that its stages use
# The kinds whose code a stage runs
STAGE_KINDS = {
    "manifest": ("datasets",),
    "backbone": ("backbones",),
    "train": ("methods", "objectives", "backbones"),
    "features": ("methods", "backbones"),
    "evaluate": ("metrics",),
}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
T = TypeVar("T")


@dataclass(frozen=True)
class Plugin:
    """An entry point of an installed distribution; nothing of it is imported until `load`."""

    kind: str  # one of KINDS
    name: str
    distribution: str
    version: str
    entry: EntryPoint

    @property
    def title(self) -> str:
        """`the method linear_probe of my-method 0.1.0`."""
        return f"the {self.kind.removesuffix('s')} {self.name} of {self.origin}"

    @property
    def origin(self) -> str:
        """Distribution and version: `my-method 0.1.0`."""
        return f"{self.distribution} {self.version}".strip()

    @property
    def package(self) -> str:
        """The top-level package (or module) that has the code."""
        return self.entry.module.partition(".")[0]

    @property
    def path(self) -> Path | None:
        """The package's folder (a single module's file); None where it is not found."""
        return _package_path(self.package, tuple(sys.path))

    def load(self) -> Any:
        """Import it. Raises UserError, one sentence, for whatever goes wrong in that."""
        try:
            return self.entry.load()
        except (Exception, SystemExit) as error:
            raise UserError(
                f"{self.title} cannot be imported ({self.entry.value}: {named_first_line(error)}): repair "
                f"or uninstall {self.distribution}"
            ) from error


def plugins(kind: str | None = None) -> tuple[Plugin, ...]:
    """The installed plug-ins (of one kind), sorted by kind, name and distribution."""
    found = _installed(tuple(sys.path))
    return found if kind is None else tuple(one for one in found if one.kind == kind)


@lru_cache(maxsize=8)
def _installed(search_path: tuple[str, ...]) -> tuple[Plugin, ...]:
    """The plug-ins of the distributions on a search path: to read them all takes some milliseconds."""
    del search_path  # `entry_points` reads sys.path
    every = entry_points()
    found = [
        Plugin(
            kind,
            entry.name,
            entry.dist.name if entry.dist else "an unknown distribution",
            entry.dist.version if entry.dist else "",
            entry,
        )
        for kind in KINDS
        for entry in every.select(group=f"{PACKAGE}.{kind}")
    ]
    return tuple(sorted(found, key=lambda one: (KINDS.index(one.kind), one.name, one.origin)))


@lru_cache(maxsize=256)
def _package_path(package: str, search_path: tuple[str, ...]) -> Path | None:
    """Where a top-level package is; it is not imported."""
    del search_path
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin or not spec.has_location:
        return None  # not installed, or a namespace package, which is no folder of its own
    file = Path(spec.origin)
    return file.parent if spec.submodule_search_locations is not None else file


def find_plugin(kind: str, name: str) -> Plugin | None:
    """The plug-in of a name; None where there is none. UserError for two of one name."""
    found = [one for one in plugins(kind) if one.name == name]
    if len(found) > 1:
        origins = " and ".join(one.origin for one in found)
        raise UserError(
            f"two distributions bring the {kind.removesuffix('s')} {name}: {origins}; uninstall one"
        )
    return found[0] if found else None


class Registry(Mapping[str, T]):
    """Name → class (or function) of one kind: those of this package, and plug-ins, imported when used.

    Ours are added to `own` where a registry is made: models/factory.py, training/objectives.py,
    data/annotations, metrics/measures.py, models/backbones/towers.py. A name of ours always means ours.

    Args:
        kind: one of KINDS.
        own: those of this package.
        problem: what is wrong with an imported object, as the end of a sentence ("is no class …"); "" if
            nothing is.
    """

    def __init__(self, kind: str, own: Mapping[str, T], problem: Callable[[Any], str]) -> None:
        self.kind, self.own, self._problem = kind, dict(own), problem
        self._loaded: dict[Plugin, T] = {}

    def __getitem__(self, name: str) -> T:
        """Raises UserError for an unknown name, and for a plug-in that does not work."""
        if name in self.own:
            return self.own[name]
        plugin = find_plugin(self.kind, name)
        if plugin is None:
            one = self.kind.removesuffix("s")
            raise UserError(
                f"{one}={name}: {suggestion(name, self)} (`vidprompt plugins` lists what is installed)"
            )
        return self.load(plugin)

    def load(self, plugin: Plugin) -> T:
        """A plug-in's object. UserError, one sentence, where it cannot be used."""
        if reason := self.refused(plugin):
            raise UserError(reason)
        if plugin not in self._loaded:
            found = plugin.load()
            if reason := self._problem(found):
                raise UserError(f"{plugin.title} {reason} ({plugin.entry.value})")
            self._loaded[plugin] = found
        return self._loaded[plugin]

    def refused(self, plugin: Plugin) -> str:
        """Why a plug-in is not imported at all, as a sentence; "" if it is."""
        if plugin.name in self.own:
            return f"{plugin.title} has a name of vidprompt's own: it is not used; rename it"
        if not _NAME.fullmatch(plugin.name):
            return f"{plugin.title}: names are of small letters, digits and _: rename it"
        find_plugin(self.kind, plugin.name)
        return ""

    def __contains__(self, name: object) -> bool:
        return name in self.own or any(one.name == name for one in plugins(self.kind))

    def __iter__(self) -> Iterator[str]:
        """All names, ours first; no plug-in is imported."""
        yield from dict.fromkeys([*self.own, *(one.name for one in plugins(self.kind))])

    def __len__(self) -> int:
        return len(list(iter(self)))


def subclass_problem(base: type) -> Callable[[Any], str]:
    """The `problem` of a registry of classes."""

    def problem(found: Any) -> str:
        if isinstance(found, type) and issubclass(found, base):
            return ""
        return f"is no subclass of {base.__module__}.{base.__qualname__}"

    return problem


# -- what a configuration uses ----------------------------------------------------------------------


def used_plugins(config: Config, stage: str | None = None) -> tuple[Plugin, ...]:
    """The plug-ins that a configuration names (those whose code a stage runs), sorted."""
    backbone = config.backbone
    names = {
        "methods": [config.method.name],
        "backbones": [one for one in (backbone.towers, backbone.loader) if one],
        "datasets": [source.reader for source in config.dataset.sources.values()],
        "objectives": [config.method.objective] if config.method.objective else [],
        "metrics": list(config.metrics),
    }
    kinds = KINDS if stage is None else STAGE_KINDS.get(stage, ())
    found = {one for kind in kinds for name in names[kind] if (one := find_plugin(kind, name))}
    return tuple(sorted(found, key=lambda one: (KINDS.index(one.kind), one.name)))


def plugin_record(used: tuple[Plugin, ...]) -> dict[str, str]:
    """`methods/linear_probe` → `my-method 0.1.0`: what results and checkpoints record."""
    return {f"{one.kind}/{one.name}": one.origin for one in used}


# -- parameters -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PackageParams:
    """The parameters that a plug-in's package brings: its folder `params`, laid out as a project's."""

    folder: Path
    package: str
    origin: str

    def label(self, name: str) -> str:
        """The name of one of its files in messages: `my_method/params/method/x.yaml (my-method 0.1.0)`."""
        return f"{self.package}/params/{name}.yaml ({self.origin})"


def package_params() -> tuple[PackageParams, ...]:
    """Those of all installed plug-ins' packages, sorted by package."""
    found = {}
    for one in plugins():
        path = one.path
        if path is not None and one.package != PACKAGE and (path / "params").is_dir():
            found[one.package] = PackageParams(path / "params", one.package, one.origin)
    return tuple(found[package] for package in sorted(found))
