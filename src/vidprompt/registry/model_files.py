"""The files of a model on this disk: its weights, its backbone, and the copy kept of a registered version.

cache/registry/weights/<MD5>.safetensors    weights that are not in models/
cache/registry/<name>/<version>/
    model.safetensors
    backbone/…         the backbone's files, unless open_clip downloads them, and its tokenizer's
    version.json       commit, backbone and the files' SHA-256; written last
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vidprompt.config.params_files import read_yaml
from vidprompt.config.plugins import package_params
from vidprompt.files.atomic import replacing, write_json
from vidprompt.files.hashes import digest, sha256
from vidprompt.models.backbones.local_files import (
    FOLDER_CONFIG,
    FOLDER_WEIGHTS,
    LOCAL_DIR,
    PACKAGED,
    TOKENIZER_CONFIG,
    TOKENIZER_FILES,
    tokenizer_files,
)
from vidprompt.models.checkpoint_metadata import CheckpointMetadata, read_metadata
from vidprompt.provenance.dvc_project import DvcProject, has_md5
from vidprompt.provenance.revision import Revision
from vidprompt.registry.declared import DeclaredModel, find_model
from vidprompt.registry.versions import Version
from vidprompt.system.errors import UserError

FOLDER = Path("cache/registry")
VERSION_FILE = "version.json"
_FILES = ("config", "weights")  # keys of a backbone's parameters that name files


@dataclass(frozen=True)
class Weights:
    """A file with a model's weights and its hashes; `digest` is the checkpoint's in metrics.json."""

    file: Path
    md5: str
    sha256: str
    digest: str
    metadata: CheckpointMetadata


def find_weights(model: DeclaredModel, project: DvcProject) -> Weights:
    """The weights that the revision's dvc.lock names, from models/, DVC's cache or a remote.

    UserError where dvc.lock names none, or no store has them.
    """
    md5 = project.tracked_md5(model.path)
    if md5 is None:
        raise UserError(
            f"dvc.lock of {project.revision.label} names no {model.path}: `dvc repro` trains {model.name}, "
            "then commit dvc.lock"
        )
    file = project.root / model.path
    if not has_md5(file, md5):
        file = project.root / FOLDER / "weights" / f"{md5}.safetensors"
        if not has_md5(file, md5):
            project.copy(model.path, file)
    metadata, hashed = read_metadata(file), sha256(file)
    return Weights(file, md5, hashed, digest(hashed), metadata)


def find_backbone(model: DeclaredModel, project: DvcProject) -> dict[str, Any]:
    """The parameters (params/backbone) of the backbone of a model's dataset. UserError for none.

    Of a backbone in a folder, the files in it are named. A file that the revision has not is that of a
    plug-in's package, as it is installed.
    """
    revision = project.revision
    dataset = _params_of(revision, f"dataset/{model.dataset}")
    choice = (dataset.get("pipeline") or {}).get("backbone")
    for one in [] if choice else revision.yaml("params/config.yaml").get("defaults") or []:
        choice = one.get("backbone", choice) if isinstance(one, dict) else choice
    backbone = _params_of(revision, f"backbone/{choice}")
    if not backbone:
        raise UserError(
            f"{revision.label} does not say what backbone {model.name} is on: no "
            f"params/backbone/{choice}.yaml in it"
        )
    return _files_of_folder(dict(backbone), project)


def _params_of(revision: Revision, name: str) -> dict[str, Any]:
    """A file of params/: of a revision, else of a plug-in's package; {} where there is none."""
    if content := revision.yaml(f"params/{name}.yaml"):
        return content
    files = (one.folder / f"{name}.yaml" for one in package_params())
    return next((read_yaml(file) for file in files if file.is_file()), {})


def _files_of_folder(backbone: dict[str, Any], project: DvcProject) -> dict[str, Any]:
    """The parameters of a backbone named `local-dir:FOLDER`, with the files that are tracked there."""
    name = str(backbone.get("name"))
    if not name.startswith(LOCAL_DIR) or all(backbone.get(key) for key in _FILES):
        return backbone
    folder = PurePosixPath(name.removeprefix(LOCAL_DIR))
    weights = [str(folder / file) for file in FOLDER_WEIGHTS]
    inside = not folder.is_absolute()
    found = [path for path in weights if inside and project.tracks(path)]
    files = {"config": str(folder / FOLDER_CONFIG), "weights": (found or weights)[0]}
    if inside and project.tracks(str(folder / TOKENIZER_CONFIG)):
        files["tokenizer"] = str(folder)
    return backbone | {key: backbone.get(key) or file for key, file in files.items()}


def backbone_files(backbone: Mapping[str, Any], project: DvcProject) -> dict[str, str]:
    """A backbone's files, of its tokenizer too: path → place in a version's folder.

    Of a tokenizer those that DVC or git tracks; the folder itself where there is none.
    """
    paths = [str(backbone[key]) for key in _FILES if backbone.get(key)]
    files = {path: f"backbone/{PurePosixPath(path).name}" for path in sorted(paths)}
    if named := backbone.get("tokenizer"):
        inside = not PurePosixPath(named).is_absolute()
        tracked = [name for name in TOKENIZER_FILES if inside and project.tracks(f"{named}/{name}")]
        files |= {f"{named}/{name}": f"{PACKAGED}/{name}" for name in tracked}
        if not tracked:
            files[str(named)] = PACKAGED
    return files


@dataclass(frozen=True)
class VersionFiles:
    """A registered version's files; `backbone`: parameters for `load_backbone`, files as absolute paths."""

    version: Version
    model: DeclaredModel
    checkpoint: Path
    backbone: Mapping[str, Any]


def fetch_version(version: Version, root: Path) -> VersionFiles:
    """A version's files in cache/registry, fetched where they are absent, damaged, or of another commit.

    UserError where no store has a file.
    """
    revision = Revision(root.absolute(), version.commit)
    model = find_model(revision, version.name)
    folder = revision.root / FOLDER / version.name / version.version
    if not _is_complete(folder, version):
        shutil.rmtree(folder, ignore_errors=True)
        with DvcProject(revision) as project:
            _fetch(model, project, folder)
    backbone = dict((Revision(folder).json(VERSION_FILE) or {})["backbone"])
    for key in (*_FILES, "tokenizer"):
        if backbone.get(key):
            backbone[key] = str(folder / backbone[key])  # an absolute path stays as it is
    return VersionFiles(version, model, folder / "model.safetensors", backbone)


def _is_complete(folder: Path, version: Version) -> bool:
    """Whether the files are of the commit that has the tag now, and undamaged."""
    try:
        record = Revision(folder).json(VERSION_FILE) or {}
    except UserError:
        return False
    hashes = record.get("sha256") or {}
    if record.get("commit") != version.commit or not hashes:
        return False
    return all(
        (folder / name).is_file() and sha256(folder / name) == wanted
        for name, wanted in hashes.items()
    )


def _fetch(model: DeclaredModel, project: DvcProject, folder: Path) -> None:
    weights = find_weights(model, project)
    with replacing(folder / "model.safetensors") as temporary:
        shutil.copyfile(weights.file, temporary)
    hashes = {"model.safetensors": weights.sha256}
    backbone = find_backbone(model, project)
    for path, name in backbone_files(backbone, project).items():
        if PurePosixPath(path).is_absolute():
            continue
        if name == PACKAGED:
            raise UserError(
                f"{project.revision.label} has no file of a tokenizer in {path} (tokenizer.json, "
                "tokenizer_config.json …): add them to git, or to DVC with `dvc add`"
            )
        project.copy(path, folder / name)
        hashes[name] = sha256(folder / name)
        for key in _FILES:
            if backbone.get(key) == path:
                backbone[key] = name
    _fetch_tokenizer_of_hub(backbone, folder)
    for file in tokenizer_files(folder / PACKAGED):
        backbone["tokenizer"] = PACKAGED
        hashes[f"{PACKAGED}/{file.name}"] = sha256(file)
    record = {"commit": project.revision.commit, "backbone": backbone, "sha256": hashes}
    write_json(folder / VERSION_FILE, record)


def _fetch_tokenizer_of_hub(backbone: Mapping[str, Any], folder: Path) -> None:
    """Write the tokenizer that the Hub has for weights that are in a file into a version's folder."""
    if backbone.get("tokenizer") or not backbone.get("weights"):
        return
    from vidprompt.models.backbones.loading import hub_tokenizer

    config = backbone.get("config")
    shape = {**backbone, "config": str(folder / config) if config else None}
    if tokenizer := hub_tokenizer(shape):
        tokenizer.save(folder / PACKAGED)
