"""Changes of parameters, stages, the code they depend on, trainings and costs between base and head."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from vidprompt.pipeline.stage_costs import Entries, cost_file, current_inputs, parse_costs
from vidprompt.provenance.revision import parents
from vidprompt.reporting.markdown import single_line
from vidprompt.review.sides import Side

GENERATED = "params/stages.yaml"  # its difference is that of the stages
TRAINING_NUMBERS = ("videos", "steps", "kept_step")
_TRAINING = re.compile(r"results/([^/]+)/([^/]+)/runs/([^/]+)/training\.json")

# --- parameters


@dataclass(frozen=True)
class ParamChange:
    """A key of a file of params/; `base` or `head` is None on a side without the key.

    For a file that only one side has, `key` is empty and that side's value is its number of keys.
    """

    file: str
    key: str
    base: str | None
    head: str | None


def param_changes(base: Side, head: Side) -> list[ParamChange]:
    """The changed keys of params/, sorted by file and key; lists are compared as a whole."""
    changes = []
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
            changes.append(ParamChange(file, "", count if one else None, count if two else None))
            continue
        for key in sorted({*one, *two}):
            if one.get(key) != two.get(key):
                changes.append(ParamChange(file, key, one.get(key), two.get(key)))
    return changes


def _flat(content: bytes | None) -> dict[str, str]:
    """Dotted key → value as JSON."""
    if content is None:
        return {}
    try:
        return dict(_leaves(yaml.safe_load(content), ""))
    except yaml.YAMLError:
        return {"": "cannot be read"}


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, child in value.items():
            yield from _leaves(child, f"{key}.{name}" if key else str(name))
    elif key:
        yield key, json.dumps(value, ensure_ascii=False, default=str, sort_keys=True)


# --- stages and the code they depend on


@dataclass(frozen=True)
class StageDiff:
    """Changes of dvc.lock's stages.

    `commands`: stage, base's command, head's command. `code`: changed path in git → number of stages that
    depend on it. `inputs`: a sentence about a dependency or parameter that a stage has on one side only
    → number of stages.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    commands: tuple[tuple[str, str, str], ...]
    code: dict[str, int]
    inputs: dict[str, int] = field(default_factory=dict)


def stage_diff(base: Side, head: Side) -> StageDiff:
    """Compare the stages of dvc.lock, in which commands are written out."""
    one, two = base.stages, head.stages
    both = sorted(one.keys() & two.keys())
    commands = [
        (name, str(one[name].get("cmd")), str(two[name].get("cmd")))
        for name in both
        if one[name].get("cmd") != two[name].get("cmd")
    ]
    code = Counter[str]()
    in_git = {p for side in (base, head) for file in side.files for p in (file, *parents(file))}
    outputs = {**base.output_md5s, **head.output_md5s}
    for name in both:
        deps = [{d["path"]: d.get("md5") for d in s[name].get("deps") or ()} for s in (one, two)]
        for path in deps[0].keys() | deps[1].keys():
            changed = deps[0].get(path) != deps[1].get(path)
            if changed and path in in_git and not _overlaps_output(path, outputs):
                code[path] += 1
    return StageDiff(
        added=tuple(sorted(two.keys() - one.keys())),
        removed=tuple(sorted(one.keys() - two.keys())),
        commands=tuple(commands),
        code=dict(sorted(code.items())),
        inputs=dict(sorted(_changed_inputs(one, two, both).items(), key=_input_order)),
    )


def _changed_inputs(
    one: Mapping[str, Any], two: Mapping[str, Any], both: Iterable[str]
) -> Counter[str]:
    """A stage that no longer depends on something would hide a change of it."""
    sentences = Counter[str]()
    for name in both:
        base, head = (set(_inputs(side[name])) for side in (one, two))
        sentences.update(f"{what}: no longer an input" for what in base - head)
        sentences.update(f"{what}: a new input" for what in head - base)
    return sentences


def _input_order(entry: tuple[str, int]) -> tuple[bool, bool, str]:
    """What is no longer an input first, and files before keys: a long list is cut."""
    return entry[0].endswith("a new input"), ".yaml: " in entry[0], entry[0]


def _inputs(entry: Mapping[str, Any]) -> Iterator[str]:
    for dep in entry.get("deps") or ():
        yield f"`{single_line(dep['path'])}`"
    params = entry.get("params")
    for file, keys in params.items() if isinstance(params, Mapping) else ():
        for key in keys if isinstance(keys, Mapping) else ():
            yield f"`{single_line(file)}: {single_line(key)}`"


def _overlaps_output(path: str, outputs: Mapping[str, str]) -> bool:
    """Whether a path is an output, lies in one, or contains one."""
    around = (path, *parents(path))
    return any(p in outputs for p in around) or any(out.startswith(f"{path}/") for out in outputs)


# --- trainings


@dataclass(frozen=True)
class TrainingChange:
    """A training run; `base` and `head`: `videos`, `steps`, `kept_step`, `loss`, None without the run."""

    dataset: str
    method: str
    run: str
    base: dict[str, float] | None
    head: dict[str, float] | None


def training_changes(base: Side, head: Side) -> list[TrainingChange]:
    """The runs whose training.json changed, sorted."""
    changes = []
    for path in sorted({*base.files, *head.files}):
        match = _TRAINING.fullmatch(path)
        if match and base.read(path) != head.read(path):
            sides = [_training_numbers(side.try_json(path)) for side in (base, head)]
            changes.append(TrainingChange(match[1], match[2], match[3], *sides))
    return changes


def _training_numbers(record: Any) -> dict[str, float] | None:
    if not isinstance(record, Mapping):
        return None
    last = record.get("last")
    values = {key: record.get(key) for key in TRAINING_NUMBERS}
    values["loss"] = last.get("loss") if isinstance(last, Mapping) else record.get("loss")
    return {k: v for k, v in values.items() if isinstance(v, int | float)}


# --- costs


@dataclass(frozen=True)
class CostChange:
    """A stage that was measured again."""

    stage: str
    base: Mapping[str, Any]
    head: Mapping[str, Any]

    @property
    def same_machine(self) -> bool:
        return bool(self.base.get("machine") == self.head.get("machine"))

    def ratio(self, key: str) -> float | None:
        """Head's number over base's; None for costs of different machines."""
        one, two = (side.get(key) for side in (self.base, self.head))
        numbers = isinstance(one, int | float) and isinstance(two, int | float)
        return two / one if numbers and one and self.same_machine else None


@dataclass(frozen=True)
class CostDiff:
    """Changes of a dataset's cost.json.

    `present`: which of base and head has the file. `stale`: head's entries whose inputs are not those of its
    dvc.lock. `totals`: seconds of the stages that both sides have.
    """

    dataset: str
    present: tuple[bool, bool]
    changed: tuple[CostChange, ...]
    added: Entries
    removed: tuple[str, ...]
    stale: tuple[str, ...]
    totals: tuple[float, float]


def cost_diffs(base: Side, head: Side) -> list[CostDiff]:
    """The datasets for which a side has a cost.json."""
    diffs = []
    for dataset in sorted({*base.datasets, *head.datasets}):
        files = [side.read(cost_file(dataset).as_posix()) for side in (base, head)]
        if files[0] is None and files[1] is None:
            continue
        one, two = (_entries(file) for file in files)
        both = sorted(one.keys() & two.keys())
        inputs = current_inputs(head.stages, dataset)
        diffs.append(
            CostDiff(
                dataset=dataset,
                present=(files[0] is not None, files[1] is not None),
                changed=tuple(CostChange(s, one[s], two[s]) for s in both if one[s] != two[s]),
                added={s: two[s] for s in sorted(two.keys() - one.keys())},
                removed=tuple(sorted(one.keys() - two.keys())),
                stale=tuple(sorted(s for s in two if two[s].get("inputs") != inputs.get(s))),
                totals=(_seconds(one, both), _seconds(two, both)),
            )
        )
    return diffs


def _entries(content: bytes | None) -> Entries:
    try:
        return parse_costs(content) if content else {}
    except ValueError:
        return {}


def _seconds(entries: Entries, stages: Sequence[str]) -> float:
    return round(sum(float(entries[stage].get("seconds", 0)) for stage in stages), 1)
