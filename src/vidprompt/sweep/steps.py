"""The steps of a job, and its folder, which is laid out as a project so that the stages run in it.

`<job>/` has the project's data, manifest, frames and the split files of the chosen protocols by links, the
parameters as a copy (they may be edited meanwhile), and models, features and results of its own. A variant
with a name has its own folder in the job's, with the job's models.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprompt.config import paths
from vidprompt.config.plugins import used_plugins
from vidprompt.config.schema import Config
from vidprompt.data.splits.split_file import Split, read_split
from vidprompt.files.atomic import write_json
from vidprompt.files.hashes import digest, sha256
from vidprompt.inference.feature_store import INDEX  # written last
from vidprompt.pipeline.sandbox import INPUTS, input_paths, make_sandbox, replace_link
from vidprompt.provenance.code import code_hash, plugin_hash
from vidprompt.sweep.plan import Configurations, EvaluationVariant, Job
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.suggestions import suggestion

# Keys of a configuration that change no number, or that a step sets itself
APART = ("multirun", "processes", "runner", "split", "workers")
RECORD = "job.json"  # the finished steps of a job


@dataclass(frozen=True)
class Step:
    """One stage of a job, run in `folder` (relative to the job's)."""

    stage: str
    folder: str
    overrides: tuple[str, ...]
    title: str  # within the job
    output: Path  # what it leaves, relative to `folder`
    identity: str  # of all that its output follows from, but the code
    needs: tuple[str, ...] = ()  # titles of the job's steps without which it cannot run


def steps_of(job: Job, protocols: tuple[str, ...], configs: Configurations) -> list[Step]:
    """Trainings, then of each variant features and evaluations. Raises UserError where splits are missing."""
    config = configs.get(*job.overrides, f"protocol={protocols[0]}")
    splits = chosen_splits(str(config.dataset.name), protocols)
    return model_steps(job, protocols, splits, input_hashes(config), configs)


def model_steps(
    job: Job,
    protocols: tuple[str, ...],
    splits: dict[str, Split],
    inputs: Mapping[str, str],
    configs: Configurations,
    trained_elsewhere: Mapping[str, str] | None = None,
) -> list[Step]:
    """The trainings, features and evaluations of a job.

    `splits` are those of the protocols and those that are trained on; `inputs` the hashes of what all steps
    read; `trained_elsewhere` the identities of the trainings whose checkpoints the job only tests.
    """
    config = configs.get(*job.overrides, f"protocol={protocols[0]}")
    dataset = str(config.dataset.name)
    runs = sorted({split.run for split in splits.values() if split.protocol in protocols})
    steps, trained = [], dict(trained_elsewhere or {})
    for run in [run for run in runs if run not in trained] if config.method.trained else []:
        trained_with = (*job.overrides, *job.of_run.get(run, ()))
        values = configs.get(*trained_with, f"protocol={splits[run].protocol}").values
        apart = APART if _views_change_training(values) else (*APART, "views")
        values = {key: value for key, value in values.items() if key not in apart}
        trained[run] = digest([values, inputs, run, splits[run].to_json()])
        overrides = (*trained_with, f"split={run}")
        out = paths.checkpoint(dataset, job.method, run)
        steps.append(Step("train", "", overrides, f"train {run}", out, trained[run]))
    for variant in job.variants:
        steps += _tests(job, variant, protocols, splits, runs, digest([inputs, trained]), configs)
    return steps


def _views_change_training(values: Mapping[str, Any]) -> bool:
    """True where test clips are what a method is fitted to, or the kept checkpoint is chosen on."""
    trainer, fitted = values["trainer"], values["method"].get("fitted", False)
    return bool(fitted or trainer["select"] == "best" or trainer["best_on_test"])


def _tests(
    job: Job,
    variant: EvaluationVariant,
    protocols: tuple[str, ...],
    splits: dict[str, Split],
    runs: list[str],
    trained: str,
    configs: Configurations,
) -> Iterator[Step]:
    """The feature and evaluation steps of a variant."""
    common = (*job.overrides, *variant.overrides)
    before = f"{variant.name}: " if variant.name else ""
    composed = {name: configs.get(*common, f"protocol={name}") for name in protocols}
    values = {
        protocol: {k: v for k, v in config.values.items() if k not in APART}
        for protocol, config in composed.items()
    }
    dataset = str(composed[protocols[0]].dataset.name)
    tested = {name: split.to_json() for name, split in splits.items()}
    shown = {key: value for key, value in values[protocols[0]].items() if key != "protocol"}
    identity = digest([shown, trained, tested])
    method = composed[protocols[0]].method
    for run in dict.fromkeys(method.encoding_of(run) for run in runs):
        overrides = (*common, f"split={run}") if method.trained else common
        out = paths.features(dataset, job.method, run) / INDEX
        title, needs = f"{before}features {run}", (f"train {run}",)
        yield Step("features", variant.name, overrides, title, out, identity, needs)
    for protocol in protocols:
        out = paths.results(dataset, job.method, protocol) / "metrics.json"
        overrides = (*common, f"protocol={protocol}")
        of_protocol = digest([values[protocol], identity])
        tested_runs = sorted({s.run for s in splits.values() if s.protocol == protocol})
        encoded = dict.fromkeys(method.encoding_of(run) for run in tested_runs)
        features = tuple(f"{before}features {run}" for run in encoded)
        title = f"{before}evaluate {protocol}"
        yield Step("evaluate", variant.name, overrides, title, out, of_protocol, features)


def chosen_splits(dataset: str, protocols: tuple[str, ...]) -> dict[str, Split]:
    """Split files of the protocols, and those whose training lists their models are of.

    Raises UserError for a protocol that the dataset has no split of, or a model of another dataset.
    """
    files = sorted(paths.splits(dataset).glob("*.json"))
    if not files:
        raise DataError(f"no split files in {paths.splits(dataset)}: run `dvc repro` first")
    splits = {file.stem: read_split(file) for file in files}
    there = sorted({split.protocol for split in splits.values()})
    for protocol in protocols:
        if protocol not in there:
            raise UserError(
                f"{dataset} has no split of {protocol!r}: {suggestion(protocol, there)}"
            )
    chosen = {name: split for name, split in splits.items() if split.protocol in protocols}
    for split in list(chosen.values()):
        if split.run not in splits:
            raise UserError(
                f"{split.id} is tested with a model trained on {split.run}: it has no training here, "
                f"so leave {split.protocol} out of multirun.protocols"
            )
        chosen[split.run] = splits[split.run]
    return chosen


def input_hashes(config: Config, home: Path = Path()) -> dict[str, str]:
    """Hashes of what all steps read: manifest and frames below `home`, the packages of plug-ins, and where
    they are files, the backbone's weights and the checkpoint that trainings start from."""
    dataset, weights = config.dataset.name, config.backbone.weights
    files = [home / paths.manifest(dataset), home / paths.frames(dataset) / "frames.json"]
    for file in files:
        if not file.is_file():
            raise DataError(f"no {file}: run `dvc repro` (or vidprompt {file.parts[1]}) first")
    if weights and Path(weights).is_file():
        files.append(Path(weights))
    if start := config.values["trainer"].get("start_from"):
        files += [one for one in [paths.starting_checkpoint(start)] if one.is_file()]
    hashes = {
        str(file.relative_to(home) if file.is_relative_to(home) else file): sha256(file)
        for file in files
    }
    return hashes | {one.package: plugin_hash(one) for one in used_plugins(config)}


# -- the folder -----------------------------------------------------------------------------------


def prepare(folder: Path, job: Job, protocols: tuple[str, ...], configs: Configurations) -> None:
    """Make the job's folder, or bring it up to date: links, a copy of the parameters, nothing else."""
    config = configs.get(*job.overrides, f"protocol={protocols[0]}")
    names = chosen_splits(str(config.dataset.name), protocols)
    files = [paths.splits(config.dataset.name) / f"{name}.json" for name in names]
    for variant in ("", *(variant.name for variant in job.variants if variant.name)):
        place = folder / variant
        make_sandbox(place, {*INPUTS, "cache/backbone", *input_paths(config)})
        splits = place / paths.splits(config.dataset.name)
        shutil.rmtree(splits, ignore_errors=True)
        for file in files:
            replace_link(file, splits / file.name)
        if variant:
            replace_link(folder / "models", place / "models")


class Record:
    """`job.json`: the finished steps, with the identity of their inputs and their code."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECORD
        self.done = _done(self.path)

    def pending(self, steps: list[Step]) -> list[Step]:
        """The steps whose output is missing, or comes from other inputs."""
        folder = self.path.parent
        return [
            step
            for step in steps
            if self.done.get(step.title, {}).get("identity") != step.identity
            or not (folder / step.folder / step.output).exists()
        ]

    def other_code(self, steps: list[Step]) -> bool:
        """Whether the output of a finished step comes from other code than the present."""
        return any(
            self.done[step.title]["code"] != code_hash(step.stage)
            for step in steps
            if step.title in self.done
        )

    def trained(self) -> dict[str, Path]:
        """Identity → this folder, of the trainings that ran with the present code."""
        return {
            entry["identity"]: self.path.parent
            for title, entry in self.done.items()
            if title.startswith("train ") and entry["code"] == code_hash("train")
        }

    def add(self, step: Step, job: Job) -> None:
        """Record that a step is finished."""
        self.done[step.title] = {"identity": step.identity, "code": code_hash(step.stage)}
        self._write(job)

    def forget(self, steps: Sequence[Step], job: Job) -> None:
        """Remove steps that are to run again: their outputs do not count until they are finished."""
        removed = [self.done.pop(step.title, None) for step in steps]
        if any(removed):
            self._write(job)

    def _write(self, job: Job) -> None:
        write_json(self.path, {"overrides": list(job.overrides), "done": self.done})


def _done(record: Path) -> dict[str, dict[str, str]]:
    """Title → identity and code; empty without a record, or with one that cannot be read."""
    try:
        content = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    done = content.get("done") if isinstance(content, dict) else None
    return {
        title: entry
        for title, entry in (done if isinstance(done, dict) else {}).items()
        if isinstance(entry, dict) and {"identity", "code"} <= entry.keys()
    }


def take(step: Step, home: Path, folder: Path) -> bool:
    """Copy a training's output from the job in `home` with the same training; False where it has none."""
    out = step.output
    log = paths.training_log(*out.parts[1:4]).parent
    if not (home / out).is_file() or home == folder:
        return False
    if step.identity not in Record(home).trained():  # that job has another training by now
        return False
    for part in (log, out.parent):  # the checkpoint last: with it the step is finished
        if (home / part).is_dir():
            shutil.rmtree(folder / part, ignore_errors=True)
            shutil.copytree(home / part, folder / part)
    return True
