"""A stage that is started twice: the second run is refused and says who is at work; nothing is harmed."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.field.small_project import PARTS, ROOT
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.cli.stages import STAGES
from vidprompt.config.compose import compose
from vidprompt.pipeline.stage_lock import stage_lock, stage_output
from vidprompt.system.errors import UserError
from vidprompt.system.locks import exclusive_lock

OVERRIDES = ["dataset=own", *(part for part in PARTS if part != "backbone=small")]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params").symlink_to(ROOT / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("stage", STAGES)
def test_the_second_run_of_a_stage_says_who_is_at_work(project: Path, stage: str) -> None:
    config = compose(OVERRIDES)
    with stage_lock(stage, config):
        result = CliRunner().invoke(app, [stage, *OVERRIDES])
    assert isinstance(result.exception, UserError)
    message = str(result.exception)
    assert f"another process is at work in {stage_output(stage, config)} (process" in message
    assert f"process {os.getpid()} since 20" in message
    assert "wait for it, or stop it and run this again" in message
    written = {path.parts[0] for path in (p.relative_to(project) for p in project.rglob("*"))}
    assert written == {"params", "cache"}  # where the locks are


def test_published_lists_are_written_under_the_lock_of_the_splits(project: Path) -> None:
    with stage_lock("splits", compose(OVERRIDES)):
        result = CliRunner().invoke(app, ["splits", "--from-list", "x.txt", *OVERRIDES])
    assert "another process is at work in cache/splits/own" in str(result.exception)


def test_other_outputs_are_written_at_the_same_time(project: Path) -> None:
    with (
        stage_lock("train", compose(OVERRIDES)),
        stage_lock("train", compose([*OVERRIDES, "method=ez_clip"])),
        stage_lock("train", compose([*OVERRIDES, "split=few_shot_2shot_seed1"])),
        stage_lock("features", compose(OVERRIDES)),
        stage_lock("frames", compose(OVERRIDES)),
        stage_lock("frames", compose([])),
    ):
        pass
    frozen = ["method=frozen_clip", "dataset=own"]  # of all splits, which it encodes together
    other_split = compose([*frozen, "split=few_shot_2shot_seed1"])
    with (
        stage_lock("features", compose(frozen)),
        pytest.raises(UserError, match="at work"),
        stage_lock("features", other_split),
    ):
        pass


def test_of_processes_launched_together_the_first_has_the_lock(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose(OVERRIDES)
    with stage_lock("train", config):
        monkeypatch.setenv("RANK", "1")
        with stage_lock("train", config):
            pass
        monkeypatch.setenv("RANK", "0")
        with pytest.raises(UserError, match="at work"), stage_lock("train", config):
            pass


def test_no_lock_is_among_the_outputs_that_dvc_tracks(project: Path) -> None:
    config = compose(OVERRIDES)
    for stage in STAGES:
        with stage_lock(stage, config):
            pass
    assert {path.parent for path in project.rglob("*.lock")} == {project / "cache/locks"}


def test_a_killed_holder_leaves_no_lock_behind(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from vidprompt.system.locks import exclusive_lock\n"
        "with exclusive_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(UserError, match=f"process {holder.pid} since"), exclusive_lock(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with exclusive_lock(tmp_path):
        pass


def test_what_a_killed_run_left_half_written_goes_with_the_next(project: Path) -> None:
    folder = project / "cache/manifest/own"
    report = project / "results/own"
    for place in (folder, report, project / "data/own"):
        place.mkdir(parents=True)
    half = [folder / ".manifest.parquet.x1.part", report / ".report.html.x1.part"]
    others = [report / ".health.json.x1.part", folder / "classes.json", report / "report.html"]
    others += [project / "data/own/.download.part"]
    for file in [*half, *others]:
        file.touch()
    for stage in ("unpack", "manifest", "report"):
        with stage_lock(stage, compose(OVERRIDES)):
            pass
    assert not any(file.exists() for file in half)
    assert all(file.exists() for file in others)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"process": 1}'])
def test_a_lock_without_a_readable_note_is_a_lock(tmp_path: Path, content: str) -> None:
    with exclusive_lock(tmp_path):
        (tmp_path / "lock").write_text(content)
        with pytest.raises(UserError, match=r"at work in \S+: wait"), exclusive_lock(tmp_path):
            pass


def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with exclusive_lock(tmp_path):
        assert "nothing keeps a second run out of" in caplog.text
