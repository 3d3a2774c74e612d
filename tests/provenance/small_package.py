"""A small `src/vidprompt` of three modules that a pipeline's stages run."""

from __future__ import annotations

from pathlib import Path

import yaml

STAGE = "src/vidprompt/pipeline/stages/{}.py"
COMPOSE = "src/vidprompt/config/compose.py"
NETWORK = "src/vidprompt/models/network.py"


def add_package(root: Path, stage: str, command: str) -> None:
    """Write the package, and let a stage of dvc.yaml run `vidprompt <command>` and depend on all of it."""
    for path, text in {
        STAGE.format(command): "def run():\n    from vidprompt.models import network\n",
        COMPOSE: "",
        NETWORK: "width = 1\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    content = yaml.safe_load((root / "dvc.yaml").read_text("utf-8"))
    entry = content["stages"][stage]
    entry = entry.get("do", entry)
    entry["cmd"] = f"vidprompt {command} dataset=toy"
    entry["deps"] = [*entry["deps"], STAGE.format(command), COMPOSE, "src/vidprompt/models"]
    (root / "dvc.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def drop_dependency(root: Path, stage: str, path: str) -> None:
    """From a stage of dvc.yaml and from its entries in dvc.lock."""
    for file in ("dvc.yaml", "dvc.lock"):
        content = yaml.safe_load((root / file).read_text("utf-8"))
        for name, entry in content["stages"].items():
            if name.partition("@")[0] == stage:
                entry = entry.get("do", entry)
                entry["deps"] = [dep for dep in entry["deps"] if path not in _paths(dep)]
        (root / file).write_text(yaml.safe_dump(content, sort_keys=False))


def _paths(dep: str | dict[str, str]) -> tuple[str, ...]:
    """Of a dependency as dvc.yaml or dvc.lock has it."""
    return (dep,) if isinstance(dep, str) else (dep["path"],)
