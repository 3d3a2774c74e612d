"""Overrides with Hydra's sweeps, and an experiment's settings → the jobs of a multirun.

A job is one method with one seed. Overrides that change the tests alone (`views`) are variants of a job: its
checkpoints are trained once and tested in every one of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from vidprompt.config.compose import compose
from vidprompt.config.overrides import is_text, split_override
from vidprompt.config.params_files import params_folder
from vidprompt.config.schema import Config
from vidprompt.files.hashes import digest
from vidprompt.system.errors import UserError, first_line

SEED = "seed"  # what the summary is a mean over
OWN = ("protocol", "split")  # set by each step of a job
NOT_NAMED = ("experiment", "multirun.", "workers", "processes", "runner")  # change no number
MULTIRUNS = Path("multirun")
LONGEST = 100  # bytes of a folder's name

Override = tuple[str, str]  # key, value


@dataclass(frozen=True)
class EvaluationVariant:
    """One way to evaluate a job's checkpoints: overrides of the tests alone, such as `views`.

    `name` is its folder inside the job's (empty: that folder itself), `row` its row of the summary.
    """

    row: str
    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One method with one seed, in a folder `name` of its own.

    `of_run`: overrides of the training on one list alone, such as its length.
    """

    name: str
    method: str
    seed: int
    overrides: tuple[str, ...]
    variants: tuple[EvaluationVariant, ...]
    of_run: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Plan:
    """The jobs of a multirun in the order of its rows; `folder` is relative to the project."""

    folder: Path
    protocols: tuple[str, ...]
    jobs: tuple[Job, ...]

    @property
    def name(self) -> str:
        """The summary's title."""
        return self.folder.name


class Configurations:
    """Composes configurations, each once: a composition takes a tenth of a second.

    Overrides that differ in the seed only share one composition.
    """

    def __init__(self) -> None:
        self._composed: dict[tuple[str, ...], Config] = {}

    def get(self, *overrides: str) -> Config:
        """The same as `compose(overrides)`."""
        seeds = [one for one in overrides if one.startswith(f"{SEED}=")]
        others = tuple(one for one in overrides if one not in seeds)
        if others not in self._composed:
            self._composed[others] = compose(others)
        config = self._composed[others]
        if not seeds:
            return config
        return Config.of({**config.values, SEED: _seed(seeds[-1].removeprefix(f"{SEED}="))})


def make_plan(arguments: Sequence[str], configurations: Configurations) -> Plan:
    """The jobs of the command line.

    `arguments` are `key=value`; a value may be a sweep of Hydra's (`1,2`, `choice(1,2)`, `range(1,4)`,
    `glob(*)`). `experiment=` has settings and sweeps of its own; values given here for a key that it
    sweeps replace its values. Raises UserError for a key that is set twice, or that jobs set.
    """
    fixed, swept = _parse(arguments)
    for key in OWN:
        if key in swept or key in dict(fixed):
            raise UserError(f"{key} is each step's own: choose multirun.protocols=[…]")
    if "experiment" in swept:
        raise UserError("one experiment at a time: a multirun has one table")
    multirun = _multirun(configurations.get(*_joined(fixed)))
    once, several = _parse(f"{key}={_written(value)}" for key, value in multirun["sweep"].items())
    own = {key: [value] for key, value in once} | several
    fewer = {key: [value] for key, value in fixed if key in own}
    fixed = [pair for pair in fixed if pair[0] not in own]
    swept = own | swept | fewer
    settings = {str(name): _setting(value) for name, value in multirun["settings"].items()} or {
        "": []
    }
    for name, overrides in settings.items():
        for key, _ in overrides:
            if key in swept or key in dict(fixed):
                raise UserError(f"setting {name!r} sets {key}: it cannot be given or swept beside")
    jobs: dict[str, Job] = {}
    for name, overrides in settings.items():
        for values in product(*swept.values()):
            pairs = list(zip(swept, values, strict=True))
            _add(
                jobs,
                _job(name, _joined(fixed), overrides, pairs, multirun["protocols"], configurations),
            )
    folder = MULTIRUNS / _folder(arguments, fixed)
    return Plan(folder, tuple(multirun["protocols"]), tuple(jobs.values()))


def _multirun(config: Config) -> dict[str, Any]:
    """`multirun` of a configuration. Raises UserError where its values are of another form."""
    multirun = config.values["multirun"]
    if not isinstance(multirun, dict):
        raise UserError(
            f"multirun={multirun} is no mapping: set multirun.protocols, settings or sweep"
        )
    protocols = multirun["protocols"]
    if not isinstance(protocols, list) or not all(isinstance(one, str) for one in protocols):
        raise UserError(
            f"multirun.protocols={protocols} is no list of names: write multirun.protocols=[NAME,…]"
        )
    if not protocols:
        raise UserError("multirun.protocols is empty: name what the jobs are evaluated on")
    for key, of in (("settings", "names to overrides"), ("sweep", "keys to values")):
        if not isinstance(multirun[key], dict):
            raise UserError(
                f"multirun.{key}={multirun[key]} is no mapping of {of}: write {{}} for none"
            )
    return multirun


def _folder(arguments: Sequence[str], fixed: Sequence[Override]) -> str:
    """The experiment's name and what is fixed beside, for that is another experiment; else everything."""
    experiment = dict(fixed).get("experiment")
    named = [experiment, *_joined(fixed)] if experiment else arguments
    return slug(",".join(one for one in named if not one.startswith(NOT_NAMED)) or "single")


def _job(
    setting: str,
    base: Sequence[str],
    overrides: Sequence[Override],
    pairs: Sequence[Override],
    protocols: Sequence[str],
    configurations: Configurations,
) -> Job:
    trained = [*overrides, *(pair for pair in pairs if not _changes_tests_only(pair[0]))]
    variant = [pair for pair in pairs if _changes_tests_only(pair[0])]
    untrained = [o for o in (*base, *_joined(trained)) if not changes_training_only(o)]
    config = configurations.get(*untrained, f"protocol={protocols[0]}")
    given = dict([*(split_override(override) for override in base), *trained])
    seed = _seed(given.get(SEED, config.seed))
    if not config.method.trained:  # it is the same with every seed
        base = [override for override in base if not changes_training_only(override)]
        trained = [pair for pair in trained if not changes_training_only(pair[0])]
        pairs = [pair for pair in pairs if not changes_training_only(pair[0])]
        seed = _seed(config.seed)
    named = [setting] if setting else []
    name = ",".join([*named, *_joined(pair for pair in pairs if not _changes_tests_only(pair[0]))])
    row = ", ".join([*named, *(_shown(key, value) for key, value in pairs if key != SEED)])
    return Job(
        name=slug(name or "single"),
        method=str(config.method.name),
        seed=seed,
        overrides=(*base, *_joined(trained)),
        variants=(
            EvaluationVariant(
                row or str(config.method.name), slug(",".join(_joined(variant))), _joined(variant)
            ),
        ),
    )


def _add(jobs: dict[str, Job], job: Job) -> None:
    """Add a job, or its variant to the job with the same trainings."""
    known = jobs.setdefault(job.name, job)
    if known.overrides != job.overrides:
        raise UserError(f"two jobs would share the folder {job.name}: name the settings apart")
    if job.variants[0] not in known.variants:  # the floor comes once a seed
        jobs[job.name] = replace(known, variants=(*known.variants, *job.variants))


def _changes_tests_only(key: str) -> bool:
    """True for a key that changes the tests and not the training."""
    return key == "views" or key.startswith("views.")


def changes_training_only(override: str) -> bool:
    """True for an override that changes the training and not the tests."""
    return override.startswith((SEED, "trainer"))


def _seed(value: Any) -> int:
    if not re.fullmatch("0|[1-9][0-9]*", str(value)):
        raise UserError(f"seed={value} is no whole number from 0 on: give one, or sweep {SEED}=1,2")
    return int(value)


def _shown(key: str, value: str) -> str:
    return value if key == "method" else f"{key.rpartition('.')[2]} {value}"


def _setting(value: Any) -> list[Override]:
    entries = [value] if isinstance(value, str) else value or []
    if not isinstance(entries, list) or not all(isinstance(one, str) for one in entries):
        raise UserError(
            f"a setting is a list of key=value, and one in multirun.settings is {value}"
        )
    fixed, swept = _parse(entries)
    if swept:
        raise UserError(f"a setting is one choice, and {next(iter(swept))} is swept in {entries}")
    return fixed


def _parse(arguments: Iterable[str]) -> tuple[list[Override], dict[str, list[str]]]:
    """`key=value` as they stand, and key → values of those with a sweep of Hydra's."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    fixed: list[Override] = []
    swept: dict[str, list[str]] = {}
    with initialize_config_dir(version_base="1.3", config_dir=str(params_folder())):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # for glob(*)
        for argument in arguments:
            try:
                override = parser.parse_overrides([argument])[0]
                key = override.get_key_element()
                if override.is_sweep_override():
                    values = list(override.sweep_string_iterator())
                    if not values:
                        raise UserError(f"{argument}: nothing to choose from")
                    swept[key] = values
                else:
                    fixed.append((key, split_override(argument)[1]))
            except HydraException as error:
                key, value = split_override(argument)
                if is_text(key, value):
                    fixed.append((key, value))
                    continue
                first = first_line(error)
                raise UserError(f"{argument!r} is no key=value nor a sweep: {first}") from error
    return fixed, swept


def _written(value: Any) -> str:
    """A value of a YAML file as on the command line; a list is a sweep over its items."""
    items = value if isinstance(value, list) else [value]
    return ",".join(one if isinstance(one, str) else json.dumps(one) for one in items)


def _joined(pairs: Iterable[Override]) -> tuple[str, ...]:
    return tuple(f"{key}={value}" for key, value in pairs)


def slug(text: str) -> str:
    """A folder's name from overrides: what is no letter, digit or one of `.,=@+-` becomes `_`."""
    name = re.sub(r"[^\w.,=@+-]+", "_", text)
    whole = name.encode()
    if len(whole) <= LONGEST:
        return name
    return f"{whole[: LONGEST - 13].decode(errors='ignore')}-{digest(text)}"


def rows_of(plan: Plan) -> Mapping[str, list[tuple[Job, EvaluationVariant]]]:
    """Row of the summary → what it is a mean over."""
    rows: dict[str, list[tuple[Job, EvaluationVariant]]] = {}
    for job in plan.jobs:
        for variant in job.variants:
            rows.setdefault(variant.row, []).append((job, variant))
    return rows
