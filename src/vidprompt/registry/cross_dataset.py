"""A registered model on a dataset that it was not trained on, by the pipeline's own stages.

They run in cache/registered/<model>/<dataset>/<protocol>/, which looks like a project: its data, manifest and
frames by links, a copy of the parameters, the version's weights and backbone, and the dataset's split files,
whose model is this one. A killed run goes on where it was, as the features stage does.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from vidprompt.config import paths
from vidprompt.config.compose import PARAMS, compose
from vidprompt.config.schema import Config
from vidprompt.data.splits.split_file import Split, read_split, write_split
from vidprompt.files.atomic import write_json, write_text
from vidprompt.files.hashes import digest, sha256
from vidprompt.inference.feature_store import INDEX  # written last
from vidprompt.metrics.result import SeenClasses, read_result, write_result
from vidprompt.models.checkpoint_metadata import CheckpointMetadata, read_metadata
from vidprompt.models.text.prompts import clean_class_name
from vidprompt.provenance.code import code_hash
from vidprompt.registry.fetching import Fetched, fetched
from vidprompt.registry.versions import resolve
from vidprompt.reporting.measures import table_rows
from vidprompt.system.errors import UserError
from vidprompt.system.locks import exclusive_lock
from vidprompt.system.suggestions import suggestion

HEADS = ("Measure", "Value in %", "Coverage")
HOME = Path("cache/registered")
BACKBONE = "registered"  # its file in params/backbone of the folder
MADE = "made_with.json"  # what the features there are of
OURS = ("method", "split", "backbone")  # keys that the model says


@dataclass(frozen=True)
class _Job:
    model: Fetched
    metadata: CheckpointMetadata
    dataset: str
    protocol: str
    overrides: tuple[str, ...]  # of the stages
    root: Path  # the project's, absolute

    @property
    def folder(self) -> Path:
        """Where it is done."""
        return self.root / HOME / self.model.version.shown / self.dataset / self.protocol

    @property
    def split(self) -> str:
        """How a split names the model that it is tested with."""
        return f"{self.model.model.dataset}/{self.model.model.run}"


def evaluate(selector: str, overrides: Sequence[str]) -> Path:
    """Encode and evaluate, in the project stood in; the folder with metrics.json and its tables.

    Args:
        selector: `NAME@v0.1.0`, `NAME@latest` or `NAME@STAGE`.
        overrides: `dataset=NAME` and, where not zero-shot (re-identification's model: reid), `protocol=…`;
            any other key but the model's own.

    metrics.json has the form of every other, with `model` and `seen_classes`: which of the tested classes
    have the name of a training class. UserError for the dataset that it was trained on, and for one that
    the pipeline has not prepared.
    """
    root = Path.cwd()
    given = dict(one.partition("=")[::2] for one in overrides)
    for key in OURS:
        if any(name == key or name.startswith(f"{key}.") for name in given):
            raise UserError(f"{key} is the registered model's: leave {key}=… out")
    if "dataset" not in given:
        raise UserError("on which dataset? Say dataset=NAME, one that the model was not trained on")
    model = fetched(resolve(root, selector), root)
    metadata = read_metadata(model.checkpoint)
    if given["dataset"] == model.model.dataset:
        raise UserError(
            f"{model.version.shown} was trained on {model.model.dataset}: its results there are in "
            f"results/{model.model.dataset}/{metadata.method}, this is for other datasets"
        )
    protocol = given.get("protocol") or ("reid" if model.model.run == "reid" else "zero_shot")
    said = [one for one in overrides if not one.startswith("protocol=")]
    said += [f"method={metadata.method}", f"protocol={protocol}"]
    config = compose(said)
    splits = _splits(given["dataset"], protocol)
    ours = (f"method.num_frames={metadata.num_frames}", f"backbone={BACKBONE}")
    job = _Job(model, metadata, given["dataset"], protocol, (*said, *ours), root)
    with exclusive_lock(job.folder):
        _prepare(job, config, splits)
        with contextlib.chdir(job.folder):
            return _run(job, splits)


def _splits(dataset: str, protocol: str) -> dict[str, Split]:
    """The dataset's split files of a protocol. UserError where the pipeline has not made its inputs."""
    made = {
        "manifest": paths.manifest(dataset),
        "splits": paths.splits(dataset),
        "frames": paths.frames(dataset) / "frames.json",
    }
    missing = [f"{stage}@{dataset}" for stage, path in made.items() if not path.exists()]
    if missing:
        raise UserError(
            f"{dataset} is not prepared: run `dvc repro {' '.join(missing)}` (and before, if it is not "
            f"active, `vidprompt activate {dataset}`)"
        )
    splits = {file.stem: read_split(file) for file in sorted(made["splits"].glob("*.json"))}
    there = sorted({split.protocol for split in splits.values()})
    chosen = {name: split for name, split in splits.items() if split.protocol == protocol}
    if not chosen:
        raise UserError(f"{dataset} has no split of {protocol!r}: {suggestion(protocol, there)}")
    return chosen


def _prepare(job: _Job, config: Config, splits: dict[str, Split]) -> None:
    """The folder as the stages want it."""
    roots = [Path(config.dataset.root)]
    links = {Path(root.parts[0]) for root in roots if not root.is_absolute()}
    links |= {Path("data"), Path("cache/manifest"), Path("cache/frames")}
    for link in sorted(links):
        if link.exists():
            _link(link.absolute(), job.folder / link)
    params = job.folder / PARAMS
    shutil.rmtree(params, ignore_errors=True)
    shutil.copytree(PARAMS, params)
    spec = yaml.safe_dump(dict(job.model.backbone), sort_keys=True)
    write_text(params / "backbone" / f"{BACKBONE}.yaml", spec)
    checkpoint = paths.checkpoint(job.dataset, job.metadata.method, job.split)
    _link(job.model.checkpoint, job.folder / checkpoint)
    into = job.folder / paths.splits(job.dataset)
    shutil.rmtree(into, ignore_errors=True)
    for name, split in splits.items():
        write_split(replace(split, run=job.split, train=None, val=None), into / f"{name}.json")


def _link(target: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _run(job: _Job, splits: dict[str, Split]) -> Path:
    """Features where they are not there, then the evaluation; in the job's folder."""
    from vidprompt.pipeline.stages import evaluate as evaluation
    from vidprompt.system.launch import launch, process_count

    overrides = (*job.overrides, f"split={job.split}")
    config = compose(overrides)
    made = _made_with(job, config)
    there = paths.features(job.dataset, job.metadata.method, job.split) / INDEX
    if not there.is_file() or _kept() != made:
        Path(MADE).unlink(missing_ok=True)
        if (count := process_count(config.processes)) > 1:
            if launch(count, ["features", *overrides]):
                raise UserError(
                    f"encoding failed in {job.folder}: run this again, it goes on there"
                )
        else:
            from vidprompt.pipeline.stages import features

            features.run(config)
        write_json(MADE, made)
    evaluation.run(config)
    return _finish(job, splits)


def _made_with(job: _Job, config: Config) -> dict[str, str]:
    """All that the features follow from."""
    files = sorted(paths.splits(job.dataset).glob("*.json"))
    backbone = {
        k: v for k, v in config.values["backbone"].items() if k not in ("config", "weights")
    }
    return {
        "checkpoint": sha256(job.model.checkpoint),
        "backbone": digest([backbone, job.metadata.backbone_checksum]),
        "prompts": digest(config.values["prompts"]),
        "views": digest(config.values["views"]),
        "frames": sha256(paths.frames(job.dataset) / "frames.json"),
        "splits": digest({file.name: sha256(file) for file in files}),
        "code": code_hash("features"),
    }


def _kept() -> Any:
    try:
        return json.loads(Path(MADE).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _finish(job: _Job, splits: dict[str, Split]) -> Path:
    """Say in metrics.json whose result it is, and which classes were no news to the model."""
    results = paths.results(job.dataset, job.metadata.method, job.protocol)
    seen = None
    if job.protocol != "reid":  # persons are nobody's classes, whatever their numbers are
        known = {clean_class_name(name) for name in job.metadata.class_names}
        tested = sorted({c for s in splits.values() for t in s.tests.values() for c in t.classes})
        names = tuple(name for name in tested if clean_class_name(name) in known)
        seen = SeenClasses(names, len(tested))
    result = read_result(results / "metrics.json")
    result = replace(result, model=job.model.version.shown, seen_classes=seen)
    write_result(results / "metrics.json", result)
    return job.folder / results


def result_table(folder: Path) -> tuple[str, list[tuple[str, ...]], str]:
    """Title and rows (under HEADS) of the result in a folder, and a note on known classes or nothing."""
    result = read_result(folder / "metrics.json")
    rows: list[tuple[str, ...]] = [
        (row.measure, cell.text, row.coverage_text)
        for row in table_rows({result.method: {result.protocol: result}})
        for cell in row.cells.values()
    ]
    note = ""
    if seen := result.seen_classes:
        names = ", ".join(seen.names[:5]) + (", …" if len(seen.names) > 5 else "")
        note = (
            f"{len(seen.names)} of {seen.tested} tested classes have the name of a training class"
        )
        note += f" ({names})" if names else ""
    return f"{result.model} on {result.dataset}, {result.protocol}", rows, note
