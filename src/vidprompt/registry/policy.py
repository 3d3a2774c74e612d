"""Reads params/registry.yaml: the stages of models, and the gates of each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vidprompt.config.names import PROTOCOLS
from vidprompt.provenance.revision import Revision
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

FILE = "params/registry.yaml"
_TOP = ("stages", "defaults", "models", "licences", "backbone_licences")
_GATES = ("minimum", "coverage", "validation", "max_broken_share", "not_worse_than")


@dataclass(frozen=True)
class Gates:
    """What a stage requires.

    `minimum`: result (`supervised`, or `<dataset>/<protocol>`) → measure → minimum in [0, 1] of the lower
    end of its 95 % interval. `coverage`: minimum share of listed videos that were tested. `validation`:
    whether the dataset's validation must have passed. `max_broken_share`: of its videos, in [0, 1].
    `not_worse_than`: a stage, whose model no paired test may show to be better.
    """

    minimum: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    coverage: float = 0.0
    validation: bool = False
    max_broken_share: float = 1.0
    not_worse_than: str = ""


@dataclass(frozen=True)
class Policy:
    """params/registry.yaml: `own` has each model's gates by stage, `headline` its measure in lists.

    `licences`: a dataset's, as text; `backbone_licences`: of a backbone's weights, by the Hub's identifier.
    """

    stages: tuple[str, ...]
    defaults: Mapping[str, Gates]
    own: Mapping[str, Mapping[str, Gates]]
    headline: Mapping[str, str]
    licences: Mapping[str, str]
    backbone_licences: Mapping[str, str] = field(default_factory=dict)

    def check_stage(self, stage: str) -> None:
        """UserError for an unknown stage."""
        if stage not in self.stages:
            raise UserError(f"{FILE} has no stage {stage!r}: {suggestion(stage, self.stages)}")

    def gates(self, model: str, stage: str) -> Gates:
        """A model's gates for a stage, the strictest of those of the stage and of the stages before it.

        UserError for an unknown stage, or a model without a minimum.
        """
        self.check_stage(stage)
        found = Gates()
        for one in self.stages[: self.stages.index(stage) + 1]:
            for gates in (self.defaults.get(one), self.own.get(model, {}).get(one)):
                found = _stricter(found, gates) if gates else found
        if not found.minimum:
            raise UserError(
                f"{FILE} says no minimum for {model}, so its results would not be checked: add "
                f"models.{model}.{self.stages[0]}.minimum, as {{supervised: {{top1: 0.5}}}}"
            )
        return found


def _stricter(a: Gates, b: Gates) -> Gates:
    minimum = {result: dict(measures) for result, measures in a.minimum.items()}
    for result, measures in b.minimum.items():
        into = minimum.setdefault(result, {})
        for measure, value in measures.items():
            into[measure] = max(value, into.get(measure, value))
    return replace(
        a,
        minimum=minimum,
        coverage=max(a.coverage, b.coverage),
        validation=a.validation or b.validation,
        max_broken_share=min(a.max_broken_share, b.max_broken_share),
        not_worse_than=b.not_worse_than or a.not_worse_than,
    )


def read_policy(revision: Revision) -> Policy:
    """A revision's params/registry.yaml. UserError for no file, an unknown key or a wrong value."""
    content = revision.yaml(FILE)
    if not content:
        raise UserError(
            f"{FILE} of {revision.label} is not there, and it has the gates of the stages"
        )
    stages = _mapping(content, "", _TOP).get("stages")
    if not isinstance(stages, list) or not stages or not all(isinstance(s, str) for s in stages):
        raise UserError(f"{FILE}: stages must list their names, in order")
    defaults = {
        stage: _gates(gates, f"defaults.{stage}", stages)
        for stage, gates in _mapping(content.get("defaults"), "defaults", stages).items()
    }
    own: dict[str, dict[str, Gates]] = {}
    headline = {}
    for name, model in _mapping(content.get("models"), "models").items():
        where = f"models.{name}"
        entry = _mapping(model, where, ["headline", *stages])
        headline[name] = str(entry.pop("headline", ""))
        own[name] = {s: _gates(gates, f"{where}.{s}", stages) for s, gates in entry.items()}
        if headline[name]:
            _check_result(headline[name].partition("/")[0], f"{where}.headline")
    licences, of_backbones = (_texts(content, key) for key in ("licences", "backbone_licences"))
    return Policy(tuple(stages), defaults, own, headline, licences, of_backbones)


def _texts(content: Mapping[str, Any], key: str) -> dict[str, str]:
    entries = _mapping(content.get(key), key)
    return {name: " ".join(str(text).split()) for name, text in entries.items()}


def _gates(content: Any, where: str, stages: list[str]) -> Gates:
    entry = _mapping(content, where, _GATES)
    minimum = {}
    if "minimum" in entry and not entry["minimum"]:
        raise UserError(
            f"{FILE}: {where}.minimum is empty: name a result and a measure, or delete it"
        )
    for result, measures in _mapping(entry.get("minimum"), f"{where}.minimum").items():
        inside = f"{where}.minimum.{result}"
        _check_result(result.rpartition("/")[2], f"{where}.minimum")
        values = _mapping(measures, inside)
        if not values:
            raise UserError(f"{FILE}: {inside} is empty: name a measure, as {{top1: 0.5}}")
        minimum[result] = {m: _share(v, f"{inside}.{m}") for m, v in values.items()}
    validation = entry.get("validation", False)
    if not isinstance(validation, bool):
        raise UserError(f"{FILE}: {where}.validation is {validation!r}: true or false")
    other = str(entry.get("not_worse_than") or "")
    if other and other not in stages:
        raise UserError(f"{FILE}: {where}.not_worse_than is {other!r}: {suggestion(other, stages)}")
    return Gates(
        minimum=minimum,
        coverage=_share(entry.get("coverage", 0), f"{where}.coverage"),
        validation=validation,
        max_broken_share=_share(entry.get("max_broken_share", 1), f"{where}.max_broken_share"),
        not_worse_than=other,
    )


def _check_result(protocol: str, where: str) -> None:
    if protocol not in PROTOCOLS:
        raise UserError(
            f"{FILE}: {where}: no protocol {protocol!r}: {suggestion(protocol, PROTOCOLS)}"
        )


def _share(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{FILE}: {where} is {value!r}: a share between 0 and 1")
    return float(value)


def _mapping(content: Any, where: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """A mapping at a place of the file (empty: the file), for None an empty one.

    UserError for other content and, where `keys` are the valid ones, for another key.
    """
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{FILE}: {where} is not a mapping")
    for key in content if keys else ():
        if key not in keys:
            place = f"{where}.{key}" if where else f"{key}"
            raise UserError(f"{FILE}: unknown key {place!r}: {suggestion(str(key), keys)}")
    return {str(key): value for key, value in content.items()}
