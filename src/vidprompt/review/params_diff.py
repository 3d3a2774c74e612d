"""What changed in parameters, in the pipeline's stages and in the code that they depend on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from vidprompt.review.sides import Side
from vidprompt.review.store import below, each_parent

GENERATED = "params/stages.yaml"  # its difference is that of the stages


@dataclass(frozen=True)
class Param:
    """A key of a file of params/; `base` or `head` is None where the key is not there.

    For a file that one side alone has `key` is empty and the other's value is its number of keys.
    """

    file: str
    key: str
    base: str | None
    head: str | None


@dataclass(frozen=True)
class Stages:
    """Of dvc.lock's stages: those of one side, those with another command, and what code changed for how
    many of them (path → stages)."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    commands: tuple[tuple[str, str, str], ...]  # stage, base's, head's
    code: dict[str, int]


def params(base: Side, head: Side) -> list[Param]:
    """Key by key, sorted by file and key; lists count as a whole."""
    found = []
    names = {p for side in (base, head) for p in side.files if p.startswith("params/")}
    for file in sorted(names):
        if not file.endswith(".yaml") or file == GENERATED:
            continue
        contents = base.read(file), head.read(file)
        if contents[0] == contents[1]:
            continue
        one, two = (_flat(content) for content in contents)
        if contents[0] is None or contents[1] is None:
            count = str(len(one) or len(two))
            found.append(Param(file, "", count if one else None, count if two else None))
            continue
        for key in sorted({*one, *two}):
            if one.get(key) != two.get(key):
                found.append(Param(file, key, one.get(key), two.get(key)))
    return found


def _flat(content: bytes | None) -> dict[str, str]:
    if content is None:
        return {}
    try:
        return dict(_leaves(yaml.safe_load(content), ""))
    except yaml.YAMLError:
        return {"": "cannot be read"}


def _leaves(value: Any, way: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, below_it in value.items():
            yield from _leaves(below_it, f"{way}.{key}" if way else str(key))
    elif way:
        yield way, json.dumps(value, ensure_ascii=False, default=str, sort_keys=True)


def stages(base: Side, head: Side) -> Stages:
    """By dvc.lock, in which the commands are written out."""
    one, two = base.stages, head.stages
    both = sorted(one.keys() & two.keys())
    commands = [
        (name, str(one[name].get("cmd")), str(two[name].get("cmd")))
        for name in both
        if one[name].get("cmd") != two[name].get("cmd")
    ]
    code: dict[str, int] = {}
    kept = {p for side in (base, head) for file in side.files for p in (file, *each_parent(file))}
    written = {**base.recorded, **head.recorded}
    for name in both:
        deps = [{d["path"]: d.get("md5") for d in s[name].get("deps", ())} for s in (one, two)]
        for path in deps[0].keys() | deps[1].keys():
            if deps[0].get(path) == deps[1].get(path):
                continue
            if path in kept and not _made(path, written):  # of git, and no output
                code[path] = code.get(path, 0) + 1
    return Stages(
        added=tuple(sorted(two.keys() - one.keys())),
        removed=tuple(sorted(one.keys() - two.keys())),
        commands=tuple(commands),
        code=dict(sorted(code.items())),
    )


def _made(path: str, written: Mapping[str, str]) -> bool:
    """Is it an output, in one, or does it hold one?"""
    parents = (path, *each_parent(path))
    return any(p in written for p in parents) or any(below(out, path) for out in written)
