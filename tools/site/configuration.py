"""The reference of the configuration: the files of params/ and the types of their keys."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vidprompt.config import schema
from vidprompt.config.build import REST, _describe

PARAMS = Path(__file__).parents[2] / "params"
FOLDER = "reference/configuration"
# group → the types of its files, and what is chosen by it
GROUPS: dict[str, tuple[tuple[type, ...], str]] = {
    "dataset": (
        (schema.DatasetConfig, schema.SourceConfig, schema.ValidationConfig, schema.PublishedList),
        "The videos: where they lie, what is expected of them ([datasets](../../datasets/index.md)).",
    ),
    "backbone": ((schema.BackboneConfig,), "Which CLIP ([backbones](../../backbones.md))."),
    "method": (
        (schema.MethodConfig, schema.BackboneTraining),
        "What is added to it and trained ([models](../../models.md)).",
    ),
    "protocol": (
        (
            schema.SupervisedConfig,
            schema.ZeroShotConfig,
            schema.BaseToNovelConfig,
            schema.FewShotConfig,
            schema.ReidConfig,
            schema.ImageModelConfig,
        ),
        "What is trained and tested on ([protocols](../../protocols.md)). A split's name chooses it.",
    ),
    "trainer": (
        (schema.TrainerConfig, schema.AugmentationConfig),
        "How it is trained ([training](../../training.md)).",
    ),
    "recipe": (
        (),
        "What a method changes of a trainer: `params/recipe/<trainer>/<method>.yaml` follows these "
        "two and is not chosen by itself.",
    ),
    "frames": ((schema.FramesConfig,), "Which frames of a video are kept, and how."),
    "prompts": ((schema.PromptsConfig,), "The texts of classes ([texts](../../models.md#text))."),
    "views": (
        (schema.ViewsConfig,),
        "Clips and crops of a video that is tested ([scores](../../protocols.md#scores-of-a-video)).",
    ),
    "runner": ((schema.RunnerConfig,), "Where frames are decoded."),
    "experiment": ((), "Presets, which win over all files ([presets](../../presets.md))."),
    "published": (
        (),
        "Rows of papers' tables, which `vidprompt reproduce` runs; they are not composed "
        "([published numbers](../../presets.md)).",
    ),
}


def configuration_pages() -> dict[str, str]:
    """Page → its text: an overview, and one for each folder of params/."""
    pages = {f"{FOLDER}/index.md": _overview()}
    for group, (types, text) in GROUPS.items():
        parts = [f"# {group}", text]
        for one in types:
            parts += _type(one)
        for file in sorted((PARAMS / group).rglob("*.yaml")):
            name = file.relative_to(PARAMS.parent).as_posix()
            parts += [
                f"## {file.relative_to(PARAMS / group).with_suffix('').as_posix()}",
                _yaml(name),
            ]
        pages[f"{FOLDER}/{group}.md"] = "\n\n".join(parts) + "\n"
    return pages


def _overview() -> str:
    rows = "\n".join(f"| [{group}]({group}.md) | {text} |" for group, (_, text) in GROUPS.items())
    return f"""# Configuration

Every number that changes a result is in `params/`. A command composes one file of each group, and
`key=value` on the command line has the last word; `vidprompt config key=value … --sources` prints what
comes of it, and the file that each value is from. A wrong key or value is an error that lists the valid ones.

| Group | |
| --- | --- |
{rows}

Who chooses a group's file, first to last: the command line (`method=vita_clip`), the experiment, the
dataset's `pipeline`, the method's `pipeline`, and `params/config.yaml`:

{_yaml("params/config.yaml")}

What `dvc repro` runs:

{_yaml("params/pipeline.yaml")}

What a model needs to be registered ([registry](../../registry.md)):

{_yaml("params/registry.yaml")}
"""


def _yaml(name: str) -> str:
    return f'```yaml title="{name}"\n{(PARAMS.parent / name).read_text("utf-8").rstrip()}\n```'


def _type(cls: Any) -> list[str]:
    """A dataclass of the schema: its first sentence, and a table of its keys."""
    hints = get_type_hints(cls, include_extras=True)
    rows = [
        f"| `{one.name}` | {_kind(hints[one.name])} | {_default(one)} |"
        for one in fields(cls)
        if not one.metadata.get(REST)
    ]
    text = (cls.__doc__ or "").strip().splitlines()[0]
    table = "\n".join(["| Key | Value | Default |", "| --- | --- | --- |", *rows])
    return [f"**{text}**", table]


def _default(one: Any) -> str:
    if one.default is MISSING and one.default_factory is MISSING:
        return ""  # a file has to say it
    value = one.default if one.default is not MISSING else one.default_factory()
    if isinstance(value, tuple):
        value = list(value)
    return f"`{json.dumps(value)}`"


def _kind(kind: Any) -> str:
    """What a value has to be: its choices, or a kind of number, text, list or mapping."""
    if get_origin(kind) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        kinds = [_kind(one) for one in get_args(kind)]
        return ", ".join(kinds[:-1]) + f" or {kinds[-1]}"
    if isinstance(kind, type) and is_dataclass(kind):
        return f"a mapping ({kind.__name__.removesuffix('Config').lower()}, below)"
    if kind is bool:
        return "`true` or `false`"
    if kind is Any:
        return "any value"
    return _describe(kind)
