"""`make down`: stops what `make up` started here, and the flow runs of its worker."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import psutil

from flows.services import processes
from flows.services.address import forget
from flows.services.record import Process, Record
from vidprompt.cli.prefect_server import server_problem
from vidprompt.system.errors import UserError
from vidprompt.system.locks import exclusive_lock

CANCEL_S = 20.0
GRACE_S = 10.0  # between SIGTERM and SIGKILL
RUN_ID = "PREFECT__FLOW_RUN_ID"  # in the environment of a flow run's process


def down(folder: Path) -> None:
    """Stop the flow runs, the worker and the servers; print a line for each."""
    with exclusive_lock(folder):
        record = Record.read(folder)
        if not record.processes:
            print("nothing is running that `make up` started here")
        worker, server = record.processes.get("worker"), record.processes.get("server")
        before = processes.descendants(worker) if worker else []
        runs = flow_runs(before)
        url = server.at if runs and server and not server_problem(server.at) else ""
        if url:
            _cancel(url, runs)
        if worker:
            before += processes.descendants(worker)  # begun meanwhile
            _stop("worker", worker, record)
            if left := processes.stop_all(before, 5.0):
                print(f"runs     {len(left)} processes that they left stopped")
        if url:
            _end(url, runs)
        for name in ("reports", "server"):
            if process := record.processes.get(name):
                _stop(name, process, record)
        forget()


def _stop(name: str, process: Process, record: Record) -> None:
    began = time.monotonic()
    processes.stop(process, GRACE_S)
    record.remove(name)
    print(
        f"{name:<8} stopped (process {process.pid}), {time.monotonic() - began:.1f} s", flush=True
    )


def flow_runs(started: list[psutil.Process]) -> list[UUID]:
    """The flow runs that processes belong to."""
    runs: set[UUID] = set()
    for process in started:
        try:
            runs.add(UUID(process.environ()[RUN_ID]))
        except (psutil.Error, OSError, KeyError, ValueError):
            continue
    return sorted(runs)


def _cancel(url: str, runs: list[UUID]) -> None:
    from flows.services import api

    began = time.monotonic()
    try:
        with api.connected(url) as client:
            left = api.cancel(client, runs, CANCEL_S)
    except UserError as error:  # their processes are stopped all the same
        print(f"runs     not cancelled: {error}", flush=True)
        return
    took = f"{time.monotonic() - began:.1f} s"
    print(f"runs     {len(runs) - len(left)} of {len(runs)} cancelled, {took}", flush=True)


def _end(url: str, runs: list[UUID]) -> None:
    """Set the runs to Cancelled: the worker, which would do so, has ended."""
    from flows.services import api

    with suppress(UserError), api.connected(url) as client:
        api.end(client, runs)
