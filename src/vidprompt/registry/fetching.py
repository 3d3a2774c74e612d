"""A registered version on this disk: weights and backbone of its commit, whatever is checked out.

cache/registry/<name>/<version>/
    model.safetensors
    backbone/…         the files that the backbone is of, where it is no download of open_clip's
    version.json       commit, backbone and the files' SHA-256; written last
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vidprompt.files.atomic import write_json
from vidprompt.files.hashes import sha256
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.revision import Revision
from vidprompt.registry.declared import Declared, find_model
from vidprompt.registry.versions import Version
from vidprompt.registry.weights import find_weights
from vidprompt.system.errors import UserError

KEPT = Path("cache/registry")
ABOUT = "version.json"
FILES = ("config", "weights")  # of a backbone's spec, that name files


@dataclass(frozen=True)
class Fetched:
    """`backbone` is a spec for `load_backbone`, its files absolute paths."""

    version: Version
    model: Declared
    checkpoint: Path
    backbone: Mapping[str, Any]


def fetched(version: Version, root: Path) -> Fetched:
    """Fetch what is not here, and check what is against the checksums it came with.

    UserError where a file is nowhere.
    """
    revision = Revision(root.absolute(), version.commit)
    model = find_model(revision, version.name)
    folder = revision.root / KEPT / version.name / version.version
    about = Revision(folder)
    if not _whole(about, version):
        shutil.rmtree(folder, ignore_errors=True)
        with DvcProject(revision) as project:
            _fetch(model, project, folder)
    spec = dict((about.json(ABOUT) or {})["backbone"])
    for key in FILES:
        if spec.get(key):
            spec[key] = str(folder / spec[key])  # an absolute path stays as it is
    return Fetched(version, model, folder / "model.safetensors", spec)


def _whole(about: Revision, version: Version) -> bool:
    """Is it of the commit that has the tag now, and undamaged?"""
    try:
        said = about.json(ABOUT) or {}
    except UserError:
        return False
    sums = said.get("sha256") or {}
    if said.get("commit") != version.commit or not sums:
        return False
    return all(
        (about.root / name).is_file() and sha256(about.root / name) == wanted
        for name, wanted in sums.items()
    )


def _fetch(model: Declared, project: DvcProject, folder: Path) -> None:
    weights = find_weights(model, project)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(weights.file, folder / "model.safetensors")
    sums = {"model.safetensors": weights.sha256}
    spec = backbone_of(model, project.revision)
    for key in FILES:
        path = spec.get(key)
        if not path or PurePosixPath(path).is_absolute():
            continue
        name = f"backbone/{PurePosixPath(path).name}"
        project.copy(str(path), folder / name)
        spec[key], sums[name] = name, sha256(folder / name)
    about = {"commit": project.revision.commit, "backbone": spec, "sha256": sums}
    write_json(folder / ABOUT, about)


def backbone_of(model: Declared, revision: Revision) -> dict[str, Any]:
    """What params/backbone says of the backbone that the revision's dataset goes with."""
    dataset = revision.yaml(f"params/dataset/{model.dataset}.yaml")
    choice = (dataset.get("pipeline") or {}).get("backbone")
    for one in [] if choice else revision.yaml("params/config.yaml").get("defaults") or []:
        choice = one.get("backbone", choice) if isinstance(one, dict) else choice
    spec = revision.yaml(f"params/backbone/{choice}.yaml")
    if not spec:
        raise UserError(
            f"{revision.shown} does not say what backbone {model.name} is on: no "
            f"params/backbone/{choice}.yaml in it"
        )
    return spec
