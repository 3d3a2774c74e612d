"""The fields of a request as values: texts, numbers, switches and classes, each within its limits."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from vidprompt.prediction.classes import Classes
from vidprompt.serving.errors import RequestError
from vidprompt.serving.forms import VIDEO, Form
from vidprompt.serving.limits import ServiceLimits
from vidprompt.system.suggestions import suggestion

MAX_TEXT = 1000  # characters
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


class Fields:
    """The fields of a form. Every error is a RequestError (422) that names the field."""

    def __init__(self, form: Form, allowed: Sequence[str]) -> None:
        self._values: dict[str, Any] = {**form.fields, **form.values}
        for name in self._values:
            if name not in allowed:
                raise RequestError(
                    422,
                    f"There is no field {name[:40]!r}: {suggestion(name[:40], [VIDEO, *allowed])}.",
                )

    def texts(self, name: str) -> list[str]:
        """All values of a field; an empty list where it is not there."""
        values = self._values.get(name, [])
        lines = [values] if isinstance(values, str) else values
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise RequestError(422, f"{name}: it is no text and no list of texts.")
        for line in lines:
            check_text(name, line)
        return [line.strip() for line in lines if line.strip()]

    def text(self, name: str) -> str:
        """The single value of a field, or ""."""
        lines = self.texts(name)
        if len(lines) > 1:
            raise RequestError(422, f"{name}: it is given {len(lines)} times.")
        return lines[0] if lines else ""

    def number(self, name: str, default: float, least: float, most: float) -> float:
        value = self._single(name, default)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not least <= number <= most:
            raise RequestError(
                422, f"{name}={str(value)[:40]}: it is no number from {least:g} to {most:g}."
            )
        return number

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        number = self.number(name, default, least, most)
        if number != int(number):
            raise RequestError(422, f"{name}={number:g}: it is no whole number.")
        return int(number)

    def switch(self, name: str, default: bool = False) -> bool:
        value = self._single(name, default)
        if isinstance(value, bool):
            return value
        text = str(value).strip().lower()
        if text not in (*_TRUE, *_FALSE):
            raise RequestError(422, f"{name}={text[:40]}: it is neither true nor false.")
        return text in _TRUE

    def classes(self, limits: ServiceLimits) -> Classes | None:
        """The classes: repeated fields, one field with commas or lines, or a JSON list or object.

        An object has descriptions: name → text or list of texts. None where there are none.
        """
        value = self._values.get("classes")
        if value is None:
            return None
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
            value = value[0]
        if isinstance(value, str):
            value = _parse_classes(value)
        if isinstance(value, dict):
            for name in value:
                check_text("classes", name)
            described = {name: _lines(name, texts) for name, texts in value.items()}
            _check_count(described, sum(map(len, described.values())), limits)
            return described
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise RequestError(
                422, "classes: it is no list of names and no object of descriptions."
            )
        names = [one.strip() for one in value if one.strip()]
        for name in names:
            check_text("classes", name)
        _check_count(names, len(names), limits)
        return names or None

    def _single(self, name: str, default: Any) -> Any:
        value = self._values.get(name, default)
        if isinstance(value, list):
            if len(value) != 1:
                raise RequestError(422, f"{name}: it is given {len(value)} times.")
            return value[0]
        return value


def check_text(name: str, text: str) -> None:
    """Raises RequestError for a text that is too long, or no Unicode (JSON can have half a character)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RequestError(422, f"{name}: a text is no Unicode.") from None
    if len(text) > MAX_TEXT:
        raise RequestError(
            422, f"{name}: a text has {len(text):,} characters, and the limit is {MAX_TEXT:,}."
        )


def _parse_classes(text: str) -> Any:
    stripped = text.strip()
    if stripped[:1] in ("[", "{"):
        try:
            return json.loads(stripped)
        except (ValueError, RecursionError):
            raise RequestError(422, "classes: it begins as JSON and is none.") from None
    return stripped.splitlines() if "\n" in stripped else stripped.split(",")


def _lines(name: str, texts: Any) -> list[str]:
    lines = [texts] if isinstance(texts, str) else texts
    if not isinstance(lines, list) or not lines or not all(isinstance(line, str) for line in lines):
        raise RequestError(
            422, f"classes: the descriptions of {name[:40]!r} are no text and no list of texts."
        )
    for line in lines:
        check_text("classes", line)
        if not line.strip():
            raise RequestError(422, f"classes: a description of {name[:40]!r} is empty.")
    return lines


def _check_count(names: Any, texts: int, limits: ServiceLimits) -> None:
    if len(names) > limits.classes:
        raise RequestError(
            422, f"classes: they are {len(names):,}, and the limit is {limits.classes:,}."
        )
    if texts > limits.texts:
        raise RequestError(
            422, f"classes: they have {texts:,} texts, and the limit is {limits.texts:,}."
        )
