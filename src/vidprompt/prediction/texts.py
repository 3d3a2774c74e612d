"""What stands for the classes of a prediction: their texts, and the features of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidprompt.data.annotations.class_names import class_key
from vidprompt.data.annotations.label_maps import read_label_map
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import PromptSet
from vidprompt.system.errors import UserError

Classes = Sequence[str] | Mapping[str, str | Sequence[str]]  # names, or name → description(s)


@dataclass(frozen=True)
class ClassTexts:
    """Classes and the features of their texts.

    `features` (C, P, E): float32, not normalised. `source`: "learned context", "descriptions", "prompts" or
    "class names". `ensemble`, `logit_scale`: how probabilities follow (`metrics.scores`).
    """

    names: tuple[str, ...]
    features: NDArray[np.float32]
    source: str
    ensemble: Any
    logit_scale: float


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


def class_names(classes: Classes) -> tuple[str, ...]:
    """The names of given classes, in order. Raises UserError for none, an empty or a repeated one."""
    if isinstance(classes, str):
        raise UserError(f"classes={classes!r} is one text: give a list of names")
    names = tuple(str(name) for name in classes)
    if not names:
        raise UserError("no class is given: name at least one")
    if repeated := [name for number, name in enumerate(names) if name in names[:number]]:
        raise UserError(f"class {repeated[0]!r} is given twice")
    if not all(name.strip() for name in names):
        raise UserError("a class has an empty name")
    return names


def parse_classes(text: str) -> list[str]:
    """Classes of a command line: names with commas between them, or a file (any form of a label map).

    A name with a comma in it needs a file. Raises UserError.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return list(read_label_map(path).values())
    if path.suffix.lower() in (".txt", ".csv", ".json") and "," not in text:
        raise UserError(f"there is no file {path} of classes")
    return [name.strip() for name in text.split(",") if name.strip()]


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
