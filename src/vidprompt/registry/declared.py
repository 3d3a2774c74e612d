"""The models that dvc.yaml declares under `artifacts:`, and the results of their weights."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vidprompt.config import paths
from vidprompt.config.names import FLOOR
from vidprompt.metrics.result import Measure, ProtocolResult, load_result, source_tests
from vidprompt.provenance.revision import METRICS_PATH, Revision
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

_WEIGHTS = re.compile(r"models/([^/]+)/([^/]+)/([^/]+)/model\.safetensors")


@dataclass(frozen=True)
class DeclaredModel:
    """An artifact of type `model`; `path` has the weights of the training `run` of a dataset and method."""

    name: str
    path: str
    desc: str
    labels: tuple[str, ...]
    dataset: str
    method: str
    run: str


@dataclass(frozen=True)
class ModelResult:
    """A result of a model's weights: `digest` of the checkpoint that metrics.json calls `run`.

    Other splits of the same result may be of other runs.
    """

    dataset: str
    protocol: str
    result: ProtocolResult
    digest: str
    run: str

    def name(self, model: DeclaredModel) -> str:
        """`zero_shot`; on another dataset than the model's own, `ucf101/zero_shot`."""
        is_own = self.dataset == model.dataset
        return self.protocol if is_own else f"{self.dataset}/{self.protocol}"


def declared_models(revision: Revision) -> dict[str, DeclaredModel]:
    """Name → model, sorted. UserError for a path that no training writes, or a name that no tag can have."""
    from gto.constants import check_string_is_valid

    artifacts = revision.yaml("dvc.yaml").get("artifacts") or {}
    if not isinstance(artifacts, dict):
        raise UserError("dvc.yaml: artifacts is not a mapping of names")
    models = {}
    for name in sorted(artifacts):
        entry = artifacts[name]
        if not isinstance(entry, dict) or entry.get("type", "model") != "model":
            continue
        if not check_string_is_valid(str(name)):
            raise UserError(
                f"dvc.yaml: artifacts has {name!r}, and a model's name has letters, digits, - and _ alone: "
                "rename it"
            )
        path = str(entry.get("path", ""))
        match = _WEIGHTS.fullmatch(path)
        if match is None:
            raise UserError(
                f"dvc.yaml: artifacts.{name}.path is {path!r}, and a model's is "
                "models/DATASET/METHOD/RUN/model.safetensors, which a train stage writes"
            )
        labels = tuple(str(label) for label in entry.get("labels") or ())
        desc = " ".join(str(entry.get("desc") or "").split())
        models[name] = DeclaredModel(name, path, desc, labels, *match.groups())
    return models


def find_model(revision: Revision, name: str) -> DeclaredModel:
    """A declared model. UserError, with the lines to add, when dvc.yaml does not declare it."""
    models = declared_models(revision)
    if name not in models:
        raise UserError(
            f"dvc.yaml of {revision.label} declares no model {name!r} ({suggestion(name, models)}); to "
            f"declare it, add under artifacts: `{name}: {{path: "
            "models/DATASET/METHOD/RUN/model.safetensors, type: model, desc: …}`"
        )
    return models[name]


def model_of_weights(revision: Revision, path: str) -> DeclaredModel | None:
    """The model of a training's weights: as declared, or called DATASET/METHOD/RUN. None for another file."""
    match = _WEIGHTS.fullmatch(path)
    if match is None:
        return None
    declared = (one for one in declared_models(revision).values() if one.path == path)
    return next(declared, DeclaredModel("/".join(match.groups()), path, "", (), *match.groups()))


def model_results(model: DeclaredModel, revision: Revision) -> list[ModelResult]:
    """Every result of this model's training, own dataset first; some may be of other weights.

    DataError for a metrics.json that is not valid.
    """
    results = []
    for path in revision.files:
        match = METRICS_PATH.fullmatch(path)
        if match is None or match[2] != model.method:
            continue
        dataset, _, protocol = match.groups()
        result = load_result(revision.read(path) or b"", f"{path} of {revision.label}")
        run = model.run if dataset == model.dataset else f"{model.dataset}/{model.run}"
        digest = result.hashes.checkpoints.get(run)
        if digest is not None:
            results.append(ModelResult(dataset, protocol, result, digest, run))
    return sorted(results, key=lambda r: (r.dataset != model.dataset, r.dataset, r.protocol))


def other_runs(one: ModelResult, measure: Measure) -> list[str]:
    """The other training runs that a measure of a result's summary is computed from, sorted."""
    splits = {split for split, _ in source_tests(one.result, measure.test)}
    runs = {one.result.splits[name].run for name in splits or one.result.splits}
    return sorted(runs - {one.run})


def floor_result(one: ModelResult, revision: Revision) -> ProtocolResult | None:
    """The frozen CLIP's result of the same dataset and protocol; None where there is none."""
    path = (paths.results(one.dataset, FLOOR, one.protocol) / "metrics.json").as_posix()
    content = revision.read(path)
    return None if content is None else load_result(content, f"{path} of {revision.label}")
