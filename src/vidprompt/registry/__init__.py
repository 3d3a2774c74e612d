"""The model registry: models of dvc.yaml, versioned by git tags (GTO), gated by params/registry.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidprompt.models.methods.video_clip import VideoCLIP
    from vidprompt.registry.checks import GateReport

__all__ = ["gate_reports", "load", "verdicts"]


def load(model: str, project: Path | str = ".") -> VideoCLIP:
    """A registered model in evaluation mode, on the CPU, ready for `encode_video` and `encode_classes`.

    Args:
        model: `NAME@v0.1.0`, `NAME@latest` or `NAME@STAGE`, as in `ez-clip-demo@production`.
        project: a clone of the project, whatever is checked out: weights and backbone are those of the
            version's commit, from DVC's cache or any configured remote, and are kept in cache/registry.

    UserError, with the valid names, for an unknown name, version or stage, or files that no store has.
    """
    from vidprompt.models.backbones.loading import load_backbone
    from vidprompt.models.checkpoint import load_checkpoint
    from vidprompt.registry.model_files import fetch_version
    from vidprompt.registry.versions import resolve

    root = Path(project)
    version = fetch_version(resolve(root, model), root)
    loaded, _ = load_checkpoint(version.checkpoint, load_backbone(version.backbone))
    return loaded.eval()


def gate_reports(dataset: str, stage: str = "candidate", **options: Any) -> list[GateReport]:
    """Check a dataset's declared models for a stage: see `vidprompt.registry.gates.gate_reports`."""
    from vidprompt.registry import gates

    return gates.gate_reports(dataset, stage, **options)


verdicts = gate_reports  # its earlier name
