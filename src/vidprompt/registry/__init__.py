"""The model registry: declared in dvc.yaml, versioned by git tags (GTO), judged by params/registry.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidprompt.models.methods.video_clip import VideoCLIP
    from vidprompt.registry.checks import Verdict

__all__ = ["load", "verdicts"]


def load(model: str, project: Path | str = ".") -> VideoCLIP:
    """A registered model in evaluation mode, on the CPU, ready for `encode_video` and `encode_classes`.

    Args:
        model: `NAME@v0.1.0`, `NAME@latest` or `NAME@STAGE`, as in `ez-clip-demo@production`.
        project: a clone of the project. What is checked out there does not matter: weights and backbone
            are those of the version's commit, from DVC's cache or any configured remote, and are kept
            in cache/registry.

    Raises UserError, with what there is, for an unknown name, version or stage, or files that are nowhere.
    """
    from vidprompt.registry.loading import load_model

    return load_model(model, project)


def verdicts(
    dataset: str,
    stage: str = "candidate",
    *,
    project: Path | str = ".",
    tree: bool = False,
    remote: bool = False,
) -> list[Verdict]:
    """Would the dataset's declared models pass a stage's gates, as the workspace is now?

    What cannot be judged has failed, with the reason. `tree`: must everything be committed? `remote`: must
    a remote have the weights? Raises UserError where dvc.yaml or params/registry.yaml cannot be used.
    """
    from vidprompt.registry.verdict import verdicts as judged

    return judged(dataset, stage, project=project, tree=tree, remote=remote)
