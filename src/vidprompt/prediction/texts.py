"""Encode the texts of classes: descriptions, templates or the learned context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidprompt.data.annotations.class_names import class_key
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import PromptSet
from vidprompt.prediction.classes import Classes, ClassTexts, class_names


@dataclass(frozen=True)
class TextSettings:
    """The texts that a model was tested with: the descriptions of classes it knows, templates for others."""

    templates: tuple[str, ...] = ("{}",)
    descriptions: Mapping[str, tuple[str, ...]] | None = None
    clean_names: bool = True
    ensemble: str = "softmax_sum"

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TextSettings:
        """From a checkpoint's metadata (`CheckpointMetadata.prompts`)."""
        described = {key: tuple(texts) for key, texts in (values.get("descriptions") or {}).items()}
        return cls(
            templates=tuple(values.get("templates") or ("{}",)),
            descriptions=described or None,
            clean_names=bool(values.get("clean_names", True)),
            ensemble=str(values.get("ensemble", "softmax_sum")),
        )

    def prompts(
        self, names: Sequence[str], own: Sequence[str] | None = None
    ) -> tuple[PromptSet, str]:
        """The prompts of classes, and what they are; `own`: templates instead of the model's."""
        if own is not None:
            return PromptSet(tuple(own), clean_names=self.clean_names, source="prompts"), "prompts"
        described = self.descriptions or {}
        if described and all(class_key(name) in described for name in names):
            return PromptSet(descriptions=described, clean_names=self.clean_names), "descriptions"
        source = "class names" if self.templates == ("{}",) else "prompts"
        return PromptSet(self.templates, clean_names=self.clean_names), source


@torch.inference_mode()
def encode_class_texts(
    encoder: VideoCLIP,
    settings: TextSettings,
    classes: Classes,
    prompts: Sequence[str] | None = None,
) -> ClassTexts:
    """Encode the texts of classes.

    A mapping gives descriptions; `prompts` are templates with one `{}`. Without both, the learned context
    where it knows all classes, else the model's own descriptions or templates.
    """
    names = class_names(classes)
    if isinstance(classes, Mapping):
        texts = {
            name: [text] if isinstance(text, str) else list(text) for name, text in classes.items()
        }
        described = {class_key(name): tuple(lines) for name, lines in texts.items()}
        chosen, source = PromptSet(descriptions=described, source="classes"), "descriptions"
    else:
        chosen, source = settings.prompts(names, prompts)
    context = encoder.context
    if context is not None and not isinstance(classes, Mapping) and prompts is None:
        if context.covers(names):
            source = "learned context"
        else:  # as in tests: contexts of single classes serve no others
            chosen = PromptSet(("{}",), clean_names=context.clean_names)
            source = "class names"
    features = _encode(encoder, names, chosen, plain=source != "learned context")
    return ClassTexts(names, features, source, settings.ensemble, float(encoder.logit_scale))


def _encode(
    encoder: VideoCLIP, names: Sequence[str], prompts: PromptSet, *, plain: bool
) -> NDArray[np.float32]:
    """(C, P, E); `plain`: without the learned context."""
    context = encoder.context
    if plain and context is not None:
        encoder.context = None
    try:
        features = encoder.encode_classes(names, prompts)
    finally:
        encoder.context = context
    array: NDArray[np.float32] = features.float().cpu().numpy()
    return array
