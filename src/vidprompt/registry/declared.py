"""Models that dvc.yaml declares under `artifacts:`, and the results that were made with their weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vidprompt.errors import DataError, UserError
from vidprompt.registry.choices import valid
from vidprompt.registry.revision import Revision
from vidprompt.stages import paths
from vidprompt.stages.paths import FLOOR

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
    """One result made with a model's weights: `metrics` as in metrics.json, `digest` of the checkpoint."""

    dataset: str
    protocol: str
    metrics: Mapping[str, Any]
    digest: str

    def shown(self, home: str) -> str:
        """`zero_shot`; of another dataset than the model's own, `ucf101/zero_shot`."""
        return self.protocol if self.dataset == home else f"{self.dataset}/{self.protocol}"


def declared_models(revision: Revision) -> dict[str, Declared]:
    """Name → model, sorted. UserError for one whose path is no training's weights."""
    artifacts = revision.yaml("dvc.yaml").get("artifacts") or {}
    if not isinstance(artifacts, dict):
        raise UserError("dvc.yaml: artifacts is not a mapping of names")
    found = {}
    for name in sorted(artifacts):
        about = artifacts[name]
        if not isinstance(about, dict) or about.get("type", "model") != "model":
            continue
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
            f"dvc.yaml of {revision.shown} declares no model {name!r} ({valid(name, models)}); to "
            f"declare it, add under artifacts: `{name}: {{path: "
            "models/DATASET/METHOD/RUN/model.safetensors, type: model, desc: …}`"
        )
    return models[name]


def results_of(model: Declared, revision: Revision) -> list[Judged]:
    """Every result of this model's training, own dataset first; others may be of other weights."""
    found = []
    for path in revision.files("results"):
        parts = path.split("/")
        if len(parts) != 5 or parts[2] != model.method or parts[4] != "metrics.json":
            continue
        dataset, protocol = parts[1], parts[3]
        metrics = revision.json(path) or {}
        run = model.run if dataset == model.dataset else f"{model.dataset}/{model.run}"
        digest = (metrics.get("hashes") or {}).get("checkpoints", {}).get(run)
        if digest is None:
            continue
        if not isinstance(metrics.get("summary"), dict):
            raise DataError(f"{path} of {revision.shown} has no summary: run `dvc repro`")
        found.append(Judged(dataset, protocol, metrics, str(digest)))
    return sorted(found, key=lambda one: (one.dataset != model.dataset, one.dataset, one.protocol))


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
