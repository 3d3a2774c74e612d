"""Class names and the texts around them: a prompt set is data (`params/prompts/`)."""

from __future__ import annotations

import csv
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BRACKETS = str.maketrans({"[": None, "]": None, "_": " ", "-": " "})
_NAMED = 5  # texts that a warning quotes


def clean_class_name(name: str) -> str:
    """An annotated class name as words.

    CamelCase is split, `_` and `-` become blanks, square brackets go (Something-Something's
    placeholders), runs of blanks become one, all in lower case: "HandstandPushups" →
    "handstand pushups", "brush_hair" → "brush hair", "Putting [something] on [something]" →
    "putting something on something". Other punctuation stays.
    """
    words = _CAMEL.sub(" ", name).translate(_BRACKETS)
    return " ".join(words.split()).lower()


@dataclass(frozen=True)
class PromptSet:
    """The fixed texts of a class: templates with one `{}` for its name, or descriptions of its own.

    With `clean_names` the name is cleaned first (`clean_class_name`); otherwise it is taken as it is,
    but for `_`, which becomes a blank.
    """

    templates: tuple[str, ...] = ("{}",)
    descriptions: Mapping[str, tuple[str, ...]] | None = None
    clean_names: bool = True
    source: str = "the prompt set"

    def __post_init__(self) -> None:
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
        """P, texts a class."""
        if self.descriptions:
            return len(next(iter(self.descriptions.values())))
        return len(self.templates)

    def of(self, class_names: Sequence[str]) -> list[str]:
        """All texts, class after class: C·P of them. Raises UserError for an undescribed class."""
        if self.descriptions is None:
            names = [class_words(name, clean=self.clean_names) for name in class_names]
            return [template.replace("{}", name) for name in names for template in self.templates]
        missing = [name for name in class_names if clean_class_name(name) not in self.descriptions]
        if missing:
            raise UserError(
                f"{self.source} has no description of {len(missing)} of {len(class_names)} classes: "
                + ", ".join(missing[:_NAMED])
            )
        return [text for name in class_names for text in self.descriptions[clean_class_name(name)]]


def class_words(name: str, *, clean: bool) -> str:
    """A class name as it stands in a text."""
    return clean_class_name(name) if clean else name.replace("_", " ")


def prompt_set(config: Mapping[str, Any]) -> PromptSet:
    """A prompt set from its configuration (a file of `params/prompts/`).

    Raises UserError when the file of descriptions is missing or malformed.
    """
    clean = bool(config.get("clean_names", True))
    if config.get("descriptions"):
        path = Path(config["descriptions"])
        return PromptSet(descriptions=read_descriptions(path), clean_names=clean, source=str(path))
    return PromptSet(tuple(config["templates"]), clean_names=clean)


def context_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a model for a prompt set with a learned context; none where the method decides.

    `context: {kind: class|shared|none, length: M, position: end|middle|front}`.
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


def read_descriptions(path: Path) -> dict[str, tuple[str, ...]]:
    """Cleaned class name → its descriptions.

    A CSV with the columns `class` and `description` (a class may have several rows), or a JSON object
    of class → text or list of texts. Raises UserError with the line of what is malformed.
    """
    if not path.is_file():
        raise UserError(
            f"no file of descriptions {path}: set prompts.descriptions to a CSV or JSON"
        )
    found: dict[str, list[str]] = {}
    for where, name, text in _read_json(path) if path.suffix == ".json" else _read_csv(path):
        if not isinstance(name, str) or not isinstance(text, str) or not text.strip():
            raise UserError(f"{where}: no description of class {name!r}")
        found.setdefault(clean_class_name(name), []).append(text.strip())
    if not found:
        raise UserError(f"{path} has no descriptions in it")
    return {name: tuple(texts) for name, texts in found.items()}


def _read_csv(path: Path) -> list[tuple[str, Any, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not {"class", "description"} <= set(reader.fieldnames or ()):
            raise UserError(f"{path}:1: the header must have the columns class and description")
        return [(f"{path}:{reader.line_num}", row["class"], row["description"]) for row in reader]


def _read_json(path: Path) -> list[tuple[str, Any, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: an object of class → description is needed")
    rows = []
    for name, value in content.items():
        for text in value if isinstance(value, list) else [value]:
            rows.append((str(path), name, text))
    return rows


def tokenize(tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """The backbone's token ids (n, context); what is too long is cut, with a warning that names it."""
    texts = list(texts)
    tokens: torch.Tensor = tokenizer(texts)
    context = tokens.shape[1]
    full = [row for row, last in enumerate(tokens[:, -1].tolist()) if last != 0]
    # the end-of-text stands in the last place: of a text that just fits, or of one that was cut
    longer = tokenizer([texts[row] for row in full], context + 1) if full else tokens[:0]
    cut = [texts[row] for row, last in zip(full, longer[:, -1].tolist(), strict=True) if last != 0]
    if cut:
        warn_cut(cut, context)
    return tokens


def warn_cut(texts: Sequence[str], context: int) -> None:
    """Say which texts do not fit."""
    quoted = "; ".join(repr(text) for text in texts[:_NAMED])
    rest = f"; and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    count = "1 text is" if len(texts) == 1 else f"{len(texts)} texts are"
    warnings.warn(f"{count} cut to {context} tokens: {quoted}{rest}", stacklevel=3)
