"""What `vidprompt tune` searches: a file of params/tune/, read and checked against the configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from vidprompt.config.overrides import override_of
from vidprompt.config.params_files import params_folder, read_yaml
from vidprompt.config.schema import Config
from vidprompt.data.splits.held_out import check_count, check_share
from vidprompt.sweep.methods import method_names
from vidprompt.system.errors import UserError, first_line
from vidprompt.system.suggestions import check_choice, suggestion

FOLDER = "tune"  # below params/
SAMPLERS = ("tpe", "random")
PRUNERS = ("median", "hyperband", "none")
KINDS = ("choices", "high", "log", "low", "step")  # keys of a dimension
# What is trained on and measured, and how long: equal for all trials. A key, or all that is in it
FIXED = (
    *("dataset", "experiment", "frames", "multirun", "processes", "protocol", "runner", "seed"),
    *("split", "workers", "trainer.length", "trainer.best_on_test", "trainer.also_tested_on"),
)
# The numbers of a protocol that change a training and no list
OF_TRAINING = (
    *("context_length", "head", "margin", "motion_weight", "people_per_batch"),
    *("tracklets_per_person", "triplet_normalised", "triplet_weight"),
)

Value = float | int | str | bool | None


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, whole ones where both are; `log`: drawn by their logarithm."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __contains__(self, value: object) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high  # type: ignore[operator]

    def __str__(self) -> str:
        how = ", by logarithm" if self.log else f", step {self.step:g}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{how}"


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Value, ...]

    def __contains__(self, value: object) -> bool:
        return any(
            value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.values
        )

    def __str__(self) -> str:
        return " or ".join(map(str, self.values))


Dimension = Range | Choice


@dataclass(frozen=True)
class TuneSettings:
    """A file of params/tune/.

    `trials` are those of each method. The first is the method's recipe as it stands, `startup_trials` are
    random before the sampler learns from them and before any is pruned; each has `warmup` evaluations
    before it may be. Held out is a `share` of each class's training videos, or so many `videos` of each
    class beside the shots. `space` is searched for every method, `methods` has more of one method.
    """

    name: str
    trials: int
    sampler: str
    startup_trials: int
    pruner: str
    warmup: int
    share: float
    videos: int
    space: Mapping[str, Dimension]
    methods: Mapping[str, Mapping[str, Dimension]]

    def dimensions(self, method: str) -> dict[str, Dimension]:
        """Key → what it is searched in, of one method; its own take precedence."""
        return {**self.space, **self.methods.get(method, {})}


def read_settings(name: str, overrides: Sequence[tuple[str, str]] = ()) -> TuneSettings:
    """The file `params/tune/<name>.yaml` with `tune.KEY=VALUE` in place of its numbers.

    Raises UserError for an unknown file or key, and a value of another kind.
    """
    folder = params_folder() / FOLDER
    check_choice("tune", name, sorted(file.stem for file in folder.glob("*.yaml")))
    file = folder / f"{name}.yaml"
    where, content = f"params/{FOLDER}/{name}.yaml", read_yaml(file)
    for key, text in overrides:
        _assign(content, key, text)
    known = {one.name for one in fields(TuneSettings)} - {"name", "share", "videos"} | {"held_out"}
    _check_keys(content, known, where)
    if missing := sorted(known - {"methods"} - content.keys()):
        raise UserError(f"{where} lacks {missing[0]}")
    held_out = _mapping(content["held_out"], f"{where}: held_out")
    _check_keys(held_out, {"share", "videos"}, f"{where}: held_out")
    check_share(held_out.get("share"), f"{where}: held_out.share")
    check_count(held_out.get("videos"), f"{where}: held_out.videos")
    for key, choices in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        check_choice(f"tune.{key}", str(content[key]), choices)
    methods = _mapping(content.get("methods") or {}, f"{where}: methods")
    for method in methods:
        check_choice(f"{where}: methods", method, method_names())
    settings = TuneSettings(
        name=name,
        trials=_count(content["trials"], f"{where}: trials", 1),
        sampler=content["sampler"],
        startup_trials=_count(content["startup_trials"], f"{where}: startup_trials", 0),
        pruner=content["pruner"],
        warmup=_count(content["warmup"], f"{where}: warmup", 1),
        share=held_out["share"],
        videos=held_out["videos"],
        space=_space(content["space"], f"{where}: space"),
        methods={name: _space(of, f"{where}: methods.{name}") for name, of in methods.items()},
    )
    if not settings.space and not any(settings.methods.values()):
        raise UserError(f"{where}: space is empty: name the keys to search, with their ranges")
    return settings


def _assign(content: dict[str, Any], key: str, text: str) -> None:
    """Set `tune.trials`, `tune.space.trainer.lr.low` and the like, as YAML reads the value."""
    import yaml

    first, _, rest = key.partition(".")
    node, name = content, first
    if first in ("held_out", "space") and rest:
        node = content[first] = dict(_mapping(content.get(first) or {}, f"tune.{first}"))
        name = rest
        if first == "space":
            name, _, end = rest.rpartition(".")
            if end not in KINDS:
                raise UserError(f"tune.{key}: {suggestion(end, KINDS)}")
            node[name] = dict(_mapping(node.get(name) or {}, f"tune.space.{name}"))
            node, name = node[name], end
    elif first not in content or rest:
        raise UserError(f"unknown key 'tune.{key}': {suggestion(first, sorted(content))}")
    try:
        node[name] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"tune.{key}={text} is no value: {first_line(error)}") from error


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} is {value!r}: a mapping is needed")
    return value


def _check_keys(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise UserError(f"{where}: unknown {key!r}: {suggestion(str(key), sorted(known))}")


def _count(value: Any, where: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{where} is {value!r}: give a whole number from {least}")
    return value


def _space(content: Any, where: str) -> dict[str, Dimension]:
    given = _mapping(content or {}, where)
    return {str(key): _dimension(value, f"{where}: {key}") for key, value in given.items()}


def _dimension(value: Any, where: str) -> Dimension:
    form = "write {low: 0.1, high: 1.0}, with log: true or step: where wanted, or {choices: [a, b]}"
    if not isinstance(value, Mapping):
        raise UserError(f"{where} is {value!r}: {form}")
    _check_keys(value, set(KINDS), where)
    if "choices" in value:
        choices = value["choices"]
        plain = isinstance(choices, list) and all(
            one is None or isinstance(one, str | int | float) for one in choices
        )
        if len(value) > 1 or not plain or len(set(map(repr, choices))) < 2:
            raise UserError(
                f"{where}: choices are two or more numbers, texts, true, false or null: {form}"
            )
        return Choice(tuple(choices))
    if "low" not in value or "high" not in value:
        raise UserError(f"{where} has no low and high: {form}")
    low, high = (_number(value[end], f"{where}: {end}") for end in ("low", "high"))
    log = value.get("log", False)
    step = _number(value["step"], f"{where}: step") if value.get("step") is not None else None
    if not isinstance(log, bool):
        raise UserError(f"{where}: log is {log!r}: true or false")
    if low >= high:
        raise UserError(f"{where}: low {low:g} is not below high {high:g}")
    if log and (low <= 0 or step is not None):
        raise UserError(f"{where}: log needs a low above 0, and no step")
    if step is not None and not 0 < step <= high - low:
        raise UserError(f"{where}: step {step:g} does not fit between {low:g} and {high:g}")
    return Range(low, high, log, step)


def _number(value: Any, where: str) -> float:
    """A number; YAML takes `1e-4` (without a dot) for a text."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return value if isinstance(value, int) else float(value)
    except (TypeError, ValueError):
        raise UserError(f"{where} is {value!r}, and no number") from None


# -- against the configuration --------------------------------------------------------------------


def check_space(
    settings: TuneSettings, method: str, compose: Callable[..., Config], fixed: Sequence[str]
) -> dict[str, Value]:
    """The values of the searched keys in the method's own recipe; each key is composed with its ends.

    Raises UserError for a key that the configuration does not have, that is equal for all trials, or that
    does not take an end of its range.
    """
    where = f"params/{FOLDER}/{settings.name}.yaml"
    config = compose(*fixed)
    for key, dimension in settings.dimensions(method).items():
        first, _, rest = key.partition(".")
        of_training = first == "protocol" and rest in OF_TRAINING
        if key == "method" or (
            any(f"{key}.".startswith(f"{one}.") for one in FIXED) and not (of_training)
        ):
            raise UserError(f"{where}: {key} is equal for all trials: it cannot be searched")
        ends = (
            dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
        )
        for end in ends:
            try:
                compose(*fixed, override(key, end))
            except UserError as error:
                raise UserError(f"{where}: {key} of {method}: {error}") from error
    return {key: _value(config, key) for key in settings.dimensions(method)}


def _value(config: Config, key: str) -> Value:
    """A key's value in a configuration; of a group its file, where that is named in it."""
    node: Any = config.values
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    if isinstance(node, Mapping):
        node = node.get("name")
    return node if node is None or isinstance(node, bool | int | float | str) else None


def override(key: str, value: Value) -> str:
    """`key=value` of the command line."""
    return override_of(key, value) if isinstance(value, str) else f"{key}={json.dumps(value)}"
