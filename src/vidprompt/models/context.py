"""Learned text context (CoOp): M vectors in front of a class name, shared or one set a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from vidprompt.models.prompts import clean_class_name, tokenize
from vidprompt.models.video_clip import VideoCLIP


class LearnedContext(nn.Module):
    """Contexts of shape (classes or 1, M, W); the text is "[V]1 … [V]M class name."."""

    def __init__(self, names: Sequence[str], length: int, width: int, *, shared: bool) -> None:
        super().__init__()
        self.names = list(names)
        self.shared = shared
        self.vectors = nn.Parameter(torch.randn(1 if shared else len(names), length, width) * 0.02)

    def knows(self, names: Sequence[str]) -> bool:
        """Can it give features for these classes?"""
        return self.shared or set(names) <= set(self.names)

    def features(self, model: VideoCLIP, names: Sequence[str] | None = None) -> torch.Tensor:
        """Features (C, E) of these classes (default: its own), not normalised.

        Raises KeyError for a class it has no context of.
        """
        names = self.names if names is None else list(names)
        length = self.vectors.shape[1]
        filler = " ".join(["X"] * length)
        texts = [f"{filler} {clean_class_name(name)}." for name in names]
        tokens = tokenize(model.backbone.tokenizer, texts).to(self.vectors.device)
        if self.shared:
            context = self.vectors.expand(len(names), -1, -1)
        else:
            row = {name: i for i, name in enumerate(self.names)}
            context = self.vectors[[row[name] for name in names]]
        embedded = model.clip.token_embedding(tokens)
        after = embedded[:, 1 + length :]
        return model.encode_embedded(torch.cat([embedded[:, :1], context, after], 1), tokens)
