"""Evaluates a registered model on a dataset that it was not trained on, with the pipeline's stages.

They run in cache/registered/<model>/<dataset>/<protocol>/, a project of its own: links to data, manifest and
frames, a copy of the parameters, the version's weights and backbone, and the dataset's split files with this
model as their run. A killed run resumes, as the features stage does.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from vidprompt.config import paths
from vidprompt.config.compose import compose
from vidprompt.config.params_files import PARAMS
from vidprompt.config.plugins import used_plugins
from vidprompt.config.schema import Config
from vidprompt.data.annotations.class_names import clean_class_name
from vidprompt.data.splits.split_file import Split, read_splits, write_split
from vidprompt.files.atomic import write_json, write_text
from vidprompt.files.hashes import digest, sha256
from vidprompt.inference.feature_store import INDEX  # written last
from vidprompt.metrics.result import SeenClasses, read_result, write_result
from vidprompt.models.checkpoint_metadata import CheckpointMetadata, read_metadata
from vidprompt.pipeline.sandbox import INPUTS, input_paths, make_sandbox, replace_link
from vidprompt.provenance.code import code_hash
from vidprompt.provenance.revision import Revision
from vidprompt.registry.model_files import VersionFiles, fetch_version
from vidprompt.registry.versions import resolve
from vidprompt.reporting.measures import table_rows
from vidprompt.system.errors import UserError
from vidprompt.system.locks import exclusive_lock
from vidprompt.system.suggestions import first_names, suggestion

HEADS = ("Measure", "Value in %", "Coverage")
HOME = Path("cache/registered")
BACKBONE = "registered"  # name of the version's backbone in params/backbone
FEATURES_RECORD = "made_with.json"  # hashes of what the stored features follow from
MODEL_KEYS = ("method", "split", "backbone")  # of the configuration, that the model sets


@dataclass(frozen=True)
class _Job:
    files: VersionFiles
    metadata: CheckpointMetadata
    dataset: str
    protocol: str
    overrides: tuple[str, ...]  # of the stages
    root: Path  # the project's, absolute

    @property
    def folder(self) -> Path:
        """The project in which the stages run."""
        return self.root / HOME / self.files.version.selector / self.dataset / self.protocol

    @property
    def split(self) -> str:
        """The run by which a split names the model."""
        return f"{self.files.model.dataset}/{self.files.model.run}"


def evaluate_on_dataset(selector: str, overrides: Sequence[str]) -> Path:
    """Encode and evaluate a registered model in the current project; the folder of metrics.json.

    Args:
        selector: `NAME@v0.1.0`, `NAME@latest` or `NAME@STAGE`.
        overrides: `dataset=NAME` and, where not zero-shot (re-identification's model: reid), `protocol=…`;
            any other key but the model's own.

    metrics.json also has `model`, and `seen_classes`: the tested classes with the name of a training class.
    UserError for the dataset that the model was trained on, and for one that is not prepared.
    """
    root = Path.cwd()
    given = dict(one.partition("=")[::2] for one in overrides)
    for key in MODEL_KEYS:
        if any(name == key or name.startswith(f"{key}.") for name in given):
            raise UserError(f"{key} is the registered model's: leave {key}=… out")
    if "dataset" not in given:
        raise UserError("on which dataset? Say dataset=NAME, one that the model was not trained on")
    files = fetch_version(resolve(root, selector), root)
    metadata = read_metadata(files.checkpoint)
    if given["dataset"] == files.model.dataset:
        raise UserError(
            f"{files.version.selector} was trained on {files.model.dataset}: its results there are in "
            f"results/{files.model.dataset}/{metadata.method}, this is for other datasets"
        )
    protocol = given.get("protocol") or ("reid" if files.model.run == "reid" else "zero_shot")
    given_overrides = [one for one in overrides if not one.startswith("protocol=")]
    given_overrides += [f"method={metadata.method}", f"protocol={protocol}"]
    config = compose(given_overrides)
    splits = _splits(given["dataset"], protocol)
    model_overrides = (f"method.num_frames={metadata.num_frames}", f"backbone={BACKBONE}")
    job = _Job(
        files, metadata, given["dataset"], protocol, (*given_overrides, *model_overrides), root
    )
    with exclusive_lock(job.folder):
        _prepare(job, config, splits)
        with contextlib.chdir(job.folder):
            return _run(job, splits)


def _splits(dataset: str, protocol: str) -> dict[str, Split]:
    """The dataset's splits of a protocol by name. UserError where its inputs are not made."""
    made = {
        "manifest": paths.manifest(dataset),
        "splits": paths.splits(dataset),
        "frames": paths.frames(dataset) / "frames.json",
    }
    missing = [f"{stage}@{dataset}" for stage, path in made.items() if not path.exists()]
    if missing:
        raise UserError(
            f"{dataset} is not prepared: run `{shlex.join(['dvc', 'repro', *missing])}` (and before, if it "
            f"is not active, `vidprompt activate {shlex.quote(dataset)}`)"
        )
    splits = read_splits(made["splits"])
    there = sorted({split.protocol for split in splits.values()})
    chosen = {name: split for name, split in splits.items() if split.protocol == protocol}
    if not chosen:
        raise UserError(f"{dataset} has no split of {protocol!r}: {suggestion(protocol, there)}")
    return chosen


def _prepare(job: _Job, config: Config, splits: dict[str, Split]) -> None:
    """Make the job's folder a project."""
    make_sandbox(job.folder, {*INPUTS, *input_paths(config)})
    spec = yaml.safe_dump(dict(job.files.backbone), sort_keys=True)
    write_text(job.folder / PARAMS / "backbone" / f"{BACKBONE}.yaml", spec)
    checkpoint = paths.checkpoint(job.dataset, job.metadata.method, job.split)
    replace_link(job.files.checkpoint, job.folder / checkpoint)
    into = job.folder / paths.splits(job.dataset)
    shutil.rmtree(into, ignore_errors=True)
    for name, split in splits.items():
        write_split(replace(split, run=job.split, train=None, val=None), into / f"{name}.json")


def _run(job: _Job, splits: dict[str, Split]) -> Path:
    """Store features where none or others are stored, then evaluate; run in the job's folder."""
    from vidprompt.pipeline.stages import evaluate as evaluation
    from vidprompt.system.launch import launch, process_count

    overrides = (*job.overrides, f"split={job.split}")
    config = compose(overrides)
    record = _features_record(job, config)
    index = paths.features(job.dataset, job.metadata.method, job.split) / INDEX
    if not index.is_file() or Revision(Path()).try_json(FEATURES_RECORD) != record:
        Path(FEATURES_RECORD).unlink(missing_ok=True)
        if (count := process_count(config.processes)) > 1:
            if launch(count, ["features", *overrides]):
                raise UserError(f"encoding failed in {job.folder}: run this again, it resumes")
        else:
            from vidprompt.pipeline.stages import features

            features.run(config)
        write_json(FEATURES_RECORD, record)
    evaluation.run(config)
    return _finish(job, splits)


def _features_record(job: _Job, config: Config) -> dict[str, str]:
    """Hashes of all that the features follow from."""
    split_files = sorted(paths.splits(job.dataset).glob("*.json"))
    backbone = {
        k: v for k, v in config.values["backbone"].items() if k not in ("config", "weights")
    }
    return {
        "checkpoint": sha256(job.files.checkpoint),
        "backbone": digest([backbone, job.metadata.backbone_checksum]),
        "prompts": digest(config.values["prompts"]),
        "views": digest(config.values["views"]),
        "frames": sha256(paths.frames(job.dataset) / "frames.json"),
        "splits": digest({file.name: sha256(file) for file in split_files}),
        "code": code_hash("features", used_plugins(config, "features")),
    }


def _finish(job: _Job, splits: dict[str, Split]) -> Path:
    """Add to metrics.json the model's name, and the tested classes that it was trained with."""
    results = paths.results(job.dataset, job.metadata.method, job.protocol)
    seen = None
    if job.protocol != "reid":  # persons are no classes
        known = {clean_class_name(name) for name in job.metadata.class_names}
        tested = sorted({c for s in splits.values() for t in s.tests.values() for c in t.classes})
        names = tuple(name for name in tested if clean_class_name(name) in known)
        seen = SeenClasses(names, len(tested))
    result = read_result(results / "metrics.json")
    result = replace(result, model=job.files.version.selector, seen_classes=seen)
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
        names = first_names(seen.names, 5)
        note = (
            f"{len(seen.names)} of {seen.tested} tested classes have the name of a training class"
        )
        note += f" ({names})" if names else ""
    return f"{result.model} on {result.dataset}, {result.protocol}", rows, note
