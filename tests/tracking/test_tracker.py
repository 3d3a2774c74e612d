"""Trackers get a run's configuration, numbers and files; one that fails stops no training."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from accelerate import tracking

from vidprompt.system.errors import UserError
from vidprompt.tracking import tracker as module
from vidprompt.tracking.tracker import RUN_FILE, Tracker, provenance


class Recorder:
    """A tracker that keeps what it is given; `broken` ones raise when they log, `lost` ones know no run."""

    broken = lost = False
    seen: list[Any]

    def __init__(self, project: str, **options: Any) -> None:
        type(self).seen = [(project, options)]
        self.id = options["id"]

    @property
    def tracker(self) -> Any:
        return type("Run", (), {"id": "run-1"})()

    def start(self) -> None:
        if self.lost and self.id:
            raise LookupError(f"no run {self.id}")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        if self.id and values.get("seed") != 1:  # as MLflow does
            raise ValueError("changing parameters is not allowed")
        self.seen.append(values)

    def log(self, values: dict[str, Any], step: int) -> None:
        if self.broken:
            raise ConnectionError("no answer\nmore")
        self.seen.append((step, values))

    def finish(self) -> None:
        self.seen.append("finished")


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.chdir(tmp_path)  # outside of a repository
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Recorder)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["wandb"])
    monkeypatch.setattr(Recorder, "broken", False)
    monkeypatch.setattr(Recorder, "lost", False)
    monkeypatch.setattr(module, "_add_file", lambda name, tracker, file: None)
    return Recorder


def test_configuration_numbers_and_the_run_of_a_resumed_training(
    tmp_path: Path, wandb: type[Recorder]
) -> None:
    config = {"trainer": {"lr": 0.1, "betas": [0.9, 0.98]}, "seed": 1}
    with suppress(KeyboardInterrupt), Tracker("wandb", "demo/ez_clip/a", tmp_path, config) as run:
        run.log({"step": 3, "loss": 0.5, "grad": float("nan")})
        raise KeyboardInterrupt
    assert wandb.seen[1] == {"trainer.lr": 0.1, "trainer.betas": "[0.9, 0.98]", "seed": 1}
    assert wandb.seen[2:] == [(3, {"loss": 0.5}), "finished"]
    with Tracker("wandb", "demo/ez_clip/a", tmp_path, config):
        assert wandb.seen[0][1]["id"] == "run-1"
    with Tracker("wandb", "demo/ez_clip/a", tmp_path, config):
        assert wandb.seen[0][1]["id"] is None  # the run before was finished


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Warnings of this logger alone, whatever other tests have made of its parents."""
    said: list[str] = []
    monkeypatch.setattr(module.logger, "warning", said.append)
    return said


def test_a_resumed_training_whose_run_is_gone_or_was_started_with_other_values(
    tmp_path: Path, wandb: type[Recorder], said: list[str]
) -> None:
    (tmp_path / RUN_FILE).write_text('{"tracker": "wandb", "id": "run-0"}', "utf-8")
    with Tracker("wandb", "run", tmp_path, {"seed": 2}) as run:
        run.log({"step": 1, "loss": 0.5})
    assert wandb.seen[0][1]["id"] == "run-0"
    assert wandb.seen[1:] == [(1, {"loss": 0.5}), "finished"]
    assert not said
    wandb.lost = True
    (tmp_path / RUN_FILE).write_text('{"tracker": "wandb", "id": "run-0"}', "utf-8")
    with Tracker("wandb", "run", tmp_path, {"seed": 2}):
        assert json.loads((tmp_path / RUN_FILE).read_text("utf-8"))["id"] == "run-1"
    assert said == ["wandb has no run run-0 to go on with (no run run-0): a new one begins"]
    assert wandb.seen[0][1]["id"] is None
    assert wandb.seen[1] == {"seed": 2}


def test_training_goes_on_without_a_tracker_that_fails(
    tmp_path: Path, wandb: type[Recorder], said: list[str]
) -> None:
    wandb.broken = True
    with Tracker("wandb", "run", tmp_path, {}) as run:
        run.log({"step": 1, "loss": 1.0})
        run.log({"step": 2, "loss": 1.0})
    assert said == ["wandb records no more of this run: no answer"]


def test_a_tracker_that_is_not_installed_or_off(tmp_path: Path, wandb: type[Recorder]) -> None:
    with (
        pytest.raises(
            UserError,
            match="trainer.tracker=comet_ml needs its package: pip install 'comet-ml>=3.41'",
        ),
        Tracker("comet_ml", "run", tmp_path, {}),
    ):
        pass
    with Tracker("none", "run", tmp_path / "none", {}) as run:
        run.log({"step": 1, "loss": 1.0})
        run.add_files([tmp_path])
    assert not (tmp_path / "none").exists()


def test_the_hashes_of_what_is_read_are_those_of_dvc_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outs = [{"path": "cache/frames/demo", "md5": "ab.dir"}, {"path": "cache/other", "md5": "cd"}]
    lock = {"schema": "2.0", "stages": {"frames@demo": {"outs": outs}, "report": {}}}
    (tmp_path / "dvc.lock").write_text(json.dumps(lock), "utf-8")
    inputs = [Path("cache/frames/demo")]
    assert provenance(inputs)["dvc/cache/frames/demo"] == "ab.dir"
    assert "dvc/cache/other" not in provenance(inputs)
    (tmp_path / "dvc.lock").write_text("<<<<<<< HEAD\n: [", "utf-8")
    assert not any(name.startswith("dvc/") for name in provenance(inputs))


def test_tensorboard_has_the_numbers_by_step_and_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real tracker, whatever the version of accelerate."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    with Tracker("tensorboard", "run", tmp_path, {"trainer": {"lr": 0.1}}) as run:
        run.log({"step": 5, "loss": 0.5})
        run.log({"step": 6, "loss": 0.25})
    events = EventAccumulator(str(tmp_path / "vidprompt")).Reload()
    assert [(one.step, one.value) for one in events.Scalars("loss")] == [(5, 0.5), (6, 0.25)]
    (written,) = tmp_path.rglob("hparams.yml")
    assert written.read_text("utf-8") == "trainer.lr: 0.1\n"
