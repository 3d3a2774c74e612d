"""Two processes that share a batch have one process's loss curve."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.training.small_run import record

from vidprompt.system.errors import UserError
from vidprompt.system.launch import _environments, _wait, launch, process_count

ROOT = Path(__file__).parents[2]


# two processes cannot share a GPU
ON_THE_CPU = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
RUNS: dict[str, dict] = {
    "contrastive_motion": {"micro_batches": 2},
    "cross_entropy": {},
    "identity": {},
    "fine_tuned": {"optimizer": "sgd"},  # AdamW divides rounding errors by their size
}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every objective trained by two processes (gloo)."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "tests.training.small_run", str(folder), json.dumps(RUNS)]
    children = [
        subprocess.Popen(command, cwd=ROOT, env=environment | ON_THE_CPU)
        for environment in _environments(2)
    ]
    assert [child.wait(300) for child in children] == [0, 0]
    return folder


@pytest.mark.parametrize("name", list(RUNS))
def test_one_and_two_processes_have_the_same_losses(
    together: Path, tmp_path: Path, name: str
) -> None:
    changes = {key: value for key, value in RUNS[name].items() if key != "micro_batches"}
    one = record(tmp_path, name, **changes)
    two = json.loads((together / f"{name}.json").read_text("utf-8"))
    assert [step["step"] for step in two["steps"]] == [1, 2, 3, 4, 5, 6]
    for a, b in zip(one["steps"], two["steps"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["gradient"] == pytest.approx(b["gradient"], rel=1e-4)
    for key, value in one["sums"].items():
        assert two["sums"][key] == pytest.approx(value, abs=1e-3)


def test_processes_leave_their_group(together: Path) -> None:
    assert [json.loads((together / f"group_{rank}.json").read_text()) for rank in (0, 1)] == [
        False
    ] * 2


def test_how_many_processes_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for gpus in (0, 3, 8):
        monkeypatch.setattr("torch.cuda.device_count", lambda gpus=gpus: gpus)
        assert process_count(3) == 3
        assert process_count("auto") == max(1, gpus)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UserError, match="processes=3, and there is 1 GPU: each process takes one"):
        process_count(3)
    for wrong in (0, "two", None):
        with pytest.raises(UserError, match="a number of processes, or auto"):
            process_count(wrong)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert process_count(3) == 1


def test_a_failing_process_ends_the_others_with_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # no project there: every process says so
    assert launch(2, ["train"]) == 2
    assert "run vidprompt in a project's root" in capfd.readouterr().err


def test_a_failing_process_is_seen_while_the_first_one_works() -> None:
    sleeping, failing = (
        subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        for code in ("import time; time.sleep(60)", "raise SystemExit(3)")
    )
    began = time.monotonic()
    assert _wait([sleeping, failing], []) == 3
    assert time.monotonic() - began < 30
    assert sleeping.wait() == -signal.SIGTERM


def test_processes_end_when_their_launcher_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from vidprompt.system import launch; sys.executable = sys.argv[1]; "
        "launch.launch(2, [sys.argv[2]])"
    )
    worker = tmp_path / "worker"
    worker.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/pids\nexec sleep 60\n")
    worker.chmod(0o755)
    launcher = subprocess.Popen([sys.executable, "-c", code, str(worker), "x"])
    pids = tmp_path / "pids"
    end = time.monotonic() + 30
    while not pids.is_file() or len(pids.read_text("utf-8").split()) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    launcher.kill()
    launcher.wait()
    left = [int(pid) for pid in pids.read_text("utf-8").split()]
    while any(Path(f"/proc/{pid}").exists() for pid in left):
        assert time.monotonic() < end
        time.sleep(0.05)
