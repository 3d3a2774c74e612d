"""What changed in parameters, in the pipeline's stages and in the code that they depend on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from vidprompt.provenance.revision import parents
from vidprompt.reporting.markdown import plain
from vidprompt.review.sides import Side

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
    many of them (path → stages). `inputs`: a sentence about a dependency or a parameter that stages of both
    sides have on one of them alone → how many stages."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    commands: tuple[tuple[str, str, str], ...]  # stage, base's, head's
    code: dict[str, int]
    inputs: dict[str, int] = field(default_factory=dict)


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
    kept = {p for side in (base, head) for file in side.files for p in (file, *parents(file))}
    written = {**base.output_md5s, **head.output_md5s}
    for name in both:
        deps = [{d["path"]: d.get("md5") for d in s[name].get("deps") or ()} for s in (one, two)]
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
        inputs=dict(sorted(_inputs(one, two, both).items(), key=_weight)),
    )


def _inputs(one: Mapping[str, Any], two: Mapping[str, Any], both: Iterable[str]) -> dict[str, int]:
    """A stage that no longer depends on something would hide a change of it."""
    found: Counter[str] = Counter()
    for name in both:
        base, head = (set(_read_by(side[name])) for side in (one, two))
        found.update(f"{what}: no longer an input" for what in base - head)
        found.update(f"{what}: a new input" for what in head - base)
    return found


def _weight(entry: tuple[str, int]) -> tuple[bool, bool, str]:
    """What is no longer an input first, and files before keys: a long list is cut."""
    return entry[0].endswith("a new input"), ".yaml: " in entry[0], entry[0]


def _read_by(entry: Mapping[str, Any]) -> Iterator[str]:
    for dep in entry.get("deps") or ():
        yield f"`{plain(dep['path'])}`"
    params = entry.get("params")
    for file, keys in params.items() if isinstance(params, Mapping) else ():
        for key in keys if isinstance(keys, Mapping) else ():
            yield f"`{plain(file)}: {plain(key)}`"


def _made(path: str, written: Mapping[str, str]) -> bool:
    """Is it an output, in one, or does it hold one?"""
    around = (path, *parents(path))
    return any(p in written for p in around) or any(out.startswith(f"{path}/") for out in written)
