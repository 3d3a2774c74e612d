"""Packages with plug-ins as pip leaves them: a folder of code and one of metadata, on the search path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(
    site: Path,
    name: str,
    entries: Mapping[str, Mapping[str, str]],
    files: Mapping[str, str],
    version: str = "0.1.0",
) -> Path:
    """Write a distribution with entry points (kind → name → object) and files; returns its folder."""
    package = name.replace("-", "_")
    for path, text in files.items():
        file = site / package / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    info = site / f"{package}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = []
    for kind, named in entries.items():
        lines = [f"{key} = {value}" for key, value in named.items()]
        groups.append("\n".join([f"[vidprompt.{kind}]", *lines]))
    (info / "entry_points.txt").write_text("\n\n".join(groups) + "\n")
    return site / package
