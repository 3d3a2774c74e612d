"""Class names and the prompts around them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
END_OF_TEXT = 49407


def clean_class_name(name: str) -> str:
    """An annotated class name as words.

    CamelCase is split, `_` and `-` become blanks, runs of blanks one; lower case:
    "HandstandPushups" → "handstand pushups", "brush_hair" → "brush hair".
    """
    words = _CAMEL.sub(" ", name).replace("_", " ").replace("-", " ")
    return " ".join(words.split()).lower()


@dataclass(frozen=True)
class PromptSet:
    """Templates with one `{}` for the class name."""

    templates: tuple[str, ...]

    def of(self, class_names: Sequence[str]) -> list[str]:
        """All texts, class after class: C·P of them."""
        cleaned = [clean_class_name(name) for name in class_names]
        return [template.format(name) for name in cleaned for template in self.templates]


def tokenize(tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """CLIP's BPE; texts longer than the context are cut, with a warning that names them."""
    tokens = tokenizer(list(texts))
    context = tokens.shape[1]
    full = (tokens[:, -1] == END_OF_TEXT).nonzero().flatten().tolist()
    for row in full:
        if len(tokenizer.encode(texts[row])) + 2 > context:
            warnings.warn(f"text longer than {context} tokens is cut: {texts[row]!r}", stacklevel=2)
    return tokens
