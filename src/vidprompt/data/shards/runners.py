"""Build shards on many machines, by a Prefect flow over the task runner that params/runner names.

Every task needs the videos and the cache's folder under the same paths (a shared file system). A shard is
one task: what a killed worker was building is built again by another, and finished shards are never
built twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vidprompt.config.schema import RunnerConfig
from vidprompt.data.shards.cache_build import Runner
from vidprompt.data.shards.plan import ShardPlan
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice

RUNNERS = ("local", "dask", "ray")
SERVER_START_S, DRAIN_S = 120, 30


def shard_runner(
    settings: RunnerConfig, timeout_s: float, memory_mb: int | None = None
) -> Runner | None:
    """The `runner` of `build_frame_cache` for these settings; None for this machine's own processes.

    Raises UserError for an unknown name, and when the extra is not installed.
    """
    runner = task_runner(settings)
    if runner is None:
        return None

    def run(plans: Sequence[ShardPlan], out: Path, advance: Callable[[int], None]) -> None:
        if not plans:
            return
        from vidprompt.data.shards import prefect_flow

        limits = (timeout_s, memory_mb)
        with prefect_server():
            prefect_flow.build_shards(plans, out, advance, runner, settings.retries, limits)

    return run


def task_runner(settings: RunnerConfig) -> Any | None:
    """Prefect's task runner for these settings; None for this machine's own processes.

    Raises UserError for an unknown name, and when the extra is not installed.
    """
    check_choice("runner.name", settings.name, RUNNERS)
    return {"local": lambda _: None, "dask": _dask, "ray": _ray}[settings.name](settings)


def _dask(settings: RunnerConfig) -> Any:
    try:
        import dask
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise UserError("runner=dask needs `pip install 'vidprompt[dask]'`") from error
    if settings.address:
        return DaskTaskRunner(address=settings.address)
    dask.config.set({"distributed.worker.daemon": False})  # decoders are processes of their own
    workers = {"n_workers": settings.workers, "threads_per_worker": 1}
    return DaskTaskRunner(cluster_kwargs=workers | {"dashboard_address": None})


def _ray(settings: RunnerConfig) -> Any:
    try:
        from prefect_ray import RayTaskRunner
    except ImportError as error:
        raise UserError("runner=ray needs `pip install 'vidprompt[ray]'`") from error
    if settings.address:
        return RayTaskRunner(address=settings.address)
    return RayTaskRunner(init_kwargs={"num_cpus": settings.workers})


@contextmanager
def prefect_server() -> Iterator[None]:
    """Use the configured Prefect server; start a temporary one where none answers.

    The workers get its address: otherwise each would start a server of its own.
    """
    import httpx
    from prefect.events.worker import EventsWorker
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )

    url = PREFECT_API_URL.value()
    try:
        answers = bool(url) and httpx.get(f"{url}/health", timeout=3).is_success
    except httpx.HTTPError:
        answers = False
    if answers:
        yield
        return
    server = SubprocessASGIServer()
    server.start(timeout=SERVER_START_S)
    try:
        # no logs to a temporary server: late ones would wait for a server that has stopped
        own = {PREFECT_API_URL: server.api_url, PREFECT_LOGGING_TO_API_ENABLED: False}
        with temporary_settings(own):
            yield
    finally:
        EventsWorker.drain_all(timeout=DRAIN_S)  # otherwise it keeps trying to reach the server
        server.stop()
