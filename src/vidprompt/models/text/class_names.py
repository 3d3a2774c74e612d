"""Class names as annotated → words in a prompt, and keys by which names are matched."""

from __future__ import annotations

import re

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BRACKETS = str.maketrans({"[": None, "]": None, "_": " ", "-": " "})
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'"})


def clean_class_name(name: str) -> str:
    """An annotated class name → lower-case words.

    CamelCase is split, `_` and `-` become blanks, square brackets (Something-Something's placeholders) are
    removed, runs of blanks become one: "HandstandPushups" → "handstand pushups", "brush_hair" →
    "brush hair", "Putting [something] on [something]" → "putting something on something". Other
    punctuation stays.
    """
    words = _CAMEL.sub(" ", name).translate(_BRACKETS)
    return " ".join(words.split()).lower()


def class_words(name: str, *, clean: bool) -> str:
    """A class name as it is written in a prompt."""
    return clean_class_name(name) if clean else name.replace("_", " ")


def class_key(name: str) -> str:
    """What is the same in all spellings of a class: its cleaned name without blanks, straight apostrophes.

    "HandstandPushups", "HandStandPushups" and "handstand_pushups" have one key, "handstandpushups".
    """
    return clean_class_name(name).replace(" ", "").translate(_APOSTROPHES)
