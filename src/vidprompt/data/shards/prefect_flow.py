"""The Prefect flow that builds shards, one task a shard (imported only where Prefect is needed)."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed

from vidprompt.data.shards.build import build_shard
from vidprompt.data.shards.plan import ShardPlan


@dataclass(frozen=True)
class Work:
    """The shards that the flow builds, and each task's retries and limits."""

    plans: Sequence[ShardPlan]
    advance: Callable[[int], None]
    retries: int
    timeout_s: float
    memory_mb: int | None


# Not a parameter of the flow: the server keeps parameters, and a dataset's videos are many.
_work: list[Work] = []


def run_work(work: Work, out: Path, task_runner: Any) -> None:
    """Build all shards of `work` in the folder `out` by a task runner; raises what a task raised."""
    _work.append(work)
    try:
        frames.with_options(task_runner=task_runner)(str(out.resolve()))
    finally:
        _work.pop()


def build_pickled(plan: bytes, folder: str, timeout_s: float, memory_mb: int | None) -> None:
    """Build a shard unless it is finished. The plan is pickled, so that Prefect does not walk through it."""
    build_shard(pickle.loads(plan), Path(folder), 1, timeout_s, memory_mb)  # noqa: S301


def build_all(folder: str) -> None:
    """Submit the shards and wait for them, counting each as it ends."""
    work = _work[-1]
    build = shard.with_options(retries=work.retries)
    futures: dict[Any, int] = {}
    for plan in work.plans:
        future = build.submit(pickle.dumps(plan), folder, work.timeout_s, work.memory_mb)
        futures[future] = len(plan.jobs)
    for future in as_completed(list(futures)):
        future.result()
        work.advance(futures[future])


# Not as decorators: workers look functions up by name, so the names must be the functions' own.
shard = task(name="shard", retry_delay_seconds=1, cache_policy=NO_CACHE)(build_pickled)
frames = flow(name="frames")(build_all)
