"""Calls of `make up` and `make down` to the Prefect server, through its Python client."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.objects import StateType, WorkerStatus
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import (
    AutomationCore,
    EventTrigger,
    Posture,
    ResourceSpecification,
)
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Cancelling

from vidprompt.system.errors import UserError, first_line

SILENCE = timedelta(seconds=900)  # a flow run sends a heartbeat every 30 s (pyproject.toml)
AUTOMATION = "Crash the runs of a dead worker"


@contextmanager
def connected(url: str) -> Iterator[SyncPrefectClient]:
    """A client of the API at `url`; an HTTP error in the block becomes a UserError."""
    secret = get_current_settings().api.auth_string
    try:
        with SyncPrefectClient(
            url, auth_string=secret.get_secret_value() if secret else None
        ) as client:
            yield client
    except httpx.HTTPError as error:
        response = getattr(error, "response", None)
        if response is not None and response.status_code == 401:
            raise UserError(
                "The Prefect server wants a password: PREFECT_API_AUTH_STRING must be what "
                "PREFECT_SERVER_API_AUTH_STRING is"
            ) from error
        raise UserError(
            f"The Prefect server at {url} failed ({first_line(error)}): see logs/server.log in "
            f"{get_current_settings().home}"
        ) from error


def pool(client: SyncPrefectClient, name: str) -> bool:
    """Create a pool of process workers if there is none; True if created. UserError for another type."""
    try:
        kind = client.read_work_pool(name).type
    except ObjectNotFound:
        from prefect.workers.process import ProcessWorker

        template = ProcessWorker.get_default_base_job_template()
        wanted = WorkPoolCreate(name=name, type="process", base_job_template=template)
        client.create_work_pool(wanted)
        return True
    if kind != "process":
        raise UserError(
            f"Work pool {name!r} is of type {kind}, and `make up` starts a worker of type process: "
            f"`prefect work-pool delete {quote(name)}` and run this again, or "
            f"`prefect worker start --pool {quote(name)}`"
        )
    return False


def limit(client: SyncPrefectClient, name: str, slots: int) -> bool:
    """Create or set a global concurrency limit of so many slots; returns whether anything changed."""
    try:
        before = client.read_global_concurrency_limit_by_name(name)
        same = (before.limit, before.slot_decay_per_second) == (slots, 0.0)
    except ObjectNotFound:
        same = False
    if not same:
        client.upsert_global_concurrency_limit_by_name(name, slots, slot_decay_per_second=0.0)
    return not same


def crash_silent_runs(client: SyncPrefectClient) -> None:
    """Create the automation that sets a run to Crashed when no heartbeat has come for SILENCE."""
    if client.read_automations_by_name(AUTOMATION):
        return
    ends = {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed")}
    sign = "prefect.flow-run.heartbeat"
    trigger = EventTrigger(
        after={sign},
        expect={sign, *ends},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=SILENCE,
    )
    message = f"No sign of life for {SILENCE.seconds} s: run it again, what is done stays done."
    action = ChangeFlowRunState(name=None, state=StateType.CRASHED, message=message, force=False)
    client.create_automation(AutomationCore(name=AUTOMATION, trigger=trigger, actions=[action]))


def deployed(
    client: SyncPrefectClient, wanted: Iterable[tuple[str, str]], folder: Path
) -> list[tuple[str, str]]:
    """The (entrypoint, name) that the server lacks, or has for another folder."""
    wanted = list(wanted)
    names = DeploymentFilterName(any_=[name for _, name in wanted])
    same_names = client.read_deployments(deployment_filter=DeploymentFilter(name=names), limit=200)
    present = {(d.entrypoint, d.name) for d in same_names if _runs_in(d.pull_steps, folder)}
    return [pair for pair in wanted if pair not in present]


def _runs_in(pull_steps: Any, folder: Path) -> bool:
    return str(folder) in [
        given.get("directory") for step in pull_steps or () for given in step.values()
    ]


def worker_online(client: SyncPrefectClient, pool_name: str, name: str, since: datetime) -> bool:
    """True if a worker of that name has sent a heartbeat since `since`."""
    for worker in client.read_workers_for_work_pool(pool_name):
        if worker.name == name and worker.status == WorkerStatus.ONLINE:
            beat = worker.last_heartbeat_time
            return beat is not None and beat >= since
    return False


def cancel(client: SyncPrefectClient, runs: Iterable[UUID], timeout_s: float) -> list[UUID]:
    """Cancel running flow runs; returns those that are not final in time."""
    left = [run for run in runs if not _final(client, run)]
    for run in left:
        client.set_flow_run_state(run, Cancelling(message="make down"))
    end = time.monotonic() + timeout_s
    while left and time.monotonic() < end:
        time.sleep(0.3)
        left = [run for run in left if not _final(client, run)]
    return left


def end(client: SyncPrefectClient, runs: Iterable[UUID]) -> None:
    """Set runs whose processes have ended to Cancelled."""
    for run in runs:
        if not _final(client, run):
            client.set_flow_run_state(run, Cancelled(message="make down"), force=True)


def _final(client: SyncPrefectClient, run: UUID) -> bool:
    try:
        state = client.read_flow_run(run).state
    except ObjectNotFound:
        return True
    return state is not None and state.is_final()
