"""Start a model from the values of another one: the second of two trainings from the first's checkpoint."""

from __future__ import annotations

import re

import torch

from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.methods.video_clip import VideoCLIP

_LOW_RANK = re.compile(r"parametrizations\.(\w+)\.original")  # a weight with LoRA, in a state dict


def changed_tensors(first: VideoCLIP, backbone: Backbone) -> frozenset[str]:
    """Names of the tensors of CLIP that a trained model has other values of than its backbone."""
    if first.clip is backbone.clip:
        return frozenset()
    before = backbone.clip.state_dict()
    now = first.clip.state_dict()
    return frozenset(name for name, value in now.items() if not torch.equal(value, before[name]))


@torch.no_grad()
def start_from(model: VideoCLIP, first: VideoCLIP, changed: frozenset[str]) -> list[str]:
    """Give a new model the values of another one, on whose backbone it was built.

    Copied are the method's own parameters that both have, by name and shape (contexts of single classes where
    the classes are the same). What `changed` of CLIP and is not trained again becomes part of the new model's
    checkpoint (`VideoCLIP.started`), which therefore needs no file beside the backbone's. Returns the names
    of the parameters that were copied.
    """
    values = {n: p for n, p in first.named_parameters() if not n.startswith("clip.")}
    if not _same_contexts(model, first):
        values = {n: p for n, p in values.items() if not n.startswith("context.")}
    copied = []
    for name, parameter in model.named_parameters():
        value = values.get(name)
        if value is not None and value.shape == parameter.shape:
            parameter.copy_(value)
            copied.append(name)
    trained = {name for name, p in model.clip.named_parameters() if p.requires_grad}
    own = {name: _LOW_RANK.sub(r"\1", name) for name in model.clip.state_dict()}
    model.started = frozenset(
        f"clip.{name}" for name, plain in own.items() if plain in changed and name not in trained
    )
    return copied


def _same_contexts(model: VideoCLIP, first: VideoCLIP) -> bool:
    """True unless both have contexts, of different classes."""
    one, other = model.context, first.context
    if one is None or other is None:
        return True
    return (one.shared and other.shared) or one.names == other.names
