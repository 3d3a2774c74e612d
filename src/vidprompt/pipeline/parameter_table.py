"""How many parameters of each part of a model are trained and frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidprompt.config.schema import Config
    from vidprompt.models.methods.video_clip import VideoCLIP


@dataclass(frozen=True)
class Part:
    """Numbers of parameters of one part of a model."""

    name: str
    trained: int
    frozen: int


def model_without_weights(config: Config, classes: int) -> VideoCLIP:
    """The model of a configuration, with so many classes, on the meta device: nothing is downloaded."""
    import torch

    from vidprompt.models.backbones.loading import load_backbone
    from vidprompt.models.factory import configured_model

    shape = {**vars(config.backbone), "weights": None, "pretrained": None}
    with torch.device("meta"):
        names = [f"class {i}" for i in range(classes)]
        return configured_model(config, names, load_backbone(shape))


def parameter_table(model: VideoCLIP) -> list[Part]:
    """The parts of a model in its own order, CLIP's last, and the total."""
    counts: dict[str, list[int]] = {}
    named = sorted(model.named_parameters(), key=lambda item: item[0].startswith("clip."))
    for name, parameter in named:
        count = counts.setdefault(_part(name), [0, 0])
        count[not parameter.requires_grad] += parameter.numel()
    parts = [Part(name, trained, frozen) for name, (trained, frozen) in counts.items()]
    return [*parts, Part("total", sum(p.trained for p in parts), sum(p.frozen for p in parts))]


def _part(name: str) -> str:
    first, _, rest = name.partition(".")
    if first != "clip":
        return first.replace("_", " ")
    if rest in ("logit_scale", "logit_bias"):
        return f"CLIP {rest.replace('_', ' ')}"
    return "CLIP image tower" if rest.startswith("visual.") else "CLIP text tower"
