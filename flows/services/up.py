"""`make up`: start the services that flows need, in order; what runs already is kept."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from flows.services import processes
from flows.services.address import HOST, Address, remember
from flows.services.record import Process, Record, short
from vidprompt.cli.prefect_server import PLUGINS_OFF, TIMEOUT_S
from vidprompt.system.errors import UserError
from vidprompt.system.locks import exclusive_lock

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOL = "gpu"
READY_S = 120.0
DEPLOY_S = 300.0
HEARTBEAT_S = 75.0  # a worker sends a heartbeat every 30 s
PREFECT = (sys.executable, "-m", "prefect")
QUIET = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", **PLUGINS_OFF}


def up(address: Address, results: Path = Path("results")) -> None:
    """Start what is not running, print a line for each. On a UserError, what has started keeps running."""
    with exclusive_lock(address.folder):
        began = time.monotonic()
        record = Record.read(address.folder)
        _check(address, record, results)
        by_hand = remember(address)
        environment = QUIET | {
            "PREFECT_API_URL": address.api_url,
            "VIDPROMPT_REPORTS_URL": address.reports_url,
        }
        _server(address, record, environment)
        from flows.services import api

        with api.connected(address.api_url) as client:
            _pool_and_limits(client)
            _deployments(client, record, environment)
            _worker(client, record, environment)
        _reports(address, record, results, environment)
        print(f"up after {time.monotonic() - began:.1f} s: {address.ui_url}")
        if by_hand:
            print(f"for other commands, here and in other shells: {by_hand}")


def _check(address: Address, record: Record, results: Path) -> None:
    """Raises UserError for a port or a folder that would stop `up` half-way."""
    for name, at, variable in (
        ("server", address.api_url, "PORT"),
        ("reports", address.reports_url, "REPORTS_PORT"),
    ):
        running = record.processes.get(name)
        if running and running.at != at:
            raise UserError(
                f"In this folder {name} is at {running.at} and not at {at}: `make down` first"
            )
        port = int(at.split("/")[2].rpartition(":")[2])
        if not running and not processes.is_free(port):
            raise UserError(
                f"Port {port} is taken by {processes.port_user(port)}, which `make up` did not start here: "
                f"stop that, or choose another port with `make up {variable}=…`"
            )
    for path in (Path("prefect.yaml"), results):
        if not path.exists():
            raise UserError(
                f"There is no {path} in {Path.cwd()}: run `make up` in the project's folder"
            )


def _report(name: str, text: str, since: float | None = None) -> None:
    took = "" if since is None else f", {time.monotonic() - since:.1f} s"
    print(f"{name:<8} {text}{took}", flush=True)


def _service(
    name: str,
    command: list[str],
    at: str,
    record: Record,
    environment: dict[str, str],
    ready: Callable[[], bool],
) -> None:
    """Start a service unless it runs, and wait until it is ready."""
    began = time.monotonic()
    process = record.processes.get(name)
    kept = process is not None
    if process is None:
        process = processes.start(name, command, at, record, environment)
    processes.wait_for(name, process, ready, READY_S)
    if kept:
        _report(name, f"{at} already running (process {process.pid})")
    else:
        _report(name, f"{at} (process {process.pid}, log {short(process.log)})", began)


def _server(address: Address, record: Record, environment: dict[str, str]) -> None:
    command = [*PREFECT, "server", "start", "--host", HOST, "--port", str(address.port)]
    ready = _answers(f"{address.api_url}/health")
    _service("server", command, address.api_url, record, environment, ready)


def _reports(address: Address, record: Record, results: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "http.server", "--bind", HOST]
    command += ["--directory", str(results), str(address.reports_port)]
    ready = _answers(address.reports_url)
    _service("reports", command, address.reports_url, record, environment, ready)


def _answers(url: str) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            return httpx.get(url, timeout=TIMEOUT_S, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    return ready


def _pool_and_limits(client: SyncPrefectClient) -> None:
    from flows import gpu
    from flows.services import api

    began = time.monotonic()
    new = api.pool(client, POOL)
    _report("pool", f"{POOL} (process)" if new else f"{POOL} already there", began if new else None)
    name, gpus = gpu.limit_name(), gpu.devices()
    slots = max(1, len(gpus))
    what = f"{name}: {slots} for {len(gpus) or 'no'} GPU{'s' * (slots != 1 or not gpus)}"
    changed = api.limit(client, name, slots)
    _report("limit", what if changed else f"{what}, already there")
    api.crash_silent_runs(client)


def _deployments(client: SyncPrefectClient, record: Record, environment: dict[str, str]) -> None:
    from flows.services import api

    began = time.monotonic()
    wanted, folder = deployments(), Path.cwd()
    count = f"{len(wanted)} deployment{'s' * (len(wanted) != 1)}"
    now = fingerprint(folder)
    if record.deployed == now and not api.deployed(client, wanted, folder):
        _report("deploy", f"{count} already there")
        return
    done = subprocess.run(
        [*PREFECT, "--no-prompt", "deploy", "--all"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=DEPLOY_S,
        check=False,
        env={**os.environ, **environment},
    )
    log = record.path.parent / "logs" / "deploy.log"
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    missing = api.deployed(client, wanted, folder)
    if done.returncode or missing:
        names = ", ".join(f"{entrypoint} {name}" for entrypoint, name in missing) or "some"
        raise UserError(f"prefect.yaml was not deployed ({names}): see {short(log)}")
    record.deployed = now
    record.write()
    _report("deploy", count, began)


def deployments() -> list[tuple[str, str]]:
    """(entrypoint, name) of everything in prefect.yaml. Raises UserError when that is no such file."""
    try:
        listed: list[dict[str, Any]] = yaml.safe_load(Path("prefect.yaml").read_text("utf-8"))[
            "deployments"
        ]
        return [(one["entrypoint"], one["name"]) for one in listed]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"prefect.yaml does not list deployments: {error}") from error


def fingerprint(folder: Path) -> str:
    """Of everything that a deployment is made from: prefect.yaml, the flows, and where they are."""
    from prefect import __version__

    digest = hashlib.sha256(f"{folder}\n{__version__}\n".encode())
    sources = [one for one in (folder / "flows").glob("*.py") if one.is_file()]
    for path in (folder / "prefect.yaml", *sorted(sources)):
        digest.update(path.name.encode() + b"\n" + path.read_bytes())
    return digest.hexdigest()


def _worker(client: SyncPrefectClient, record: Record, environment: dict[str, str]) -> None:
    from flows.services import api

    name = f"process-{socket.gethostname()}"
    command = [*PREFECT, "worker", "start", "--pool", POOL, "--type", "process", "--name", name]
    kept: Process | None = record.processes.get("worker")
    since = datetime.now().astimezone() - timedelta(seconds=HEARTBEAT_S if kept else 0)
    _service(
        "worker",
        command,
        f"{name} on pool {POOL}",
        record,
        environment,
        lambda: api.worker_online(client, POOL, name, since),
    )
