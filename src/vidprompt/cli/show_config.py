"""A composed configuration as YAML, with the source of each value beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from vidprompt.config.layers import Composition

WIDEST = 60  # columns of a key with its value, before the source


def as_yaml(composition: Composition, sources: bool = False) -> str:
    """YAML text; with `sources` every value is followed by `# params/<file>.yaml` or `# command line`."""
    lines = list(_lines(composition.values, ""))
    if not sources:
        return "\n".join(text for text, _ in lines)
    width = min(WIDEST, max(len(text) for text, name in lines if name))
    return "\n".join(
        f"{text:<{width}}  # {composition.sources[name]}" if name else text for text, name in lines
    )


def _lines(node: Mapping[str, Any], inside: str) -> Iterator[tuple[str, str]]:
    """Lines of YAML, each with the dotted name of its value; of a mapping's own line the name is empty."""
    indent = "  " * inside.count(".")
    for key, value in node.items():
        name = f"{inside}{key}"
        if isinstance(value, dict) and value:
            yield f"{indent}{_text(key)}:", ""
            yield from _lines(value, f"{name}.")
        else:
            yield f"{indent}{_text(key)}: {_text(value)}", name


def _text(value: Any) -> str:
    """A value on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True)
    return text.removesuffix("...\n").strip()
