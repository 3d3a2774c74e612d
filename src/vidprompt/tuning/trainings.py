"""The trainings of a tune: on the training videos that are not held out, in folders without test lists.

A trial is a job of `vidprompt.sweep` with one step, `train`. Its folder has one split file, with the training
list and the held-out videos and no tests: what is not there cannot be looked at.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidprompt.config import paths
from vidprompt.config.schema import Config, FewShotConfig
from vidprompt.data.splits.split_file import Split, read_splits, write_split
from vidprompt.files.hashes import digest, sha256
from vidprompt.pipeline.sandbox import INPUTS, input_paths, make_sandbox
from vidprompt.sweep.launch import Work
from vidprompt.sweep.plan import Job
from vidprompt.sweep.steps import Record, Step
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.suggestions import suggestion
from vidprompt.training.engine import HELD_OUT
from vidprompt.tuning.space import TuneSettings, Value, override

SPLITS = "splits"  # folder of the tune in which its split files are made
STEPS = "steps.jsonl"  # of a training's log


@dataclass(frozen=True)
class Tuned:
    """What every trial of a method has in common: overrides, split and length."""

    method: str
    config: Config
    overrides: tuple[str, ...]  # with the length in steps
    run: str
    split: Split
    steps: int


def held_out_override(config: Config, settings: TuneSettings) -> str:
    """The override that holds training videos out: as configured, or the settings' share or number."""
    protocol = config.protocol
    if given := getattr(protocol, "held_out", None):
        return f"protocol.held_out={given}"
    if given is None:
        raise UserError(
            f"{protocol.name} trains on nothing of its own: tune on supervised, few_shot, base_to_novel or "
            "reid (protocol=NAME)"
        )
    counted = isinstance(protocol, FewShotConfig) or getattr(protocol, "shots", None) is not None
    value = settings.videos if counted else settings.share
    if not value:
        raise UserError(
            "nothing is held out to choose by: set tune.held_out.share (or .videos with shots), or "
            "protocol.held_out"
        )
    return f"protocol.held_out={value}"


def splits_work(folder: Path, config: Config, overrides: Sequence[str]) -> Work:
    """The job that makes the dataset's split files with held-out videos, in the tune's folder."""
    dataset = str(config.dataset.name)
    inputs = [paths.manifest(dataset), paths.classes(dataset)]
    for file in inputs:
        if not file.is_file():
            raise DataError(f"no {file}: run `dvc repro` (or vidprompt manifest) first")
    identity = digest([config.values["dataset"], config.values["protocol"], *map(sha256, inputs)])
    out = paths.splits(dataset)
    step = Step("splits", "", tuple(overrides), "splits", out, identity)
    job, record = Job(SPLITS, "", 0, tuple(overrides), ()), Record(folder / SPLITS)
    return Work(job, folder / SPLITS, [step], record, record.pending([step]))


def prepare_splits(work: Work, config: Config) -> None:
    """Make the folder of `splits_work` ready."""
    make_sandbox(work.folder, {"data", "cache/manifest", *input_paths(config)})


def tuned_split(folder: Path, config: Config, run: str) -> tuple[str, Split]:
    """The name and the split that is trained on: `run`, or without it the protocol's first.

    Raises UserError for a split without a training list of its own, DataError where no video of it is held
    out.
    """
    found = read_splits(folder / SPLITS / paths.splits(str(config.dataset.name)))
    protocol = config.protocol.name
    trained = [name for name, one in found.items() if one.protocol == protocol and one.run == name]
    if not run:
        if not trained:
            raise DataError(
                f"{config.dataset.name} has no split of {protocol} with a training list"
            )
        run = trained[0]
    if run not in trained:
        raise UserError(f"split={run}: {suggestion(run, trained)} (of {protocol})")
    split = found[run]
    if split.val is None or not split.val.videos:
        raise DataError(
            f"{run}: no training video can be held out to choose by: lower protocol.held_out"
        )
    return run, split


def trial_work(folder: Path, tuned: Tuned, number: int, values: Mapping[str, Value]) -> Work:
    """The training of a trial, in the folder `<method>/trials/<number>` of the tune."""
    overrides = (*tuned.overrides, *(override(key, value) for key, value in values.items()))
    place = folder / tuned.method / "trials" / f"{number:04}"
    out = paths.training_summary(str(tuned.config.dataset.name), tuned.method, tuned.run)
    step = Step("train", "", overrides, f"train {tuned.run}", out, digest([*overrides, "tune"]))
    name = f"{tuned.method} trial {number}"
    seed = int(tuned.config.seed)
    record = Record(place)
    job = Job(name, tuned.method, seed, overrides, ())
    return Work(job, place, [step], record, record.pending([step]))


def prepare_trial(work: Work, tuned: Tuned) -> None:
    """Make a trial's folder: links to frames, the parameters, and one split file without tests."""
    make_sandbox(work.folder, {*INPUTS, "cache/backbone", *input_paths(tuned.config)})
    lists = work.folder / paths.splits(str(tuned.config.dataset.name))
    write_split(replace(tuned.split, tests={}), lists / f"{tuned.run}.json")


def final_evaluations(work: Work) -> list[float]:
    """The measures on the held-out videos of a training that ended."""
    summary = work.folder / work.steps[0].output
    looks = json.loads(summary.read_text("utf-8"))["looks"]
    return [float(one[HELD_OUT]) for one in looks]


def checkpoint_value(tuned: Tuned, held_out: Sequence[float]) -> float:
    """The measure of the checkpoint that a training keeps: the last, or with `select=best` the best."""
    return max(held_out) if tuned.config.trainer.select == "best" else held_out[-1]


def remove_weights(work: Work) -> None:
    """Remove what a finished trial leaves of checkpoints and snapshots: its numbers are recorded."""
    shutil.rmtree(work.folder / "models", ignore_errors=True)
    shutil.rmtree(work.folder / "cache/training", ignore_errors=True)


class StepLogReader:
    """Reads the evaluations of a training from its step log while it is written."""

    def __init__(self, work: Work, tuned: Tuned) -> None:
        dataset = str(tuned.config.dataset.name)
        self.path = work.folder / paths.training(dataset, tuned.method, tuned.run) / STEPS
        self._inode, self._offset = 0, 0
        self._measures: dict[int, float] = {}  # step → measure

    def read(self) -> list[float]:
        """The measures so far, by step. A log that was written anew after a restart is read anew."""
        try:
            with self.path.open("rb") as file:
                state = self.path.stat()
                if state.st_ino != self._inode or state.st_size < self._offset:
                    self._inode, self._offset = state.st_ino, 0
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return []
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            if HELD_OUT.encode() in line:
                row = json.loads(line)
                if row[HELD_OUT] is not None:
                    self._measures[int(row["step"])] = float(row[HELD_OUT])
        return [self._measures[step] for step in sorted(self._measures)]

    def count_before(self, step: int) -> int:
        """How many of the measures are from before a step."""
        return sum(one < step for one in self._measures)
