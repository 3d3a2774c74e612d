"""Two processes that share a batch have one process's loss curve."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.training.small_run import record

from vidprompt.errors import UserError
from vidprompt.launch import _environments, launch, wanted

ROOT = Path(__file__).parents[2]


RUNS: dict[str, dict] = {
    "contrastive_motion": {"micro_batches": 2},
    "cross_entropy": {},
    "identity": {},
}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every objective trained by two processes (gloo)."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "tests.training.small_run", str(folder), json.dumps(RUNS)]
    children = [
        subprocess.Popen(command, cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"})
        for environment in _environments(2)
    ]
    assert [child.wait(300) for child in children] == [0, 0]
    return folder


@pytest.mark.parametrize("name", list(RUNS))
def test_one_and_two_processes_have_the_same_losses(
    together: Path, tmp_path: Path, name: str
) -> None:
    one, two = record(tmp_path, name), json.loads((together / f"{name}.json").read_text())
    assert [step["step"] for step in two["steps"]] == [1, 2, 3, 4, 5, 6]
    for a, b in zip(one["steps"], two["steps"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["gradient"] == pytest.approx(b["gradient"], rel=1e-4)
    for key, value in one["sums"].items():
        assert two["sums"][key] == pytest.approx(value, abs=1e-3)


def test_how_many_processes_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert wanted(3) == 3
    for wrong in (0, "two", None):
        with pytest.raises(UserError, match="a number of processes, or auto"):
            wanted(wrong)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert wanted(3) == 1


def test_a_failing_process_ends_the_others_with_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # no project there: every process says so
    assert launch(2, ["train"]) == 2
    assert "run vidprompt in a project's root" in capfd.readouterr().err
