"""What stages cost: noted when DVC runs them, gathered in cost.json, kept while their inputs are the same."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.pipeline.project import run
from tests.review import project
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.pipeline import stage_costs
from vidprompt.pipeline.stage_costs import StageTimer, cost_file, measurements, stale, update
from vidprompt.system.errors import UserError

STAGE = "train@toy-a"
RUN = """\
import sys
from vidprompt.pipeline.stage_costs import StageTimer
timer = StageTimer.start()
held = bytearray(80_000_000)
open(sys.argv[1], "w").write(open("input").read())
timer.record("toy")
"""
PIPELINE = """\
stages:
  train:
    foreach: [toy-a, toy-b, other-a]
    do:
      cmd: python stage.py ${item}.out
      deps: [input]
      outs: ["${item}.out"]
"""


def _costs(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / cost_file("toy")).read_text("utf-8")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    project.start(tmp_path)
    (tmp_path / "stage.py").write_text(RUN)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "input").write_text("1")
    return tmp_path


def test_a_pipeline(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    run("dvc", "repro", "-q", folder=folder)
    done = update("toy", folder)
    assert done.measured == (STAGE, "train@toy-b")
    entry = _costs(folder)[STAGE]
    assert entry.keys() == {"seconds", "peak_memory_mb", "machine", "inputs"}
    assert 80 < entry["peak_memory_mb"] < 2000
    assert 0 <= entry["seconds"] < 60
    assert os.uname().nodename not in entry["machine"].split()
    first = (folder / cost_file("toy")).read_bytes()

    run("dvc", "repro", "-q", "--force", folder=folder)  # the same again: other times, no change
    assert update("toy", folder).measured == ()
    clone = Path(shutil.copytree(folder, tmp_path_factory.mktemp("clone") / "p"))
    shutil.rmtree(clone / "cache")
    assert update("toy", clone).measured == ()
    assert (
        first == (folder / cost_file("toy")).read_bytes() == (clone / cost_file("toy")).read_bytes()
    )

    (folder / "input").write_text("2")
    (folder / "dvc.yaml").write_text(PIPELINE.replace("toy-b, ", ""))
    run("dvc", "repro", "-q", folder=folder)
    lock = yaml.safe_load((folder / "dvc.lock").read_text("utf-8"))
    del lock["stages"]["train@toy-b"]  # DVC leaves it
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert stale("toy", folder) == [STAGE, "train@toy-b"]
    assert update("toy", folder).measured == (STAGE,)
    assert stale("toy", folder) == []
    assert _costs(folder).keys() == {STAGE}
    assert _costs(folder)[STAGE]["inputs"] != entry["inputs"]

    (folder / "input").write_text(
        "1"
    )  # DVC restores what was, and runs nothing: whose seconds are they?
    run("dvc", "repro", "-q", folder=folder)
    done = update("toy", folder)
    assert (done.measured, done.unmeasured) == ((), (STAGE,))


def test_nothing_is_measured(folder: Path) -> None:
    (folder / "dvc.lock").write_text(f"stages:\n  {STAGE}:\n    cmd: x\n")
    assert "nothing is measured yet" in str(update("toy", folder))
    assert not (folder / cost_file("toy")).exists()
    assert stale("toy", folder) == []
    with pytest.raises(UserError, match="no stage of dataset 'none': valid: toy"):
        update("none", folder)
    (folder / cost_file("toy")).parent.mkdir(parents=True)
    (folder / cost_file("toy")).write_text("[")
    with pytest.raises(UserError, match="delete it"):
        update("toy", folder)
    (folder / "dvc.lock").write_text("a: [")
    with pytest.raises(UserError, match="cannot be read"):
        update("toy", folder)
    (folder / "dvc.lock").unlink()
    with pytest.raises(UserError, match="dvc repro"):
        stale("toy", folder)


def test_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "dvc.lock").write_text(f"stages:\n  {STAGE}:\n    cmd: x\n")
    note = folder / measurements("toy") / f"{STAGE}.json"
    note.parent.mkdir(parents=True)
    note.write_text('{"seconds": 1.5, "peak_memory_mb": 9, "gpu_memory_mb": 7, "machine": "m"}')
    done = CliRunner().invoke(app, ["cost", "toy"])
    assert (done.exit_code, done.stdout) == (0, "results/toy/cost.json: 1 stages, 1 of them new\n")
    assert _costs(folder)[STAGE]["gpu_memory_mb"] == 7
    assert CliRunner().invoke(app, ["cost", "toy", "--check"]).exit_code == 0
    (folder / "dvc.lock").write_text(f"stages:\n  {STAGE}:\n    cmd: y\n")
    done = CliRunner().invoke(app, ["cost", "toy", "--check"])
    assert isinstance(done.exception, UserError)
    assert f"1 stages, {STAGE} is the first" in str(done.exception)


def test_only_what_dvc_runs_and_what_went_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def stage(_config: Any) -> None:
        ran.append(os.environ.get("DVC_STAGE", ""))
        if len(ran) == 3:
            raise UserError("it did not go well")

    monkeypatch.setattr("vidprompt.pipeline.stages.backbone.run", stage)
    note = tmp_path / measurements("demo") / "backbone@demo.json"
    command = ["backbone", "dataset=demo"]
    assert CliRunner().invoke(app, command).exit_code == 0
    dvc = {"DVC_STAGE": "backbone@demo", "DVC_ROOT": str(tmp_path)}
    assert CliRunner().invoke(app, command, env=dvc).exit_code == 0
    assert json.loads(note.read_text("utf-8"))["seconds"] < 60
    note.unlink()
    assert CliRunner().invoke(app, command, env=dvc).exit_code == 1
    assert not note.exists()
    assert ran == [""] * 3  # processes that a stage launches do not take themselves for it
    (tmp_path / "cache/cost").rename(tmp_path / "gone")
    (tmp_path / "cache/cost").write_text("no folder")
    assert CliRunner().invoke(app, command, env=dvc).exit_code == 0  # no note, and no failure


def test_a_clock_outside_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    StageTimer.start().record("toy")
    assert not list(tmp_path.iterdir())
    assert "cores" in stage_costs.machine()
