"""The base class of a whole CLIP that open_clip does not build; an installed package brings one as a plug-in.

An entry point of the group `vidprompt.backbones` names the class, and a file of params/backbone the entry
point and the class's options:

    name: my_clip
    loader: my_clip
    options: {width: 512}
    weights: data/my_clip.safetensors
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from vidprompt.models.backbones.interface import ImageTower, TextTower
from vidprompt.system.errors import UserError

Tokenize = Callable[[list[str], int], torch.Tensor]


class CLIPModel(nn.Module, ABC):
    """An image tower and a text tower, their tokenizer, weights, and the statistics of the pixels.

    A subclass sets `visual`, the module of the image tower; all other parameters are the text tower's. Its
    `__init__` draws random weights, is called on the meta device too, and has keyword-only parameters:
    `options` in params/backbone, recorded in checkpoints. `Backbone` keeps it frozen, in evaluation mode and
    in float32.

    Attributes:
        visual: the image tower.
        mean, std: of a pixel's red, green and blue, which are from 0 to 1; class attributes.
        logit_scale: ln of the factor of cosine similarities.
        logit_bias: what is added to logits (SigLIP); None without one.
    """

    visual: nn.Module
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    logit_scale: nn.Parameter
    logit_bias: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.register_parameter("logit_bias", None)

    @abstractmethod
    def image_tower(self) -> ImageTower:
        """A new adapter of `visual`."""

    @abstractmethod
    def text_tower(self) -> TextTower:
        """A new adapter of the text tower."""

    def tokenizer(self) -> Tokenize | None:
        """`(texts, length)` → token ids (n, length), padded or cut; None: CLIP's own tokenizer.

        Called once, when a text is read first. `length` is the text tower's `context_length`, or one more.
        """
        return None

    def weights_file(self, pretrained: str) -> Path:
        """The file of the weights that have a name, of the package or fetched (`pretrained` in params)."""
        raise UserError(f"it has no weights {pretrained!r}: set backbone.weights to a file")

    def load_weights(self, file: Path) -> None:
        """Replace all weights by a file's (safetensors, or PyTorch's with `weights_only`), by their names."""
        if file.suffix == ".safetensors":
            state: dict[str, Any] = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
        self.load_state_dict(state)
