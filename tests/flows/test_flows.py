"""The flows on a scratch DVC project of two stages, against a real Prefect server."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from flows.dvc_stage import Children, CommandFailed, Stopped
from flows.progress import artifact_key, share_done
from tests.flows.conftest import ROOT, SCRIPTS, STAGES, Server, until
from tests.pipeline import forked_programs

from flows import dvc_stage
from vidprompt.system.errors import UserError, is_transient, is_transient_message


@pytest.fixture
def project(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The flows start a `dvc` that takes no second to start; a worker's flows start the installed one."""
    usual, folder = dvc_stage._environment, forked_programs.scripts("dvc")

    def environment() -> dict[str, str]:
        found = usual()
        return found | {"PATH": f"{folder}{os.pathsep}{found['PATH']}"}

    monkeypatch.setattr(dvc_stage, "_environment", environment)
    return project


def train_eval(*arguments: Any, **more: Any) -> Any:
    from flows.train_eval import train_eval as flow

    return flow(*arguments, **more, return_state=True)


def tasks_of(state: Any) -> list[tuple[str, str]]:
    """(name, name of the state) of a flow run's tasks, in the order in which they began."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))

    def ended() -> Any:  # what a task has come to reaches the server as an event
        tasks = client.read_task_runs(flow_run_filter=run, limit=20)
        return tasks and all(t.state and t.state.is_final() for t in tasks) and tasks

    with get_client(sync_client=True) as client:
        tasks = sorted(until(ended, 20), key=lambda t: str(t.start_time))
    return [(t.name, t.state.name) for t in tasks]


def stages_in(tasks: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, state) for name, state in tasks if "@" in name]


def test_stages_run_in_order_once_and_fail_the_flow(here: Server, project: Path) -> None:
    order = project / "order.log"
    first = train_eval("demo")
    assert first.is_completed()
    assert order.read_text("utf-8").split() == ["manifest", "train"]
    assert stages_in(tasks_of(first)) == [(stage, "Completed") for stage in STAGES]
    assert set(yaml.safe_load((project / "dvc.lock").read_text("utf-8"))["stages"]) == set(STAGES)

    second = train_eval("demo")
    assert order.read_text("utf-8").split() == ["manifest", "train"]
    assert stages_in(tasks_of(second)) == [(stage, "Unchanged") for stage in STAGES]

    (project / "data.txt").write_text("bad\n")
    third = train_eval("demo")
    assert third.is_failed()
    assert third.message.startswith(STAGES[1])
    assert stages_in(tasks_of(third)) == [(STAGES[0], "Completed"), (STAGES[1], "Failed")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], r"'nowhere' is not active: `vidprompt activate nowhere` \(active: demo\)"),
        (["demo", ["ezclip"]], r"unknown method 'ezclip': did you mean ez_clip\? "),
    ],
)
def test_invalid_parameters_are_refused_before_anything_runs(
    here: Server, project: Path, arguments: list[Any], message: str
) -> None:
    state = train_eval(*arguments)
    assert (state.name, state.is_failed()) == ("Refused", True)
    assert re.search(message, state.message)
    assert not (project / "order.log").exists()


def test_without_a_limit_nothing_is_trained(
    here: Server, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDPROMPT_GPU_LIMIT", "gpu-nowhere")
    state = train_eval("demo")
    assert state.name == "Refused"
    assert "no concurrency limit 'gpu-nowhere'" in state.message
    assert not (project / "order.log").exists()


def test_a_training_that_takes_more_slots_than_there_are_is_refused(
    here: Server, project: Path
) -> None:
    config = project / "params/config.yaml"
    config.write_text(config.read_text("utf-8").replace("processes: 1", "processes: 2"))
    state = train_eval("demo")
    assert state.name == "Refused"
    assert "has 1 slots and a training takes 2" in state.message


def test_only_transient_failures_are_retried(
    here: Server, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import pipeline

    monkeypatch.setattr(pipeline.repro, "retry_delay_seconds", [0.1] * 3)
    train = project / "train.sh"
    # first as `vidprompt` exits when a disk fails, then killed by whatever kills, then well
    train.write_text(
        'echo train >> order.log; [ -e one ] || { touch one; echo "vidprompt: EIO"; exit 75; }\n'
        "[ -e two ] || { touch two; kill -9 $$; }; cp manifest.txt model.txt\n"
    )
    assert train_eval("demo").is_completed()
    assert (project / "order.log").read_text("utf-8").split() == ["manifest", *["train"] * 3]

    (project / "data.txt").write_text("a wrong configuration\n")
    train.write_text('echo train >> order.log; echo "vidprompt: no such key"; exit 2\n')
    (project / "order.log").unlink()
    state = train_eval("demo")
    assert state.message == f"{STAGES[1]}: no such key"
    assert (project / "order.log").read_text("utf-8").split() == ["manifest", "train"]


def test_preprocess_runs_the_data_side_alone(here: Server, project: Path) -> None:
    from flows.preprocess import preprocess

    assert preprocess("demo", return_state=True).is_completed()
    assert (project / "order.log").read_text("utf-8").split() == ["manifest"]


def test_data_that_is_missing_is_pulled_first(here: Server, project: Path, tmp_path: Path) -> None:
    from flows.preprocess import preprocess

    def dvc(*arguments: str) -> None:
        subprocess.run([SCRIPTS / "dvc", *arguments], check=True, capture_output=True)

    video = project / "data/demo/a.avi"
    video.parent.mkdir(parents=True)
    video.write_text("a video")
    dvc("remote", "add", "-d", "mine", str(tmp_path / "mine"))
    dvc("add", "-q", "data/demo")
    dvc("push", "-q", "data/demo.dvc")
    shutil.rmtree(video.parent)
    shutil.rmtree(project / ".dvc/cache")
    (tmp_path / "mine").rename(tmp_path / "elsewhere")
    state = preprocess("demo", return_state=True)
    assert state.is_failed()
    assert state.message.startswith("data/demo.dvc: ")
    assert not (project / "order.log").exists()

    (tmp_path / "elsewhere").rename(tmp_path / "mine")
    assert preprocess("demo", return_state=True).is_completed()
    assert video.read_text("utf-8") == "a video"


@pytest.mark.slow
def test_a_limit_is_given_back_by_a_failed_training(here: Server, project: Path) -> None:
    (project / "train.sh").write_text("exit 2\n")
    assert train_eval("demo").is_failed()
    (project / "train.sh").write_text("cp manifest.txt model.txt\n")
    began = time.monotonic()
    assert train_eval("demo").is_completed()
    assert time.monotonic() - began < 30  # and not after a lease has run out


def test_the_order_is_that_of_the_graph() -> None:
    from flows.pipeline import ORDER

    dvc = Path(sys.executable).parent / "dvc"
    command = [dvc, "--wait-for-lock", "dag", "--dot"]
    graph = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    edges = re.findall(r'"(\w+)@.*" -> "(\w+)@', graph)
    assert ("train", "features") in edges
    assert set(ORDER) == {kind for edge in edges for kind in edge}
    for maker, kind in edges:
        assert ORDER.index(maker) < ORDER.index(kind), (maker, kind)


def test_a_method_runs_with_the_floor_and_what_they_share() -> None:
    from flows.pipeline import stages_of

    names = [
        *("report@demo", "train@demo-ez_clip-x", "train@demo-vita_clip-x", "reid@demo-vita_clip"),
        *("evaluate@demo-frozen_clip-few_shot", "evaluate@demo-ez_clip-few_shot", "manifest@demo"),
    ]
    found = [stage for kind in stages_of("demo", names, ["ez_clip"]) for stage in kind]
    assert found == [
        *("manifest@demo", "train@demo-ez_clip-x", "evaluate@demo-frozen_clip-few_shot"),
        *("evaluate@demo-ez_clip-few_shot", "report@demo"),
    ]


def test_stopping_ends_a_child_and_what_it_started() -> None:
    output: list[str] = []
    failures: list[BaseException] = []

    def work(children: Children) -> None:
        try:
            children.run(["bash", "-c", "sleep 60 & echo $!; wait"], output.append)
        except Stopped as error:
            failures.append(error)

    with Children() as children:
        thread = threading.Thread(target=work, args=[children])
        thread.start()
        until(lambda: output)
    thread.join(5)
    assert not thread.is_alive()
    assert len(failures) == 1
    assert _ended(int(output[0]))
    with pytest.raises(Stopped, match="was stopped"):
        children.run(["true"], output.append)


def test_children_end_with_a_flow_that_is_killed(tmp_path: Path) -> None:
    code = (
        "from flows.dvc_stage import Children\n"
        "with Children() as children:\n"
        "    children.run(['bash', '-c', 'sleep 60 & echo $!; wait'], lambda s: print(s, flush=True))\n"
    )
    flow = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert flow.stdout is not None
    sleeper = int(flow.stdout.readline())
    assert not _ended(sleeper)
    flow.kill()
    flow.wait()
    until(lambda: _ended(sleeper), 5)


def _ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_signalled_supervisor_ends_what_ignores_the_signal() -> None:
    """SIGTERM to the group, then nobody left to send SIGKILL."""
    command = ["bash", "-c", "(trap '' TERM; echo $BASHPID; exec sleep 60) & wait"]
    supervisor = subprocess.Popen(
        [sys.executable, "-I", "-S", ROOT / "flows/supervise.py", str(os.getpid()), "1", *command],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert supervisor.stdout is not None
    deaf = int(supervisor.stdout.readline())
    os.killpg(supervisor.pid, signal.SIGTERM)
    until(lambda: _ended(deaf), 5)
    assert supervisor.wait(5) != 0


def test_each_run_has_gpus_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import gpu

    monkeypatch.setattr(gpu, "LOCKS", tmp_path / "locks")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, 1")
    found = gpu.devices()
    with ExitStack() as first, ExitStack() as second:
        assert gpu._locked(found, [], 1, first) == ["0"]
        assert gpu._locked(found, [], 2, second) == ["1"]
        first.close()
        assert gpu._locked(found, ["1"], 2, second) == ["0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu.devices() == []
    with pytest.raises(UserError, match="takes 3 GPUs .* sees 2"):
        gpu.available(3, ["0", "1"])


def test_progress_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import progress

    tried = []

    def fails(share: float, **_: Any) -> None:
        tried.append(share)
        raise ConnectionError("no server")

    monkeypatch.setattr(progress, "create_progress_artifact", fails)
    with progress.StageProgress("train@demo") as shown:
        shown.read("train: 1/4 1.0 steps/s")
        until(lambda: tried == [25.0], 5)
        for step in (2, 3, 4):
            shown.read(f"train: {step}/4 1.0 steps/s")
    assert tried[-1] == 100.0


def test_a_transient_error_is_recognised_by_its_cause() -> None:
    def raised(inner: BaseException, outer: BaseException, shown: bool = True) -> BaseException:
        try:
            try:
                raise inner
            except BaseException as cause:
                raise outer from (cause if shown else None)
        except BaseException as error:
            return error

    disk = OSError(errno.EIO, os.strerror(errno.EIO))
    assert is_transient(raised(disk, UserError("weights cannot be read")))
    assert is_transient(RuntimeError(f"Caught OSError in DataLoader worker process 0.\n{disk}"))
    assert not is_transient(raised(disk, UserError("no such key"), shown=False))
    assert not is_transient(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_transient(FileNotFoundError(errno.ENOENT, "No such file", "a.avi"))
    assert not is_transient(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert is_transient_message(str(disk))
    assert is_transient_message("FFmpeg: Input/output error.")
    assert not is_transient_message("FFmpeg: Invalid data found when processing input.")


@pytest.mark.parametrize(
    ("code", "may_pass"), [(75, True), (137, True), (2, False), (1, False), (143, False)]
)
def test_a_failure_has_the_stage_s_message_and_is_transient_or_not(
    code: int, may_pass: bool
) -> None:
    output = f"vidprompt: a sentence\nERROR: failed to run: vidprompt train, exited with {code}"
    with Children() as children, pytest.raises(CommandFailed) as failure:
        children.run(["bash", "-c", f"echo '{output}'; exit 255"], lambda _: None)
    assert str(failure.value) == "a sentence"
    assert (failure.value.code, failure.value.transient) == (code, may_pass)


def test_progress_is_read_from_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    from vidprompt.system.logging import configure
    from vidprompt.system.progress import Progress

    configure()
    with Progress("train ez_clip reid", 250, unit="steps", every_s=0) as progress:
        progress.advance(120, "loss 1.2")
    first, last = capsys.readouterr().err.splitlines()
    assert share_done(first) == ("train ez_clip reid", pytest.approx(48))
    assert share_done(last) == share_done(first)
    assert share_done("2,016 videos: 3/0 nothing") is None
    assert share_done("loss: 0.3") is None
    assert artifact_key("progress train@demo-ez_clip") == "progress-train-demo-ez-clip"
