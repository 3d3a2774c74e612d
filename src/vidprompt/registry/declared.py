"""Models that dvc.yaml declares under `artifacts:`, and the results that were made with their weights."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vidprompt.config import paths
from vidprompt.config.names import FLOOR
from vidprompt.metrics.result import Measure, ProtocolResult, load_result, source_tests
from vidprompt.provenance.revision import Revision
from vidprompt.system.errors import UserError
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
    """One result made with a model's weights: `digest` of the checkpoint that it calls `run`. Other splits
    of it may be of other runs."""

    dataset: str
    protocol: str
    result: ProtocolResult
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
        result = load_result(revision.read(path) or b"", f"{path} of {revision.shown}")
        run = model.run if dataset == model.dataset else f"{model.dataset}/{model.run}"
        digest = result.hashes.checkpoints.get(run)
        if digest is not None:
            found.append(Judged(dataset, protocol, result, digest, run))
    return sorted(found, key=lambda one: (one.dataset != model.dataset, one.dataset, one.protocol))


def others_runs(one: Judged, measure: Measure) -> list[str]:
    """The other trainings that a measure of a result's summary is made of, too; sorted."""
    splits = {split for split, _ in source_tests(one.result, measure.test)}
    runs = {one.result.splits[name].run for name in splits or one.result.splits}
    return sorted(runs - {one.run})


def floor_of(judged: Judged, revision: Revision) -> ProtocolResult | None:
    """The frozen CLIP's result of the same protocol, None where there is none."""
    path = (paths.results(judged.dataset, FLOOR, judged.protocol) / "metrics.json").as_posix()
    content = revision.read(path)
    return None if content is None else load_result(content, f"{path} of {revision.shown}")
