"""`make up` and `make down` on a scratch project with one trivial flow, with a real server and worker."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from flows.services.record import FILE, Process, Record, started

ROOT = Path(__file__).parents[3]
CODE = f"{ROOT}{os.pathsep}{ROOT / 'src'}"  # of this tree
FLOW = """
import time
from prefect import flow

@flow(name="tiny")
def tiny(seconds: float = 0.0) -> None:
    time.sleep(seconds)
"""
PREFECT = """
name: scratch
pull: null
deployments:
  - {name: one, entrypoint: "flows/tiny.py:tiny", work_pool: {name: gpu, work_queue_name: default}}
"""
SETTINGS = """
[tool.prefect]
home = ".prefect"
api.url = "http://127.0.0.1:%d/api"
plugins.enabled = true
server.concurrency.lease_storage = "prefect.server.concurrency.lease_storage.filesystem"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Project:
    folder: Path
    port: int
    reports_port: int

    def run(self, *command: str, status: int = 0, **environment: str) -> str:
        """The output of a command in the project; its exit status is as expected."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        ours = {"PYTHONPATH": CODE, "REPORTS_PORT": str(self.reports_port), "PATH": scripts}
        quiet = {"DO_NOT_TRACK": "1", "CUDA_VISIBLE_DEVICES": "0,1"}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=clean | ours | quiet | environment,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def services(self, word: str, status: int = 0, **environment: str) -> str:
        output = self.run(
            sys.executable, "-m", "flows.services", word, status=status, **environment
        )
        assert "Traceback" not in output
        return output

    def record(self) -> Record:
        return Record.read(self.folder / ".prefect")


def write_project(folder: Path) -> Project:
    (folder / "flows").mkdir(parents=True)
    (folder / "results").mkdir()
    (folder / "results/report.html").write_text("the report")
    (folder / "flows/tiny.py").write_text(FLOW)
    (folder / "prefect.yaml").write_text(PREFECT)
    project = Project(folder, free_port(), free_port())
    (folder / "pyproject.toml").write_text(SETTINGS % project.port)
    return project


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose record named a living process that is none of its own, after `make up`."""
    project = write_project(tmp_path_factory.mktemp("services") / "scratch")
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as process:
        stale = {"pid": process.pid, "started": "then", "at": "x", "log": "y", "since": "z"}
        content = {"processes": dict.fromkeys(("server", "worker"), stale), "deployed": ""}
        (project.folder / ".prefect").mkdir()
        (project.folder / ".prefect" / FILE).write_text(json.dumps(content))
        try:
            output = project.services("up")
            names = [line.split()[0] for line in output.splitlines()]
            assert names == ["server", "pool", "limit", "deploy", "worker", "reports", "up"]
            assert "gpu: 2 for 2 GPUs" in output
            yield project
        finally:
            try:
                project.services("down")
                assert process.poll() is None
            finally:
                process.kill()


def test_a_second_up_changes_nothing(running: Project) -> None:
    before = (running.folder / ".prefect" / FILE).read_bytes()
    began = time.monotonic()
    output = running.services("up")
    assert time.monotonic() - began < 10
    assert output.count("already running") == 3
    assert "gpu already there" in output
    assert "1 deployment already there" in output
    assert (running.folder / ".prefect" / FILE).read_bytes() == before
    status = running.services("status")
    assert [line.split()[1] for line in status.splitlines()] == ["running:"] * 3


def test_reports_are_served(running: Project) -> None:
    address = f"http://127.0.0.1:{running.reports_port}"
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"{address}/report.html").status_code == 200
        assert client.get(f"{address}/../pyproject.toml").status_code == 404
        assert client.post(f"{address}/report.html", json={}).status_code == 501


def test_other_ports_need_a_down_first(running: Project) -> None:
    output = running.services("up", status=2, REPORTS_PORT=str(free_port()))
    assert f"reports is at http://127.0.0.1:{running.reports_port} and not at" in output
    assert "`make down` first" in output


def test_a_busy_port_is_named_with_its_process(running: Project, tmp_path: Path) -> None:
    other = write_project(tmp_path / "other")
    url = f"http://127.0.0.1:{running.port}/api"
    output = other.services("up", status=2, PREFECT_API_URL=url)
    assert output.count("\n") == 1
    pid = running.record().processes["server"].pid
    assert f"Port {running.port} is taken by process {pid} (" in output
    assert "`make up PORT=…`" in output
    assert other.record().processes == {}
    assert other.services("down") == "nothing is running that `make up` started here\n"
    assert running.record().processes["server"].alive


@pytest.mark.slow
def test_down_cancels_a_run_and_stops_exactly_what_up_started(
    running: Project, bystander: subprocess.Popen[bytes]
) -> None:
    running.run("prefect", "deployment", "run", "tiny/one", "--param", "seconds=600")
    processes = running.record().processes
    worker = psutil.Process(processes["worker"].pid)
    end = time.monotonic() + 60
    log = running.folder / ".prefect/logs/worker.log"
    while "Beginning flow run" not in log.read_text("utf-8"):
        assert time.monotonic() < end, log.read_text("utf-8")
        time.sleep(0.2)
    runs = worker.children(recursive=True)
    assert runs
    output = running.services("down")
    assert "1 of 1 cancelled" in output
    assert not any(process.alive for process in processes.values())
    assert not any(run.is_running() for run in runs)
    assert bystander.poll() is None
    assert "Traceback" not in log.read_text("utf-8")
    assert running.services("down") == "nothing is running that `make up` started here\n"
    assert running.services("status").count("not running") == 3
    assert running.record().deployed  # the next `up` need not deploy again


def test_an_interrupted_up_is_on_record(tmp_path: Path) -> None:
    project = write_project(tmp_path / "scratch")
    command = [sys.executable, "-m", "flows.services", "up"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment |= {"PYTHONPATH": CODE, "REPORTS_PORT": str(project.reports_port)}
    with subprocess.Popen(command, cwd=project.folder, env=environment) as up:
        while not (project.folder / ".prefect" / FILE).exists():
            assert up.poll() is None
            time.sleep(0.02)
        up.send_signal(signal.SIGINT)
        assert up.wait(20) == 130
    server = project.record().processes["server"]
    assert server.alive
    assert "server   stopped" in project.services("down")
    assert not server.alive


def test_a_reused_process_id_is_another_process(bystander: subprocess.Popen[bytes]) -> None:
    began = started(bystander.pid)
    assert began
    assert Process(bystander.pid, began, "", "", "").alive
    assert not Process(bystander.pid, f"{began}1", "", "", "").alive
    bystander.kill()
    end = time.monotonic() + 5
    while started(bystander.pid) is not None:  # a zombie counts as gone
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"processes": {"server": {"pid": 1}}}'])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert Record.read(tmp_path).processes == {}


def test_what_is_deployed_is_known_by_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.services.up import deployments, fingerprint

    folder = write_project(tmp_path / "scratch").folder
    monkeypatch.chdir(folder)
    assert deployments() == [("flows/tiny.py:tiny", "one")]
    before = fingerprint(folder)
    assert fingerprint(folder) == before
    (folder / "flows/tiny.py").write_text(FLOW.replace("seconds", "minutes"))
    assert fingerprint(folder) != before
    (folder / "flows/tiny.py").write_text(FLOW)
    assert fingerprint(folder) == before
    (folder / "prefect.yaml").write_text(PREFECT.replace("one", "two"))
    assert fingerprint(folder) != before


def test_a_port_in_use_is_not_free() -> None:
    from flows.services.processes import is_free, port_user

    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        port = server.server_address[1]
        assert not is_free(port)
        assert port_user(port).startswith(f"process {os.getpid()} (")
    assert is_free(port)


@pytest.mark.slow
def test_the_error_of_a_server_that_ends_is_shown(tmp_path: Path) -> None:
    project = write_project(tmp_path / "scratch")
    url = f"postgresql+asyncpg://nobody@127.0.0.1:{free_port()}/none"
    output = project.services("up", status=2, PREFECT_SERVER_DATABASE_CONNECTION_URL=url)
    assert output.count("\n") == 1
    assert "The server ended as it started: ConnectionRefusedError: " in output
    assert ".prefect/logs/server.log" in output
    assert project.record().processes == {}
