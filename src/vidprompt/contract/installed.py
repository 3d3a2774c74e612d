"""What plug-ins are installed, and whether each works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vidprompt.config.plugins import KINDS, Plugin, Registry, plugins
from vidprompt.system.errors import UserError


@dataclass(frozen=True)
class InstalledPlugin:
    """A plug-in, and what is wrong with it ("" if it works)."""

    kind: str
    name: str
    distribution: str
    version: str
    problem: str

    @property
    def state(self) -> str:
        """`works`, or `broken: …`."""
        return f"broken: {self.problem}" if self.problem else "works"

    def to_json(self) -> dict[str, str]:
        return vars(self) | {"state": "broken" if self.problem else "works"}


def registries() -> dict[str, Registry[Any]]:
    """Kind → registry."""
    from vidprompt.data.annotations import READERS
    from vidprompt.metrics.metric import METRICS
    from vidprompt.models.backbones.towers import BACKBONES
    from vidprompt.models.factory import METHODS
    from vidprompt.training.objectives import OBJECTIVES

    every: tuple[Registry[Any], ...] = (METHODS, BACKBONES, READERS, OBJECTIVES, METRICS)
    return dict(zip(KINDS, every, strict=True))


def installed_plugins() -> list[InstalledPlugin]:
    """All plug-ins, each imported to see whether it works; a broken one harms no other."""
    if not plugins():
        return []
    known = registries()
    return [
        InstalledPlugin(
            one.kind, one.name, one.distribution, one.version, _problem(known[one.kind], one)
        )
        for one in plugins()
    ]


def _problem(registry: Registry[Any], plugin: Plugin) -> str:
    try:
        registry.load(plugin)
    except UserError as error:
        return str(error)
    return ""
