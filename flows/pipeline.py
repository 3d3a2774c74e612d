"""The stages of one dataset in order, a Prefect task a stage. DVC owns the graph, the cache and the lineage.

This orders the stages and nothing else; it leaves the same `dvc.lock` as `dvc repro` does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows import gpu
from flows.data import TRANSIENT, TRIES
from flows.dvc_stage import Children, CommandFailed, Stopped, outdated, reproduce, stage_names
from flows.progress import StageProgress
from vidprompt.config.names import FLOOR
from vidprompt.pipeline.matrix import read_pipeline
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
LOOK_S = 1.0
AT_ONCE = max(2, (os.cpu_count() or 2) // 2)  # stages of a kind; those that compute wait for a GPU
# the cast: Prefect's runners do not fit its own annotation, which is invariant
RUNNER = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=AT_ONCE))


@dataclass(frozen=True)
class Plan:
    """What a flow runs: the stages kind after kind, and on which GPUs (or CPU places)."""

    dataset: str
    kinds: tuple[tuple[str, ...], ...]
    slots: int
    gpus: tuple[str, ...]

    @property
    def stages(self) -> list[str]:
        return [stage for kind in self.kinds for stage in kind]


def plan(
    dataset: str,
    children: Children,
    methods: Sequence[str] = (),
    only: Sequence[str] = ORDER,
    computes: bool = False,
) -> Plan:
    """The stages of a dataset, of some kinds and of the given methods (none given: all).

    `computes`: something else will want a GPU. Raises UserError when there is nothing such, or no limit on
    the server to train under: before any runs.
    """
    check_methods(methods)
    found = stages_of(dataset, stage_names(children), methods, only)
    devices = gpu.devices()
    slots = gpu.needed(devices)
    if computes or any(kind_of(group[0]) in gpu.KINDS for group in found):
        devices = gpu.places(slots, devices)
    return Plan(dataset, tuple(map(tuple, found)), slots, tuple(devices))


def check_methods(methods: Sequence[str]) -> None:
    """Raises UserError for one that the pipeline does not train."""
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
    by_dataset: dict[str, list[str]] = {}
    for name in names:
        by_dataset.setdefault(dataset_of(name), []).append(name)
    if not dataset or dataset not in by_dataset:
        active = ", ".join(sorted(filter(None, by_dataset))) or "none"
        raise UserError(
            f"dataset {dataset!r} is not active: `vidprompt activate {dataset}` (active: {active})"
        )
    kinds: dict[str, list[str]] = {kind: [] for kind in ORDER}
    for name in by_dataset[dataset]:
        kind = kind_of(name)
        if kind not in kinds:
            raise ValueError(f"flows/pipeline.py does not say when stage {name} has its turn")
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


@task(task_run_name="{stage}", cache_policy=NO_CACHE, **TRIES)  # DVC is the cache
def repro(stage: str, what: Plan, children: Children, changed: bool = True) -> Any:
    """One DVC stage. Its state is named "Unchanged" when there was nothing to do, "Transient" when a disk,
    a network or a kill ended it, which is tried again; any other failure is final."""
    if not changed:
        return Completed(name="Unchanged", message=stage)
    log = get_run_logger()
    try:
        with StageProgress(stage) as progress:

            def say(line: str) -> None:
                log.info(line)
                progress.read(line)

            did = _reproduce(stage, what, children, say)
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
    """One command of ours, its log streamed; `on_gpu`: with a GPU of that plan. Its failure is a sentence."""
    log = get_run_logger()
    try:
        if on_gpu is None:
            said = children.run(arguments, log.info)
        else:
            slots, found = on_gpu.slots, list(on_gpu.gpus)
            with gpu.occupied(slots, found, log.info, lambda: children.stopped) as given:
                said = children.run(arguments, log.info, given)
    except (CommandFailed, Stopped) as error:
        log.error(str(error))
        return Failed(message=str(error))
    return Completed(message=said[-1] if said else name)


def _reproduce(stage: str, what: Plan, children: Children, say: Callable[[str], object]) -> bool:
    if kind_of(stage) not in gpu.KINDS:
        return reproduce(stage, children, say)
    with gpu.occupied(what.slots, list(what.gpus), say, lambda: children.stopped) as environment:
        return reproduce(stage, children, say, environment)


@contextmanager
def turn(dataset: str) -> Iterator[None]:
    """Within, no other flow run works on the dataset in this tree; waits until that is so."""
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
                time.sleep(LOOK_S)
        yield


def refused(error: UserError) -> Any:
    """The state of a flow that was asked for something that cannot be: its message says what."""
    get_run_logger().error(str(error))
    return Failed(name="Refused", message=str(error))


def ran(name: str, arguments: Sequence[str], children: Children, **more: Any) -> tuple[bool, str]:
    """Run a command as a task of its own: whether it went well, and its last line or what was wrong."""
    state = command(name, list(arguments), children, **more, return_state=True)
    return state.is_completed(), str(state.message)


def run_kind(stages: Sequence[str], what: Plan, children: Children) -> list[str]:
    """Run stages of one kind; what became of those that failed, a sentence each."""
    stale = set(outdated(stages, children))
    futures = [repro.submit(stage, what, children, stage in stale) for stage in stages]
    wait(futures)
    return [
        f"{stage}: {future.state.message}"
        for stage, future in zip(stages, futures, strict=True)
        if not future.state.is_completed()
    ]
