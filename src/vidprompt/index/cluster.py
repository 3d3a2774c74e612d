"""Make shards on many machines, by a Prefect flow over a Dask or Ray cluster, as frames are built.

Every machine needs the videos, the index's folder and the model under the same paths (a shared file system).
A task is a few shards: what a killed worker was at is made by another, and finished shards are kept.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidprompt.config.schema import RunnerConfig
from vidprompt.data.shards import runners
from vidprompt.index.encode import Encoder, EncodeSettings, make_shards
from vidprompt.index.plan import ShardTask
from vidprompt.index.store import IndexInfo, shard_names
from vidprompt.system.suggestions import check_choice

RUNNERS = ("dask", "ray")
TASK_SHARDS = 8  # at most; about 1,000 videos: starting the decoders of a task takes a second
_models: dict[bytes, Encoder] = {}  # of this process, by what loads them


@dataclass(frozen=True)
class ClusterRun:
    """A `MakeShards` on a cluster; each of its processes loads the model with `load(0)`."""

    load: Callable[[int], Encoder]
    runner: RunnerConfig
    settings: EncodeSettings

    def __call__(
        self,
        tasks: Sequence[ShardTask],
        index: Path,
        folder: Path,
        info: IndexInfo,
        advance: Callable[[int], None],
    ) -> int:
        """Raises UserError for an unknown runner and where its extra is not installed."""
        check_choice("runner", self.runner.name, RUNNERS)
        task_runner = runners.task_runner(self.runner)
        from prefect import flow, task
        from prefect.cache_policies import NO_CACHE
        from prefect.futures import as_completed

        make = task(
            name="embed", retries=self.runner.retries, retry_delay_seconds=1, cache_policy=NO_CACHE
        )(make_pickled)
        # several for each worker, so that all end together
        size = max(1, min(TASK_SHARDS, len(tasks) // (4 * self.runner.workers)))
        batches = [tasks[i : i + size] for i in range(0, len(tasks), size)]

        # The shards are no parameter: the server keeps parameters, and a dataset's videos are many.
        @flow(name="embed", task_runner=task_runner)
        def embed() -> int:
            futures = {}
            for batch in batches:
                work = (self.load, batch, index.resolve(), folder.resolve(), info, self.settings)
                futures[make.submit(pickle.dumps(work))] = sum(len(one.plan.files) for one in batch)
            encoded = 0
            for future in as_completed(list(futures)):
                encoded += future.result()
                advance(futures[future])
            return encoded

        with runners.prefect_server():
            return embed()


def make_pickled(work: bytes) -> int:
    """Make shards, in a worker of the cluster; pickled, so that Prefect does not walk through them."""
    load, tasks, index, folder, info, settings = pickle.loads(work)  # noqa: S301
    key = pickle.dumps(load)
    if key not in _models:
        _models.clear()
        _models[key] = load(0)
    finished = set(shard_names(index))  # by a worker that was killed after it
    left = [task for task in tasks if task.plan.key not in finished]
    return make_shards(left, _models[key], index, folder, info, settings, lambda _: None)
