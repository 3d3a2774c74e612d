"""The pipeline of one dataset as a Prefect flow: one task runs one DVC stage.

DVC owns the graph, the cache and the lineage; this orders the stages and nothing else. It leaves the
same `dvc.lock` as `dvc repro` does.
"""

from __future__ import annotations

from typing import Any, cast

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.concurrency.sync import concurrency
from prefect.futures import PrefectFuture, wait
from prefect.states import Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.dvc_stage import Children, outdated, reproduce, stage_names

# Kinds of stages in the order of the graph: `dvc repro -s` does not look at what a stage depends on.
ORDER = (
    "manifest",
    "splits",
    "validate",
    "frames",
    "backbone",
    "floor",
    "train",
    "features",
    "evaluate",
    "reid",
    "report",
)
# the cast: Prefect's runners do not fit its own annotation, which is invariant
_RUNNER = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=2))


def stages_of(dataset: str, names: list[str]) -> list[list[str]]:
    """The dataset's stages, kind after kind; a dataset's name has no "-" in it.

    Raises ValueError when the dataset is not active, or a stage is of no kind in ORDER.
    """
    by_dataset: dict[str, list[str]] = {}
    for name in names:
        by_dataset.setdefault(name.partition("@")[2].partition("-")[0], []).append(name)
    if not dataset or dataset not in by_dataset:
        active = ", ".join(sorted(filter(None, by_dataset))) or "none"
        raise ValueError(
            f"dataset {dataset!r} is not active: `vidprompt activate {dataset}` (active: {active})"
        )
    kinds: dict[str, list[str]] = {kind: [] for kind in ORDER}
    for name in by_dataset[dataset]:
        kind = name.partition("@")[0]
        if kind not in kinds:
            raise ValueError(f"flows/train_eval.py does not say when stage {name} has its turn")
        kinds[kind].append(name)
    return [group for group in kinds.values() if group]


@task(task_run_name="{stage}", cache_policy=NO_CACHE)  # DVC is the cache
def repro(stage: str, children: Children) -> Any:
    """One DVC stage; the state is named "Unchanged" when DVC had nothing to do."""
    log = get_run_logger().info
    if not stage.startswith("train@"):
        changed = reproduce(stage, children, log)
    else:
        with concurrency("gpu", occupy=1):  # other flow runs train too
            changed = reproduce(stage, children, log)
    return Completed(message=stage) if changed else Completed(name="Unchanged", message=stage)


@flow(name="train-eval", task_runner=_RUNNER)
def train_eval(dataset: str = "demo") -> None:
    """Bring every stage of the dataset up to date; a stage that fails ends the run after its kind."""
    kinds = stages_of(dataset, stage_names())
    with Children() as children:
        for stages in kinds:
            together = 1 if stages[0].startswith("train@") else len(stages)
            for start in range(0, len(stages), together):
                futures = [repro.submit(s, children) for s in stages[start : start + together]]
                wait(futures)
                for future in futures:
                    future.result()
        changed = outdated([stage for stages in kinds for stage in stages], children)
    if changed:
        raise RuntimeError(f"changed while the flow ran, run it again: {', '.join(changed)}")
