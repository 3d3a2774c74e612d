"""The checkpoint that a training starts from (`trainer.start_from`), and what is recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprompt.config import paths
from vidprompt.files.hashes import sha256
from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.checkpoint import load_checkpoint
from vidprompt.models.checkpoint_metadata import read_metadata
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.starting_values import changed_tensors, start_from
from vidprompt.system.errors import UserError


@dataclass(frozen=True)
class StartingPoint:
    """A checkpoint that a training starts from: its file, content, and what it is."""

    path: Path
    sha256: str
    method: str
    trained_on: Mapping[str, str]

    @classmethod
    def of(cls, given: str | None) -> StartingPoint | None:
        """`trainer.start_from`: a file, or a run DATASET/METHOD/SPLIT; None: from the backbone.

        Raises UserError where there is no such file.
        """
        if given is None:
            return None
        path = paths.starting_checkpoint(given)
        if not path.is_file():
            raise UserError(
                f"trainer.start_from={given}: no checkpoint {path}. Train that run first, or give a "
                "checkpoint's file"
            )
        metadata = read_metadata(path)
        return cls(path, sha256(path), metadata.method, metadata.trained_on)

    def record(self) -> dict[str, Any]:
        """What a checkpoint and a training's summary say of it."""
        return {
            "sha256": self.sha256,
            "method": self.method,
            "trained_on": dict(self.trained_on),
        }

    def load(self, backbone: Backbone) -> LoadedStart:
        """The model of the checkpoint on its backbone. Raises UserError where it is of another one."""
        first, _ = load_checkpoint(self.path, backbone)
        return LoadedStart(first, changed_tensors(first, backbone))


@dataclass(frozen=True)
class LoadedStart:
    """A trained model, and what it changed of CLIP."""

    first: VideoCLIP
    changed: frozenset[str]

    @property
    def backbone(self) -> Backbone:
        """The backbone to build the new model on."""
        return self.first.backbone

    def apply(self, model: VideoCLIP) -> str:
        """Start a model that was built on `backbone`; returns what was taken over, as a sentence."""
        copied = start_from(model, self.first, self.changed)
        return (
            f"starts from {self.first.method}: {len(copied)} of its own parameters, {len(self.changed)} "
            "weights of CLIP"
        )
