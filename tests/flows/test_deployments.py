"""Deployments run by a real worker: to the end, cancelled, killed; and two runs that want one GPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.flows.conftest import ROOT, STAGES, Server, make_project, until

RUN = (
    "from flows.train_eval import train_eval\n"
    "assert train_eval('demo', return_state=True).is_completed()\n"
)
WATCHED_RUN = ("deployment", "run", "train-eval/demo", "--watch", "--watch-timeout", "120")
WAITING = (  # a training that goes on where it was
    'echo begun >> order.log; echo $$ > process; [ -e snapshot ] && echo "goes on" >> order.log\n'
    "touch snapshot; while [ ! -e go ]; do sleep 0.1; done; cp manifest.txt model.txt\n"
)


@pytest.fixture(scope="module")
def deployed(worker: Server) -> tuple[Server, Path]:
    """A project with all deployments of prefect.yaml, and a worker."""
    project = make_project(worker.folder / "project")
    worker.prefect("deploy", "--all", folder=project)
    return worker, project


@pytest.fixture
def waiting(deployed: tuple[Server, Path]) -> tuple[Server, Path]:
    """Its training waits for the file `go`."""
    server, project = deployed
    for name in ("order.log", "process", "snapshot", "go", "model.txt", "dvc.lock"):
        (project / name).unlink(missing_ok=True)
    (project / "data.txt").write_text(f"good {time.time_ns()}\n")  # nothing in DVC's run cache
    (project / "train.sh").write_text(WAITING)
    return server, project


def request(server: Server, path: str, content: object = None) -> Any:
    """What the server's API answers: Prefect's commands, which ask it too, take four seconds to start.

    It answers 503 while its database is locked; Prefect's client asks again then, and so does this.
    """
    client = httpx.Client(base_url=server.url, timeout=60)
    with client:
        for _ in range(20):
            answer = client.get(path) if content is None else client.post(path, json=content)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(0.5)
    return answer.raise_for_status().json()


def start(server: Server) -> str:
    """Start train-eval/demo; the flow run's id."""
    deployment = request(server, "deployments/name/train-eval/demo")["id"]
    return str(request(server, f"deployments/{deployment}/create_flow_run", {})["id"])


def cancel(server: Server, run: str) -> None:
    """As `prefect flow-run cancel` does."""
    answer = request(server, f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    assert answer["status"] == "ACCEPT"


def state_of(server: Server, run: str) -> str:
    return str(request(server, f"flow_runs/{run}")["state"]["name"])


def training(project: Path) -> int:
    """The process of the training, once it has begun."""
    text = until(
        lambda: (project / "process").is_file() and (project / "process").read_text("utf-8")
    )
    return int(text)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow  # as does the second run of the test of cancelling
def test_a_deployment_completes(deployed: tuple[Server, Path]) -> None:
    server, project = deployed
    output = server.prefect(*WATCHED_RUN, folder=project)
    assert "'Completed'" in output
    assert (project / "order.log").read_text("utf-8").split() == ["manifest", "train"]
    assert all(f"task-run.Completed * {stage}" in output for stage in STAGES)


def test_a_parameter_that_is_none_makes_no_run(deployed: tuple[Server, Path]) -> None:
    server, project = deployed
    wrong = ("deployment", "run", "train-eval/demo", "--param", 'methods=["ezclip"]')
    output = " ".join(server.prefect(*wrong, folder=project, fails=True).split())
    assert "Validation failed for field 'methods" in output
    assert "Traceback" not in output


def test_cancelling_ends_every_process_in_time_and_the_next_run_goes_on(
    waiting: tuple[Server, Path],
) -> None:
    server, project = waiting
    run = start(server)
    process = training(project)
    cancel(server, run)
    until(lambda: not alive(process), 5)
    until(lambda: state_of(server, run) == "Cancelled")
    (project / "go").touch()
    output = server.prefect(*WATCHED_RUN, folder=project)
    assert "'Completed'" in output
    assert f"task-run.Completed * {STAGES[1]}" in output
    assert (project / "order.log").read_text("utf-8").split("\n")[:-1] == [
        *("manifest", "begun", "begun", "goes on")
    ]


@pytest.mark.slow
def test_a_killed_flow_leaves_nothing_behind_and_loses_nothing(
    waiting: tuple[Server, Path],
) -> None:
    server, project = waiting
    run = start(server)
    process = training(project)
    supervisor = os.getpgid(process)
    flow = int(Path(f"/proc/{supervisor}/stat").read_text("utf-8").rpartition(")")[2].split()[1])
    os.kill(flow, signal.SIGKILL)
    until(lambda: not alive(process), 5)
    until(lambda: state_of(server, run) == "Crashed")
    (project / "go").touch()
    second = start(server)  # waits until the slot of the killed one is free again
    until(lambda: state_of(server, second) == "Completed", 150)
    assert (project / "order.log").read_text("utf-8").count("manifest") == 1


@pytest.mark.slow
def test_two_runs_take_turns_on_one_gpu(server: Server, tmp_path: Path) -> None:
    log = tmp_path / "trainings.log"
    with ExitStack() as stack:
        runs = []
        for name in ("one", "two"):
            project = make_project(tmp_path / name)
            (project / "train.sh").write_text(
                f"echo begin {name} >> {log}; sleep 3; echo end {name} >> {log}; cp manifest.txt model.txt\n"
            )
            command = [sys.executable, "-c", RUN]
            run = subprocess.Popen(command, cwd=project, env=server.environment)
            runs.append(stack.enter_context(run))
        assert [run.wait(120) for run in runs] == [0, 0]
    words = [line.split() for line in log.read_text("utf-8").splitlines()]
    assert [word for word, _ in words] == ["begin", "end", "begin", "end"]
    assert words[0][1] == words[1][1] != words[2][1] == words[3][1]


@pytest.mark.slow
def test_two_runs_in_one_folder_take_turns_too(server: Server, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    (project / "train.sh").write_text(
        "echo train >> order.log; sleep 3; cp manifest.txt model.txt\n"
    )
    command = [sys.executable, "-c", RUN]
    with ExitStack() as stack:
        runs = [
            stack.enter_context(subprocess.Popen(command, cwd=project, env=server.environment))
            for _ in range(2)
        ]
        assert [run.wait(120) for run in runs] == [0, 0]
    assert (project / "order.log").read_text("utf-8").split() == ["manifest", "train"]


def test_every_deployment_is_of_a_dataset_that_there_is() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]
    of_training = {
        one["name"]: one["parameters"]["dataset"]
        for one in deployments
        if one["entrypoint"].startswith("flows/train_eval.py")
    }
    assert sorted(of_training) == ["ccvid", "demo", "hmdb", "k400", "k600", "ssv2", "ucf", "ucf-ds"]
    there = {file.stem for file in (ROOT / "params/dataset").glob("*.yaml")}
    assert set(of_training.values()) == there - {"own"}


@pytest.mark.slow
def test_a_restarted_server_stops_no_training(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The server is away for longer than a lease, in the middle of a training: the run ends well."""
    from tests.flows import conftest

    made: Any = conftest.server.__wrapped__(tmp_path_factory)
    server: Server = next(made)
    project = make_project(tmp_path / "project")
    output = "echo train demo: $((i+=1))/999 1.0 steps/s"  # progress, for the server
    (project / "train.sh").write_text(WAITING.replace("sleep 0.1", f"{output}; sleep 1"))
    with subprocess.Popen([sys.executable, "-c", RUN], cwd=project, env=server.environment) as run:
        training(project)
        made.close()
        time.sleep(90)
        port = server.url.split(":")[2].removesuffix("/api")
        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
        with server.running(*command, folder=server.folder, log="server2.log"):
            until(lambda: conftest._healthy(server.url), 120)
            (project / "go").touch()
            assert run.wait(120) == 0
    assert (project / "order.log").read_text("utf-8").split() == ["manifest", "begun"]
