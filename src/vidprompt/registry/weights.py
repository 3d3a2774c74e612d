"""The weights of a declared model, by what DVC's lock says of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidprompt.files.hashes import digest, sha256
from vidprompt.models.checkpoint_metadata import CheckpointMetadata, read_metadata
from vidprompt.provenance.dvc_project import DvcProject, has_md5
from vidprompt.registry.declared import Declared
from vidprompt.system.errors import UserError

FETCHED = Path("cache/registry/weights")


@dataclass(frozen=True)
class Weights:
    """A file with a model's weights; `digest` is what metrics.json calls the checkpoint."""

    file: Path
    md5: str
    sha256: str
    digest: str
    metadata: CheckpointMetadata


def find_weights(model: Declared, project: DvcProject) -> Weights:
    """The file that dvc.lock names: as it lies in models/, else from DVC's cache or a remote.

    UserError where dvc.lock names none, or it is nowhere.
    """
    md5 = project.tracked_md5(model.path)
    if md5 is None:
        raise UserError(
            f"dvc.lock of {project.revision.shown} names no {model.path}: `dvc repro` trains {model.name}, "
            "then commit dvc.lock"
        )
    file = project.root / model.path
    if not file.is_file() or not has_md5(file, md5):
        file = project.root / FETCHED / f"{md5}.safetensors"
        if not file.is_file() or not has_md5(file, md5):
            project.copy(model.path, file)
    metadata, whole = read_metadata(file), sha256(file)
    return Weights(file, md5, whole, digest([whole, metadata.config_hash]), metadata)
