"""A registered model, ready to encode."""

from __future__ import annotations

from pathlib import Path

from vidprompt.models.backbones.loading import load_backbone
from vidprompt.models.checkpoint import load_checkpoint
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.registry.fetching import fetched
from vidprompt.registry.versions import resolve


def load_model(selector: str, project: Path | str = ".") -> VideoCLIP:
    """What `vidprompt.registry.load` does."""
    root = Path(project)
    found = fetched(resolve(root, selector), root)
    model, _ = load_checkpoint(found.checkpoint, load_backbone(found.backbone))
    return model.eval()
