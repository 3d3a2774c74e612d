"""Prompt sets (`params/prompts/`): templates or descriptions, and their texts for class names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vidprompt.data.annotations.class_names import check_texts, class_key, class_words
from vidprompt.models.backbones.tokenizer import Tokenizer
from vidprompt.models.text.descriptions import read_descriptions
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import first_names, suggestion

_MAX_QUOTED = 5  # texts quoted in a warning


@dataclass(frozen=True)
class PromptSet:
    """Fixed prompts of a class: templates with one `{}` for its name, or descriptions of each class.

    Args:
        templates: used if there are no `descriptions`.
        descriptions: `class_key` of a class → its texts, as many for every class.
        clean_names: apply `clean_class_name` to names; otherwise only `_` becomes a blank.
        source: named in error messages.

    Raises UserError for no template, one without exactly one `{}`, or unequal numbers of descriptions.
    """

    templates: tuple[str, ...] = ("{}",)
    descriptions: Mapping[str, tuple[str, ...]] | None = None
    clean_names: bool = True
    source: str = "the prompt set"

    def __post_init__(self) -> None:
        if not self.templates and not self.descriptions:
            raise UserError(
                f"{self.source}: no text for a class: prompts.templates=['{{}}'] is its name"
            )
        for template in self.templates:
            if template.count("{}") != 1:
                raise UserError(f"{self.source}: template {template!r} needs exactly one {{}}")
        counts = {len(texts) for texts in (self.descriptions or {}).values()}
        if len(counts) > 1:
            raise UserError(
                f"{self.source}: every class needs the same number of descriptions, and there are "
                f"classes with {' and '.join(map(str, sorted(counts)))}"
            )

    @property
    def per_class(self) -> int:
        """P, the number of texts a class."""
        if self.descriptions:
            return len(next(iter(self.descriptions.values())))
        return len(self.templates)

    def texts(self, class_names: Sequence[str]) -> list[str]:
        """The C·P texts, class by class. Raises UserError for a class without a name or a description."""
        if self.descriptions is None:
            names = [class_words(name, clean=self.clean_names) for name in class_names]
            check_texts(class_names, names, class_names, self.source)
            return [template.replace("{}", name) for name in names for template in self.templates]
        keys = [class_key(name) for name in class_names]
        missing = [
            name
            for name, key in zip(class_names, keys, strict=True)
            if key not in self.descriptions
        ]
        if missing:
            raise UserError(
                f"{self.source} has no description of {len(missing)} of {len(class_names)} classes: "
                + first_names(missing, _MAX_QUOTED)
            )
        return [text for key in keys for text in self.descriptions[key]]


def prompt_set(config: Mapping[str, Any]) -> PromptSet:
    """Build a prompt set from its configuration (a file of `params/prompts/`).

    Raises UserError when the file of descriptions is missing or malformed.
    """
    clean = bool(config.get("clean_names", True))
    if config.get("descriptions"):
        path = Path(config["descriptions"])
        return PromptSet(descriptions=read_descriptions(path), clean_names=clean, source=str(path))
    return PromptSet(tuple(config["templates"]), clean_names=clean)


def context_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `create_model` for a prompt set with a learned context; empty without one.

    `context: {kind: class|shared|none, length: M, position: end|middle|front}`. Raises UserError for an
    unknown key of it.
    """
    context = config.get("context")
    if not context:
        return {}
    names = {"kind": "context", "length": "context_length", "position": "context_position"}
    unknown = sorted(set(context) - set(names))
    if unknown:
        raise UserError(f"prompts.context has no {unknown[0]!r}: {suggestion(unknown[0], names)}")
    return {names[key]: value for key, value in context.items()} | {
        "clean_names": bool(config.get("clean_names", True))
    }


def tokenize_classes(
    tokenizer: Tokenizer, prompts: PromptSet, class_names: Sequence[str]
) -> torch.Tensor:
    """Token ids (C·P, context) of the texts of classes, class by class.

    Raises UserError for a class without a text, and for two classes with the same texts to the tokenizer.
    """
    texts = prompts.texts(class_names)
    tokens = tokenize(tokenizer, texts)
    keys = map(tuple, tokens.reshape(len(class_names), -1).tolist())
    rule = f"as the text tower reads it: {tokens.shape[1]} tokens, without capitals"
    check_texts(class_names, texts[:: prompts.per_class], list(keys), prompts.source, rule)
    return tokens


def tokenize(tokenizer: Tokenizer, texts: Sequence[str]) -> torch.Tensor:
    """Token ids (n, context) of the backbone's tokenizer; a text that is too long is cut, with a warning."""
    texts = list(texts)
    tokens = tokenizer(texts)
    context = tokens.shape[1]
    # only an end of the text, or of the padding, is after those that fit exactly or were cut
    full = [row for row, last in enumerate(tokens[:, -2].tolist()) if last != tokenizer.pad]
    longer = tokenizer([texts[row] for row in full], context + 1) if full else tokens[:0]
    truncated = [
        texts[row]
        for row, more in zip(full, longer.tolist(), strict=True)
        if len(tokenizer.own_ids(more)) > len(tokenizer.own_ids(tokens[row].tolist()))
    ]
    if truncated:
        warn_truncated(truncated, context)
    return tokens


def warn_truncated(texts: Sequence[str], context: int) -> None:
    """Warn that these texts do not fit into `context` tokens."""
    quoted = "; ".join(repr(text) for text in texts[:_MAX_QUOTED])
    rest = f"; and {len(texts) - _MAX_QUOTED} more" if len(texts) > _MAX_QUOTED else ""
    count = "1 text is" if len(texts) == 1 else f"{len(texts)} texts are"
    warnings.warn(f"{count} cut to {context} tokens: {quoted}{rest}", stacklevel=3)
