"""Run the stages of a dataset in order, a Prefect task for each; DVC owns graph, cache and lineage.

The `dvc.lock` is the same as after `dvc repro`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, cast

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows import gpu
from flows.data import RETRIES, TRANSIENT
from flows.dvc_stage import Children, CommandFailed, Stopped, outdated, reproduce, stage_names
from flows.progress import StageProgress
from vidprompt.config.names import FLOOR
from vidprompt.pipeline.matrix import read_pipeline
from vidprompt.system.cores import available_cores
from vidprompt.system.errors import UserError
from vidprompt.system.locks import exclusive_lock
from vidprompt.system.suggestions import suggestion

# Kinds of stages in the order of the graph: `dvc repro -s` does not look at what a stage depends on.
ORDER = (
    *("unpack", "manifest", "splits", "validate", "frames", "backbone"),
    *("floor", "train", "features", "evaluate", "reid", "report"),
)
DATA = ORDER[:6]
METHOD_KINDS = frozenset({"train", "features", "evaluate", "reid"})
POLL_S = 1.0
MAX_WORKERS = max(2, available_cores() // 2)  # stages of a kind; those that compute wait for a GPU
# the cast: Prefect's runners do not fit its own annotation, which is invariant
RUNNER = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=MAX_WORKERS))


@dataclass(frozen=True)
class Plan:
    """What a flow runs: stages by kind, and the devices for those that compute on a GPU."""

    dataset: str
    kinds: tuple[tuple[str, ...], ...]
    slots: int
    gpus: tuple[str, ...]

    @property
    def stages(self) -> list[str]:
        return [stage for kind in self.kinds for stage in kind]


def make_plan(
    dataset: str,
    children: Children,
    methods: Sequence[str] = (),
    only: Sequence[str] = ORDER,
    computes: bool = False,
) -> Plan:
    """The stages of a dataset, of some kinds and of the given methods (none given: all).

    `computes`: the flow reserves a GPU itself, too. Raises UserError, before anything runs, for an unknown
    dataset or method and when the server has no usable GPU limit.
    """
    check_methods(methods)
    groups = stages_of(dataset, stage_names(children), methods, only)
    devices = gpu.devices()
    slots = gpu.slots_per_training(devices)
    if computes or any(kind_of(group[0]) in gpu.KINDS for group in groups):
        devices = gpu.available(slots, devices)
    return Plan(dataset, tuple(map(tuple, groups)), slots, tuple(devices))


def check_methods(methods: Sequence[str]) -> None:
    """Raises UserError for a method that the pipeline does not train."""
    trained = [str(name) for name in read_pipeline()["trained"]]
    for name in methods:
        if name not in trained:
            raise UserError(f"unknown method {name!r}: {suggestion(name, trained)}")


def stages_of(
    dataset: str, names: Sequence[str], methods: Sequence[str] = (), only: Sequence[str] = ORDER
) -> list[list[str]]:
    """The dataset's stages, kind after kind.

    Raises UserError when the dataset is not active; ValueError when a stage is of no kind in ORDER.
    """
    active = {dataset_of(name) for name in names} - {""}
    if dataset not in active:
        raise UserError(
            f"dataset {dataset!r} is not active: `vidprompt activate {quote(dataset)}` "
            f"(active: {', '.join(sorted(active)) or 'none'})"
        )
    kinds: dict[str, list[str]] = {kind: [] for kind in ORDER}
    for name in (name for name in names if dataset_of(name) == dataset):
        kind = kind_of(name)
        if kind not in kinds:
            raise ValueError(f"flows/pipeline.py has no place for stage {name} in ORDER")
        if kind in only and _wanted(kind, name, methods):
            kinds[kind].append(name)
    return [group for group in kinds.values() if group]


def kind_of(stage: str) -> str:
    """`train` of `train@demo-ez_clip-reid`."""
    return stage.partition("@")[0]


def dataset_of(stage: str) -> str:
    """`demo` of `train@demo-ez_clip-reid`; a dataset's name has no "-" in it."""
    return stage.partition("@")[2].partition("-")[0]


def _wanted(kind: str, stage: str, methods: Sequence[str]) -> bool:
    method = f"{stage}-".split("-")[1]
    return not methods or kind not in METHOD_KINDS or method in (*methods, FLOOR)


@task(task_run_name="{stage}", cache_policy=NO_CACHE, **RETRIES)  # DVC is the cache
def repro(stage: str, plan: Plan, children: Children, changed: bool = True) -> Any:
    """One DVC stage. Its state is named "Unchanged" when there was nothing to do, "Transient" after a failure
    of a disk or network or a kill, which is retried; any other failure is final."""
    if not changed:
        return Completed(name="Unchanged", message=stage)
    log = get_run_logger()
    try:
        with StageProgress(stage) as progress:

            def show(line: str) -> None:
                log.info(line)
                progress.read(line)

            did = _reproduce(stage, plan, children, show)
    except CommandFailed as error:
        log.error(str(error))
        kind = TRANSIENT if error.transient and not children.stopped else None
        return Failed(name=kind or "Failed", message=str(error))
    except Stopped as error:
        return Failed(name="Stopped", message=str(error))
    return Completed(message=stage) if did else Completed(name="Unchanged", message=stage)


@task(task_run_name="{name}", cache_policy=NO_CACHE)
def command(
    name: str, arguments: Sequence[str], children: Children, on_gpu: Plan | None = None
) -> Any:
    """One command, its output streamed to the log; `on_gpu`: with a GPU of that plan."""
    log = get_run_logger()
    try:
        if on_gpu is None:
            lines = children.run(arguments, log.info)
        else:
            slots, gpus = on_gpu.slots, list(on_gpu.gpus)
            with gpu.reserved(slots, gpus, log.info, lambda: children.stopped) as given:
                lines = children.run(arguments, log.info, given)
    except (CommandFailed, Stopped) as error:
        log.error(str(error))
        return Failed(message=str(error))
    return Completed(message=lines[-1] if lines else name)


def _reproduce(stage: str, plan: Plan, children: Children, log: Callable[[str], object]) -> bool:
    if kind_of(stage) not in gpu.KINDS:
        return reproduce(stage, children, log)
    with gpu.reserved(plan.slots, list(plan.gpus), log, lambda: children.stopped) as environment:
        return reproduce(stage, children, log, environment)


@contextmanager
def dataset_lock(dataset: str) -> Iterator[None]:
    """Hold the lock of a dataset in this working tree; waits while another flow run holds it."""
    log = get_run_logger()
    with ExitStack() as held:
        waiting = False
        while True:
            try:
                held.enter_context(exclusive_lock(Path(".prefect/turns") / dataset))
                break
            except UserError:
                if not waiting:
                    log.info(f"waiting: another run works on {dataset} in this folder")
                waiting = True
                time.sleep(POLL_S)
        yield


def refused_state(error: UserError) -> Any:
    """The state of a flow whose parameters cannot be run, with the error as its message."""
    get_run_logger().error(str(error))
    return Failed(name="Refused", message=str(error))


def run_command(
    name: str, arguments: Sequence[str], children: Children, **more: Any
) -> tuple[bool, str]:
    """Run a command as a task; returns whether it succeeded, and its last line or the error."""
    state = command(name, list(arguments), children, **more, return_state=True)
    return state.is_completed(), str(state.message)


def run_kind(stages: Sequence[str], plan: Plan, children: Children) -> list[str]:
    """Run the stages of one kind; returns a message for each that failed."""
    stale = set(outdated(stages, children))
    futures = [repro.submit(stage, plan, children, stage in stale) for stage in stages]
    wait(futures)
    return [
        f"{stage}: {future.state.message}"
        for stage, future in zip(stages, futures, strict=True)
        if not future.state.is_completed()
    ]
