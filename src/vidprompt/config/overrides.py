"""Overrides `key=value` of the command line: values in Hydra's grammar, and texts that are taken as they are.

In Hydra's grammar `vids (2024)`, `a=b`, `it's` and `日本` are errors, `[x]` is a list and `2024` a number. A
path is none of these, so the keys in PATHS take it as it is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from vidprompt.system.errors import UserError

# keys whose value is a path
PATHS = (
    "backbone.config",
    "backbone.tokenizer",
    "backbone.weights",
    "dataset.archives",
    "dataset.root",
    "prompts.descriptions",
    "trainer.start_from",
)
_PLAIN = re.compile(r"[A-Za-z_./][\w./@+-]*", re.ASCII)  # the same text in Hydra's grammar
_NO_TEXTS = {"null", "true", "false", "nan", "inf"}
_STARTS = ("[", "{", "(", "'", '"')  # of lists, mappings and quoted texts


def split_override(override: str) -> tuple[str, str]:
    """Key and value. Raises UserError for what is not of the form key=value."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"{override!r} is not of the form key=value")
    return key, value


def override_of(key: str, text: str) -> str:
    """The override that sets a key to a text, whatever is in it."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NO_TEXTS:
        return f"{key}={text}"
    text = re.sub(r"(\\+)('|$)", r"\1\1\2", _without_interpolation(text))
    return f"{key}='{text.replace(chr(39), chr(92) + chr(39))}'"


def is_text(key: str, value: str) -> bool:
    """Whether a value is taken as it is written: of a key in PATHS, or where Hydra's grammar cannot read it.

    Of a path, `null`, an interpolation and what is in quotes as a whole are read by the grammar.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(f"_={value}")
    except HydraException:
        return key in PATHS or not value.startswith(_STARTS)
    quoted = value[:1] in ("'", '"') and value[:1] == value[-1:]
    return key in PATHS and value != "null" and "${" not in value and not quoted


def parse_value(key: str, value: str) -> Any:
    """The value of an override. Raises UserError for several values, HydraException for a grammar error."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if is_text(key, value):
        return _without_interpolation(value)
    override = OverridesParser.create().parse_override(f"{key}={value}")
    if override.is_sweep_override():
        raise UserError(
            f"{key}={value}: one value is needed. A list is written {key}=[1,2]; "
            "`vidprompt multirun` runs several values"
        )
    return override.value()


def with_home(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's values with the home folder in place of `~` at the beginning of paths.

    Not where there is something of that name in the working directory.
    """
    changed = dict(values)
    for key in PATHS:
        group, _, name = key.partition(".")
        path = changed.get(group, {}).get(name)
        if isinstance(path, str) and path.startswith("~") and not os.path.lexists(path):
            whole = os.path.expanduser(path)  # noqa: PTH111 - leaves it where there is no such user
            changed[group] = changed[group] | {name: whole}
    return changed


def _without_interpolation(text: str) -> str:
    r"""A text in which OmegaConf sees no `${…}`: it is written `\${…}`, backslashes before it twice."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
