"""Trackers get a run's configuration, numbers and files; one that fails stops no training."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from accelerate import tracking

from vidprompt.system import tracker as module
from vidprompt.system.errors import UserError
from vidprompt.system.tracker import Tracker, provenance


class Recorder:
    """A tracker that keeps what it is given; `broken` ones raise when they log."""

    broken = False
    seen: list[Any]

    def __init__(self, project: str, **options: Any) -> None:
        type(self).seen = [(project, options)]

    @property
    def tracker(self) -> Any:
        return type("Run", (), {"id": "run-1"})()

    def start(self) -> None: ...

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.seen.append(values)

    def log(self, values: dict[str, Any], step: int) -> None:
        if self.broken:
            raise ConnectionError("no answer\nmore")
        self.seen.append((step, values))

    def finish(self) -> None:
        self.seen.append("finished")


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Recorder)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["wandb"])
    monkeypatch.setattr(Recorder, "broken", False)
    monkeypatch.setattr(module, "_add_file", lambda name, tracker, file: None)
    return Recorder


def test_configuration_numbers_and_the_run_of_a_resumed_training(
    tmp_path: Path, wandb: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
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


def test_training_goes_on_without_a_tracker_that_fails(
    tmp_path: Path, wandb: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb.broken = True
    said: list[str] = []  # of this logger alone, whatever other tests have made of its parents
    monkeypatch.setattr(module.logger, "warning", said.append)
    with Tracker("wandb", "run", tmp_path, {}) as run:
        run.log({"step": 1, "loss": 1.0})
        run.log({"step": 2, "loss": 1.0})
    assert said == ["wandb records no more of this run: no answer"]


def test_a_tracker_that_is_not_installed_or_off(tmp_path: Path, wandb: type[Recorder]) -> None:
    with (
        pytest.raises(
            UserError, match="trainer.tracker=comet_ml needs its package: pip install comet-ml"
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
