"""Run a chain: the steps of data, splits and models, by the engine of `vidprompt multirun`.

What is finished with the same inputs is not run again; a stage that was killed goes on where it was, as
every stage does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from vidprompt.config import paths
from vidprompt.data.splits.split_file import read_splits
from vidprompt.files.hashes import digest, sha256
from vidprompt.pipeline.doctor import named_lists
from vidprompt.pipeline.sandbox import input_paths, make_sandbox, replace_link
from vidprompt.reproduce.plan import HOME, Chain
from vidprompt.sweep.launch import LOG, Launcher, Work
from vidprompt.sweep.plan import Configurations, Job
from vidprompt.sweep.steps import Record, Step, input_hashes, model_steps
from vidprompt.system.errors import DataError, UserError


def run_chain(chain: Chain, configs: Configurations, launcher: Launcher) -> None:
    """Run what is not finished of a chain and of the chain that it borrows a model of.

    Raises UserError where a stage fails, with its last line and its log; Interrupted when stopped.
    """
    for one in chain.all:
        prepare = partial(_prepare, one)
        _run(launcher, data_work(one, launcher.again), partial(_prepare_data, one))
        _run(launcher, split_work(one, launcher.again), prepare)
        _keep_protocol(one)
        _run(launcher, model_work(one, configs, launcher.again), prepare)


def _run(launcher: Launcher, work: Work, prepare: Callable[[Work], None]) -> None:
    for why in launcher.run_works(work.job.name, [work], prepare).values():
        raise UserError(f"{work.job.name}: {why}")


def _work(folder: Path, job: Job, steps: list[Step], again: bool) -> Work:
    record = Record(folder)
    return Work(job, folder, steps, record, steps if again else record.pending(steps))


# -- manifest and frames ---------------------------------------------------------------------------


def data_work(chain: Chain, again: bool = False) -> Work:
    """Unpack, manifest and frames of a chain's dataset, in the project or a folder of their own.

    They are recorded below multirun/ by the state of the dataset's files (names, sizes, times).
    """
    config, dataset = chain.config, chain.dataset
    values, root = config.values["dataset"], Path(config.dataset.root)
    place, steps = str(Path.cwd() / chain.data), []
    files = Path(config.dataset.archives) if config.dataset.archives else root
    if not files.is_dir():
        raise DataError(
            f"{files} is missing: `vidprompt reproduce ROW --check` says what belongs there"
        )
    state = digest([{k: v for k, v in values.items() if k != "protocols"}, _file_states(files)])
    if config.dataset.archives:
        steps.append(_step("unpack", place, chain, root, state))
    steps.append(_step("manifest", place, chain, paths.manifest(dataset), state))
    frames = digest([state, config.values["frames"]])
    steps.append(_step("frames", place, chain, paths.frames(dataset) / "frames.json", frames))
    folder = HOME / f"data,{dataset}" if chain.data == Path() else chain.data
    return _work(folder, Job(folder.name, "", 0, chain.job.overrides, ()), steps, again)


def _step(stage: str, folder: str, chain: Chain, output: Path, identity: str) -> Step:
    return Step(stage, folder, chain.job.overrides, stage, output, identity)


def _file_states(root: Path) -> list[list[object]]:
    """Path, size and time of change of all files below a folder, links followed; sorted by path."""
    states: list[list[object]] = []
    folders = [str(root)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                try:
                    stat = entry.stat()
                except OSError:  # a link to nowhere
                    states.append([entry.path])
                    continue
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    states.append([entry.path, stat.st_size, stat.st_mtime_ns])
    return sorted(states, key=lambda state: str(state[0]))


def _prepare_data(chain: Chain, _: Work) -> None:
    if chain.data == Path():
        return
    make_sandbox(chain.data, {"data", *input_paths(chain.config)})
    Path("cache/probes").mkdir(parents=True, exist_ok=True)
    replace_link(Path("cache/probes"), chain.data / "cache/probes")


# -- splits, and what is made of them --------------------------------------------------------------


def split_work(chain: Chain, again: bool = False) -> Work:
    """Splits of the row's protocol settings, their validation, and the backbone's weights."""
    config, dataset = chain.config, chain.dataset
    files = [chain.data / paths.manifest(dataset), chain.data / paths.classes(dataset)]
    lists = [file for file in named_lists(config) if file.is_file()]
    hashes = {str(file): sha256(file) for file in [*files, *lists]}
    identity = digest([config.values["dataset"], config.values["protocol"], hashes])
    backbone = digest(config.values["backbone"])
    steps = [
        _step("splits", "", chain, paths.splits(dataset), identity),
        _step("validate", "", chain, paths.validation(dataset), identity),
        _step("backbone", "", chain, paths.backbone(dataset), backbone),
    ]
    return _work(chain.folder, chain.job, steps, again)


def model_work(chain: Chain, configs: Configurations, again: bool = False) -> Work:
    """The trainings of a chain, and where it is tested, features and evaluation."""
    splits = read_splits(chain.folder / paths.splits(chain.dataset))
    inputs = input_hashes(chain.config, chain.data)
    elsewhere = {}
    if chain.borrowed is not None:
        [trained] = [s for s in model_work(chain.borrowed, configs).steps if s.stage == "train"]
        if chain.starts:
            inputs["start"] = trained.identity
        else:
            elsewhere = {chain.config.split: trained.identity}
    chosen = {name: split for name, split in splits.items() if chain.includes(name, split)}
    if not chosen:
        raise DataError(f"{chain.dataset} has no split of {chain.protocol} for {chain.job.name}")
    steps = model_steps(chain.job, (chain.protocol,), chosen, inputs, configs, elsewhere)
    if not chain.tested:
        steps = [step for step in steps if step.stage == "train"]
    return _work(chain.folder, chain.job, steps, again)


def _prepare(chain: Chain, work: Work) -> None:
    """The chain's folder as a project: links to data, manifest and frames, a copy of the parameters."""
    make_sandbox(chain.folder, {"data", *input_paths(chain.config)})
    for path in (paths.manifest(chain.dataset).parent, paths.frames(chain.dataset)):
        replace_link(chain.data / path, chain.folder / path)
    if any(step.stage == "splits" for step in work.pending):  # those of other settings would stay
        for file in (chain.folder / paths.splits(chain.dataset)).glob("*.json"):
            file.unlink()
    if chain.borrowed is not None and chain.starts:
        checkpoint = paths.starting_checkpoint(str(chain.config.trainer.start_from))
        replace_link(chain.borrowed.folder / checkpoint, chain.folder / checkpoint)
    elif chain.borrowed is not None:
        models = Path("models") / chain.borrowed.dataset
        replace_link(chain.borrowed.folder / models, chain.folder / models)


def _keep_protocol(chain: Chain) -> None:
    """Leave the row's own splits: the floor is encoded on all there are."""
    folder = chain.folder / paths.splits(chain.dataset)
    for name, split in read_splits(folder).items():
        if not chain.includes(name, split):
            (folder / f"{name}.json").unlink()


def done_steps(chain: Chain) -> tuple[list[str], list[str]]:
    """Titles of the finished steps of a chain's folder, and the trainings that are not among them."""
    done = list(Record(chain.folder).done)
    trainings = chain.runs if chain.trains else ()
    return done, [run for run in trainings if f"train {run}" not in done]


def logs(chain: Chain) -> Sequence[Path]:
    """The logs of a chain's stages."""
    return [one.folder / LOG for one in chain.all]
