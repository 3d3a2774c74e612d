"""The Prefect flow that builds shards, one task a shard (imported only where Prefect is needed)."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed

from vidprompt.data.shards.build import build_shard
from vidprompt.data.shards.plan import ShardPlan


def build_pickled(plan: bytes, folder: str, timeout_s: float, memory_mb: int | None) -> None:
    """Build a shard unless it is finished. The plan is pickled, so that Prefect does not walk through it."""
    build_shard(pickle.loads(plan), Path(folder), 1, timeout_s, memory_mb)  # noqa: S301


# Not as a decorator: workers look the function up by name, so the name must be the function's own.
shard = task(name="shard", retry_delay_seconds=1, cache_policy=NO_CACHE)(build_pickled)


def build_shards(
    plans: Sequence[ShardPlan],
    out: Path,
    advance: Callable[[int], None],
    task_runner: Any,
    retries: int,
    limits: tuple[float, int | None],
) -> None:
    """Build shards in the folder `out` by a task runner; raises what a task raised.

    `advance` is called with the number of videos of each shard as it ends. `limits` of a video: seconds,
    megabytes.
    """

    # The plans are no parameter: the server keeps parameters, and a dataset's videos are many.
    @flow(name="frames", task_runner=task_runner)
    def frames(folder: str) -> None:
        build = shard.with_options(retries=retries)
        futures = {
            build.submit(pickle.dumps(plan), folder, *limits): len(plan.jobs) for plan in plans
        }
        for future in as_completed(list(futures)):
            future.result()
            advance(futures[future])

    frames(str(out.resolve()))
