"""A real Prefect server with a work pool, a GPU limit and a worker; and a scratch DVC project."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent
STAGES = ["manifest@demo", "train@demo-ez_clip-x"]
DVC_YAML = """
stages:
  train:
    matrix: {dataset: [demo], method: [ez_clip], run: [x]}
    cmd: bash train.sh
    deps: [manifest.txt]
    outs: [model.txt]
  manifest:
    matrix: {dataset: [demo]}
    cmd: echo manifest >> order.log && cp data.txt manifest.txt
    deps: [data.txt]
    outs: [manifest.txt]
"""
TRAIN = "echo train >> order.log; grep -q good manifest.txt && cp manifest.txt model.txt\n"


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What the condition gives as soon as it is true. AssertionError when that takes too long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"not so within {seconds} s")


@dataclass
class Server:
    """A Prefect server of the tests' own, on a free port."""

    url: str
    environment: dict[str, str]
    folder: Path

    def prefect(self, *arguments: str, folder: Path | None = None, fails: bool = False) -> str:
        """Run Prefect's command line; what it printed."""
        done = subprocess.run(
            [SCRIPTS / "prefect", "--no-prompt", *arguments],
            cwd=folder or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert bool(done.returncode) == fails, output[-3000:]
        return output

    @contextmanager
    def running(
        self, *command: str, folder: Path, log: str, grace_s: float = 20
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A process of the server's environment, ended when left: killed after `grace_s` seconds."""
        with (self.folder / log).open("wb") as out:
            process = subprocess.Popen(
                [SCRIPTS / command[0], *command[1:]],
                cwd=folder,
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                if process.poll() is None:
                    os.killpg(process.pid, number)
                    try:
                        process.wait(grace_s)
                    except subprocess.TimeoutExpired:
                        continue


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
    }
    made = Server(given["PREFECT_API_URL"], os.environ | given, folder)
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with made.running(*command, folder=folder, log="server.log"):
        until(lambda: _healthy(made.url), 120)
        _create_pool_and_limit(made)
        yield made
        from prefect.events.worker import EventsWorker

        EventsWorker.drain_all(timeout=10)  # else it goes on trying to reach the server


def _create_pool_and_limit(server: Server) -> None:
    """A work pool and a GPU limit of one slot, by the API: Prefect's command takes four seconds to start."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with _known(server), get_client(sync_client=True) as client:
        client.create_work_pool(
            WorkPoolCreate(name="gpu", type="process", base_job_template=template)
        )
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name="gpu", limit=1))


@contextmanager
def _known(server: Server) -> Iterator[None]:
    """This process knows the server."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    home = server.environment["PREFECT_HOME"]
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_HOME: home}):
        yield


@pytest.fixture
def here(server: Server) -> Iterator[Server]:
    """Within a test, flows called in this process know the server."""
    with _known(server):
        yield server


@pytest.fixture(scope="module")
def worker(server: Server) -> Iterator[Server]:
    """A worker that polls the pool. It is killed at the end: it would wait for the processes of its runs."""
    command = ("prefect", "worker", "start", "--pool", "gpu")
    with server.running(*command, folder=server.folder, log="worker.log", grace_s=2):
        yield server


def make_project(folder: Path) -> Path:
    """Two stages, the flows, and the parameters that they read."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("flows", "params"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", folder)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "data.txt").write_text("good\n")
    (folder / "train.sh").write_text(TRAIN)
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = make_project(tmp_path / "project")
    monkeypatch.chdir(made)
    return made
