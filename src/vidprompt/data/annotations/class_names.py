"""Class names as annotated → words in a prompt, keys by which names are matched, and names that collide."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Sequence

from vidprompt.system.errors import UserError

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BRACKETS = str.maketrans({"[": None, "]": None, "_": " ", "-": " "})
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'"})
_PIECES = re.compile(r"[^\W\d_]+|\d|[^\w\s]+|_+")  # as CLIP's tokenizer cuts a text
_RULE = "capitals, blanks, _ and - do not tell classes apart"


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
    cleaned = clean_class_name(unicodedata.normalize("NFC", name))
    return cleaned.replace(" ", "").translate(_APOSTROPHES)


def check_class_names(names: Sequence[str], where: str) -> None:
    """Raise UserError, naming `where`, when two classes become one text in a prompt, or one becomes none.

    "pick_up" and "PickUp" are both "pick up"; of "-" nothing is left. Blanks around signs and digits do not
    tell classes apart either: CLIP's tokenizer drops them.
    """
    cleaned = [clean_class_name(unicodedata.normalize("NFC", name)) for name in names]
    keys = [tuple(_PIECES.findall(text.translate(_APOSTROPHES))) for text in cleaned]
    check_texts(names, cleaned, keys, where)


def check_texts(
    names: Sequence[str],
    texts: Sequence[str],
    keys: Sequence[Hashable],
    where: str,
    rule: str = _RULE,
) -> None:
    """Raise UserError when two classes have one key, so that no score tells them apart, or one has no text.

    `texts`: of each class, for the message; `keys`: equal where a text tower makes no difference, by the
    `rule` that is quoted. The same name twice is no error.
    """
    first: dict[Hashable, int] = {}
    for i, (name, text, key) in enumerate(zip(names, texts, keys, strict=True)):
        if not text.strip():
            raise UserError(
                f"{where}: class {name!r} has no letter or digit, so no text is left of it: rename it"
            )
        other = first.setdefault(key, i)
        if names[other] != name:
            raise UserError(
                f"{where}: the classes {names[other]!r} and {name!r} have one text, {text!r} ({rule}): no"
                " score can tell them apart; rename one, or make them one class"
            )
