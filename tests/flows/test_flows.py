"""The flow on a scratch DVC project of two stages, against a real Prefect server."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from flows.dvc_stage import Children

ROOT = Path(__file__).parents[2]
STAGES = ["manifest@demo", "train@demo-ez_clip-x"]
DVC_YAML = """
stages:
  train:
    matrix: {dataset: [demo], method: [ez_clip], run: [x]}
    cmd: echo train >> order.log && grep good manifest.txt && cp manifest.txt model.txt
    deps: [manifest.txt]
    outs: [model.txt]
  manifest:
    matrix: {dataset: [demo]}
    cmd: echo manifest >> order.log && cp data.txt manifest.txt
    deps: [data.txt]
    outs: [manifest.txt]
"""


@pytest.fixture(scope="module")
def train_eval() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("DO_NOT_TRACK", "1")
        from flows.train_eval import train_eval
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            yield train_eval


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "data.txt").write_text("good\n")
    return tmp_path


def tasks_of(state: Any) -> list[tuple[str, str]]:
    """(name, name of the state) of a flow run's tasks, in the order in which they began."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import TaskRunSort

    run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        end = time.monotonic() + 20  # what a task has come to reaches the server as an event
        while True:
            tasks = client.read_task_runs(
                flow_run_filter=run, sort=TaskRunSort.EXPECTED_START_TIME_ASC, limit=10
            )
            done = all(t.state and t.state.is_final() for t in tasks)
            if done or time.monotonic() > end:
                break
            time.sleep(0.2)
    tasks.sort(key=lambda t: str(t.start_time))
    return [(t.name, t.state.name) for t in tasks]


def test_stages_run_in_order_once_and_fail_the_flow(train_eval: Any, project: Path) -> None:
    order = project / "order.log"
    with pytest.raises(ValueError, match=r"'nowhere' is not active: .* \(active: demo\)"):
        train_eval("nowhere")
    assert not order.exists()

    first = train_eval("demo", return_state=True)
    assert first.is_completed()
    assert order.read_text().split() == ["manifest", "train"]
    assert tasks_of(first) == [(stage, "Completed") for stage in STAGES]
    assert set(yaml.safe_load((project / "dvc.lock").read_text())["stages"]) == set(STAGES)

    second = train_eval("demo", return_state=True)
    assert order.read_text().split() == ["manifest", "train"]
    assert tasks_of(second) == [(stage, "Unchanged") for stage in STAGES]

    (project / "data.txt").write_text("bad\n")
    third = train_eval("demo", return_state=True)
    assert third.is_failed()
    assert "repro -s train@demo-ez_clip-x" in third.message
    assert tasks_of(third) == [(STAGES[0], "Completed"), (STAGES[1], "Failed")]


def test_the_order_is_that_of_the_graph() -> None:
    from flows.train_eval import ORDER

    dvc = Path(sys.executable).parent / "dvc"
    command = [dvc, "--wait-for-lock", "dag", "--dot"]
    graph = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    edges = re.findall(r'"(\w+)@.*" -> "(\w+)@', graph)
    assert ("train", "features") in edges
    assert set(ORDER) == {kind for edge in edges for kind in edge}
    for maker, kind in edges:
        assert ORDER.index(maker) < ORDER.index(kind), (maker, kind)


def test_stopping_ends_a_child_and_what_it_started() -> None:
    said: list[str] = []
    failures: list[BaseException] = []

    def work(children: Children) -> None:
        try:
            children.run(["bash", "-c", "sleep 60 & echo $!; wait"], said.append)
        except RuntimeError as error:
            failures.append(error)

    with Children() as children:
        thread = threading.Thread(target=work, args=[children])
        thread.start()
        while not said:
            time.sleep(0.02)
    thread.join(5)
    assert not thread.is_alive()
    assert len(failures) == 1
    grandchild = Path(f"/proc/{said[0]}/stat")
    assert not grandchild.exists() or grandchild.read_text().split()[2] == "Z"
    with pytest.raises(RuntimeError, match="was stopped"):
        children.run(["true"], said.append)
