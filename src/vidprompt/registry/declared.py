"""Models that dvc.yaml declares under `artifacts:`, and the results that were made with their weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vidprompt.config import paths
from vidprompt.config.names import FLOOR
from vidprompt.provenance.revision import Revision
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.suggestions import suggestion

_WEIGHTS = re.compile(r"models/([^/]+)/([^/]+)/([^/]+)/model\.safetensors")


@dataclass(frozen=True)
class Declared:
    """An artifact of type `model`: `path` is what the training `run` of a dataset and method leaves."""

    name: str
    path: str
    desc: str
    labels: tuple[str, ...]
    dataset: str
    method: str
    run: str


@dataclass(frozen=True)
class Judged:
    """One result made with a model's weights: `metrics` as in metrics.json, `digest` of the checkpoint that
    it calls `run`. Other splits of it may be of other runs."""

    dataset: str
    protocol: str
    metrics: Mapping[str, Any]
    digest: str
    run: str

    def shown(self, home: str) -> str:
        """`zero_shot`; of another dataset than the model's own, `ucf101/zero_shot`."""
        return self.protocol if self.dataset == home else f"{self.dataset}/{self.protocol}"


def declared_models(revision: Revision) -> dict[str, Declared]:
    """Name → model, sorted. UserError for one whose path is no training's weights, or a name that no tag
    can have."""
    from gto.constants import check_string_is_valid

    artifacts = revision.yaml("dvc.yaml").get("artifacts") or {}
    if not isinstance(artifacts, dict):
        raise UserError("dvc.yaml: artifacts is not a mapping of names")
    found = {}
    for name in sorted(artifacts):
        about = artifacts[name]
        if not isinstance(about, dict) or about.get("type", "model") != "model":
            continue
        if not check_string_is_valid(str(name)):
            raise UserError(
                f"dvc.yaml: artifacts has {name!r}, and a model's name has letters, digits, - and _ alone: "
                "rename it"
            )
        path = str(about.get("path", ""))
        match = _WEIGHTS.fullmatch(path)
        if match is None:
            raise UserError(
                f"dvc.yaml: artifacts.{name}.path is {path!r}, and a model's is "
                "models/DATASET/METHOD/RUN/model.safetensors, which a train stage writes"
            )
        labels = tuple(str(label) for label in about.get("labels") or ())
        desc = " ".join(str(about.get("desc") or "").split())
        found[name] = Declared(name, path, desc, labels, *match.groups())
    return found


def find_model(revision: Revision, name: str) -> Declared:
    """A declared model. UserError, with the lines to add, when dvc.yaml does not declare it."""
    models = declared_models(revision)
    if name not in models:
        raise UserError(
            f"dvc.yaml of {revision.shown} declares no model {name!r} ({suggestion(name, models)}); to "
            f"declare it, add under artifacts: `{name}: {{path: "
            "models/DATASET/METHOD/RUN/model.safetensors, type: model, desc: …}`"
        )
    return models[name]


def results_of(model: Declared, revision: Revision) -> list[Judged]:
    """Every result of this model's training, own dataset first; others may be of other weights.

    DataError for a metrics.json that has another form.
    """
    found = []
    for path in revision.files:
        parts = path.split("/")
        if (
            len(parts) != 5
            or parts[0] != "results"
            or parts[2] != model.method
            or parts[4] != "metrics.json"
        ):
            continue
        dataset, protocol = parts[1], parts[3]
        metrics = revision.json(path) or {}
        run = model.run if dataset == model.dataset else f"{model.dataset}/{model.run}"
        hashes = metrics.get("hashes", {})
        checkpoints = hashes.get("checkpoints", {}) if isinstance(hashes, Mapping) else None
        if not isinstance(checkpoints, Mapping):
            raise DataError(f"{path} of {revision.shown} names no checkpoints: run `dvc repro`")
        if run not in checkpoints:
            continue
        if problem := _misshapen(metrics):
            raise DataError(f"{path} of {revision.shown} {problem}: run `dvc repro`")
        found.append(Judged(dataset, protocol, metrics, str(checkpoints[run]), run))
    return sorted(found, key=lambda one: (one.dataset != model.dataset, one.dataset, one.protocol))


def _misshapen(metrics: Mapping[str, Any]) -> str:
    """What of a metrics.json is not as the evaluation writes it, empty where nothing is."""
    splits, summary = metrics.get("splits"), metrics.get("summary")
    if not isinstance(summary, Mapping):
        return "has no summary"
    if not isinstance(splits, Mapping) or not all(isinstance(s, Mapping) for s in splits.values()):
        return "has no splits"
    for name, entry in summary.items():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("within") or {}, Mapping):
            return f"has no measures in summary.{name}"
    for measure, entry in _measures("", summary):
        if not isinstance(entry, Mapping) or not _is_measured(entry):
            return f"has no number with its interval as summary's {measure}"
    return ""


def _is_measured(entry: Mapping[str, Any]) -> bool:
    ends = entry.get("ci95", [])
    if not isinstance(ends, list) or len(ends) not in (0, 2):
        return False
    return not any(math.isnan(number(one)) for one in (entry.get("value"), *ends))


def number(value: Any) -> float:
    """A number as it is, NaN for anything else; nothing is above or below that."""
    return (
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    )


def others_runs(one: Judged, measure: str) -> list[str]:
    """The other trainings that a measure of a result is made of, too; sorted."""
    from vidprompt.data.splits.names import measure_of

    of: dict[str, list[str]] = {}
    for name, split in one.metrics["splits"].items():
        of.setdefault(measure_of(name) or name, []).append(str(split.get("run")))
    named = [name for name in of if measure.startswith(f"{name}/")]
    runs = of.get(max(named, key=len) if named else one.protocol)
    if runs is None:  # of no split's name: whatever the result has
        runs = [run for some in of.values() for run in some]
    return sorted({*runs} - {one.run})


def floor_of(judged: Judged, revision: Revision) -> Mapping[str, Any] | None:
    """The frozen CLIP's metrics of the same protocol, None where there are none."""
    return revision.json(
        (paths.results(judged.dataset, FLOOR, judged.protocol) / "metrics.json").as_posix()
    )


def measures(protocol: str, metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Measure → its entry of the summary (`value` and, mostly, `ci95`).

    Named `top1` in a protocol's own entry, `base/top1` in another, `hm` where an entry is a number,
    `within/pair` of classes in groups.
    """
    return dict(_measures(protocol, metrics["summary"]))


def _measures(protocol: str, summary: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, entry in sorted(summary.items()):
        if "value" in entry:
            yield name, entry
            continue
        before = "" if name == protocol else f"{name}/"
        for metric, found in sorted(entry.items()):
            if isinstance(found, Mapping) and "value" in found:
                yield f"{before}{metric}", found
        for group, found in sorted((entry.get("within") or {}).items()):
            yield f"{before}within/{group}", found
