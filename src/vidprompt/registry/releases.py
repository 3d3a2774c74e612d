"""Releases: registered versions in a folder from which a service reads its model.

FOLDER/releases/<name>-<version>-<commit>/
    model.safetensors, backbone/…   as `vidprompt.load` finds them; the folder can be copied elsewhere
    release.json                    name, version, commit and the files' SHA-256; written last
FOLDER/current -> releases/…        the one that is served; replaced in one step
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprompt.files.atomic import replacing, write_json
from vidprompt.files.hashes import sha256
from vidprompt.models.backbones.local_files import PACKAGED, tokenizer_files
from vidprompt.models.checkpoint_metadata import read_metadata
from vidprompt.provenance.revision import Revision
from vidprompt.registry.model_files import VERSION_FILE, VersionFiles
from vidprompt.registry.versions import Version
from vidprompt.system.errors import UserError

RELEASES, CURRENT, RECORD = "releases", "current", "release.json"
KEPT = 3  # releases, that of now among them


@dataclass(frozen=True)
class Release:
    """A version's files in a folder of their own."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def selector(self) -> str:
        return f"{self.record['name']}@{self.record['version']}"

    @property
    def class_names(self) -> list[str]:
        """The classes of its training."""
        return read_metadata(self.folder / "model.safetensors").class_names

    def is_of(self, version: Version) -> bool:
        """Whether it is of that version and of the commit that has its tag now."""
        own = (version.name, version.version, version.commit)
        return own == tuple(self.record.get(key) for key in ("name", "version", "commit"))

    def damaged(self) -> list[str]:
        """The files that are missing or have other content than was written."""
        return [
            name
            for name, wanted in self.record["sha256"].items()
            if not (self.folder / name).is_file() or sha256(self.folder / name) != wanted
        ]


def write_release(files: VersionFiles, folder: Path) -> Release:
    """Copy a version's files to a release of `folder`; one that is there and intact is kept.

    Raises UserError where a copied file is not what was registered.
    """
    version = files.version
    name = f"{version.name.replace('/', '--')}-{version.version}-{version.commit[:7]}"
    target = folder / RELEASES / name
    kept = read_release(target)
    if kept is not None and kept.is_of(version) and not kept.damaged():
        return kept
    part = target.with_name(f".{name}.part")
    for old in (part, target):
        shutil.rmtree(old, ignore_errors=True)
    hashes = {}
    contents = portable_files(version.selector, files.checkpoint, files.backbone)
    for place, source in contents.items():
        with replacing(part / place) as temporary:
            shutil.copyfile(source, temporary)
        hashes[place] = sha256(part / place)
    recorded = (Revision(files.checkpoint.parent).json(VERSION_FILE) or {}).get("sha256") or {}
    if hashes["model.safetensors"] != recorded.get("model.safetensors"):
        raise UserError(
            f"{version.selector}: its copy in {folder} is damaged: is the disk all right?"
        )
    about = {"name": version.name, "version": version.version, "commit": version.commit}
    write_json(part / RECORD, about | {"sha256": hashes})
    part.rename(target)
    return Release(target, about | {"sha256": hashes})


def portable_files(name: str, checkpoint: Path, backbone: Mapping[str, Any]) -> dict[str, Path]:
    """What another machine needs of a model: each file by its place, which is where `vidprompt.load` looks.

    `backbone`: for `load_backbone`, with files of this machine. Raises UserError, for the model called
    `name`, where the checkpoint does not say what its backbone is built from.
    """
    sources = {"model.safetensors": checkpoint}
    if tokenizer := backbone.get("tokenizer"):
        found = tokenizer_files(Path(str(tokenizer)))
        sources |= {f"{PACKAGED}/{file.name}": file for file in found}
    weights, config = backbone.get("weights"), backbone.get("config")
    if not weights:  # open_clip fetches them by their tag
        return sources
    spec = read_metadata(checkpoint).backbone_spec
    if spec.get("weights"):
        return sources | {f"backbone/{Path(spec['weights']).name}": Path(str(weights))}
    if not config or isinstance(config, Mapping):
        raise UserError(
            f"{name} does not say what its backbone is built from, as it was trained by an older version of "
            "VidPrompt: train it again"
        )
    beside = {"backbone.json": Path(str(config)), "backbone.safetensors": Path(str(weights))}
    return sources | beside


def read_release(folder: Path) -> Release | None:
    """The release in a folder; None where there is none, or it was not finished."""
    try:
        record = Revision(folder).json(RECORD)
    except UserError:
        return None
    return Release(folder, record) if record and "sha256" in record else None


def current_release(folder: Path) -> Release | None:
    """The release that is served."""
    link = folder / CURRENT
    return read_release(link.resolve()) if link.is_symlink() else None


def switch_to(release: Release | None, folder: Path) -> None:
    """Serve a release from now on, or none; a reader finds the old or the new one, never half of it."""
    link = folder / CURRENT
    if release is None:
        link.unlink(missing_ok=True)
        return
    temporary = folder / f".{CURRENT}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(Path(RELEASES) / release.folder.name)
    temporary.replace(link)


def remove_old(folder: Path, keep: int = KEPT) -> None:
    """Delete the oldest releases beyond `keep`, but not the current one."""
    current = current_release(folder)
    releases = sorted((folder / RELEASES).glob("*/"), key=lambda one: one.stat().st_mtime)
    others = [one for one in releases if current is None or one.name != current.folder.name]
    for old in others[: max(0, len(others) - keep + 1)]:
        shutil.rmtree(old, ignore_errors=True)
