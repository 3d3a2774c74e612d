"""What is published of a model: its files, where they come from, and what this project knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vidprompt.files.hashes import digest, sha256
from vidprompt.models.checkpoint_metadata import CheckpointMetadata
from vidprompt.prediction.hub_model import WEIGHTS
from vidprompt.prediction.sources import ModelSource, find_model_source, find_project
from vidprompt.provenance.dvc_project import file_md5
from vidprompt.provenance.git import changed_files, find_commit, is_repository
from vidprompt.provenance.revision import Revision
from vidprompt.registry.declared import (
    DeclaredModel,
    ModelResult,
    find_model,
    model_of_weights,
    model_results,
)
from vidprompt.registry.model_files import Weights
from vidprompt.registry.releases import portable_files
from vidprompt.registry.versions import Version, resolve
from vidprompt.system.errors import UserError

_SAFE = ".safetensors"
_HUB_BACKBONE = "hf-hub:"


@dataclass(frozen=True)
class Origin:
    """The project that a model is of: which training, at which revision.

    `commit`: the one that has this model, of which `revision` is, or HEAD; empty outside of git.
    """

    model: DeclaredModel
    revision: Revision
    version: Version | None
    commit: str
    is_changed: bool  # files of the working tree differ from `commit`


@dataclass(frozen=True)
class Publication:
    """A model to publish. `files`: place in the repository → file of this machine. `origin`: None where it
    is no training of the project."""

    name: str
    source: ModelSource
    metadata: CheckpointMetadata
    files: Mapping[str, Path]
    origin: Origin | None = None

    @property
    def version(self) -> str:
        """`v0.1.0`; empty of what is not registered."""
        return self.origin.version.version if self.origin and self.origin.version else ""

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The files' SHA-256."""
        return {place: sha256(file) for place, file in self.files.items()}

    @cached_property
    def weights(self) -> Weights:
        file, hashed = self.files[WEIGHTS], self.hashes[WEIGHTS]
        return Weights(file, file_md5(file), hashed, digest(hashed), self.metadata)

    @cached_property
    def results(self) -> list[ModelResult]:
        """The results of these very weights; those of an earlier or a later training are none of them."""
        if self.origin is None:
            return []
        found = model_results(self.origin.model, self.origin.revision)
        return [one for one in found if one.digest == self.weights.digest]


def find_publication(
    model: str, *, weights: Path | str | None = None, project: Path | str | None = None
) -> Publication:
    """What MODEL names, with all that another machine needs to load it.

    Raises UserError for a backbone without a training, a model of the Hub, and weights in another format
    than safetensors.
    """
    source = find_model_source(model, weights=weights, project=project)
    if source.checkpoint is None or source.metadata is None:
        raise UserError(f"{model} is a backbone without a training: there is nothing of ours in it")
    if "hub" in source.about:
        raise UserError(f"{model} is on the Hub already")
    backbone = dict(source.backbone)
    if str(backbone.get("name")).startswith(_HUB_BACKBONE):
        backbone.pop("weights", None)  # it stays where it is, and is named
    root = find_project(project)
    origin = _origin(source, root) if root else None
    name = origin.model.name if origin else source.checkpoint.absolute().parent.name
    files = portable_files(name, source.checkpoint, backbone)
    for place, file in files.items():
        if "weights" in backbone and str(file) == str(backbone["weights"]) and file.suffix != _SAFE:
            raise UserError(
                f"{file} is no safetensors file, and only those are published: a file of PyTorch's can run "
                f"code on the machine that loads it ({place})"
            )
    return Publication(name, source, source.metadata, files, origin)


def _origin(source: ModelSource, root: Path) -> Origin | None:
    """Where a checkpoint is from; None where it is no training of the project."""
    if selector := source.about.get("version"):
        version = resolve(root, str(selector))
        revision = Revision(root, version.commit)
        return Origin(find_model(revision, version.name), revision, version, version.commit, False)
    assert source.checkpoint is not None
    try:
        path = source.checkpoint.absolute().relative_to(root.absolute()).as_posix()
    except ValueError:  # elsewhere on this machine
        return None
    workspace = Revision(root)
    model = model_of_weights(workspace, path)
    if model is None:
        return None
    commit, changed = "", False
    if is_repository(root):
        commit = find_commit(root, "HEAD") or ""
        changed = bool(changed_files(root))
    return Origin(model, workspace, None, commit, changed)
