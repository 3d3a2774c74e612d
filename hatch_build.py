"""Puts the files of `vidprompt init` into the wheel: the repository's own, as pyproject.toml lists them.

An editable install has none: there the repository is beside the package. Nor has a wheel that is built of
`src` alone (deploy/serve.Dockerfile).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGET = "vidprompt/project/skeleton"


class SkeletonHook(BuildHookInterface):
    """Adds `skeleton`, a list of files and folders of the repository, below TARGET."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        names = self.config["skeleton"]
        if version != "editable" and any(Path(self.root, name).exists() for name in names):
            build_data["force_include"] |= {name: f"{TARGET}/{name}" for name in names}
