"""Every way out of a stage with worker processes ends them all within seconds, with the right exit status."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.field.small_project import OVERRIDES, ROOT, make_project, run_stage

LIMIT_S = 10.0
STATUS = {
    "error": 1, "user_error": 2, "disk": 2, "memory": 2, "exit": 7, "sigterm": 143, "sigint": 130,
    "group": 143, "killed": -9, "worker": 75, "hung": 1,
}  # fmt: skip
SAYS = {
    "error": "RuntimeError: unexpected",
    "hung": "RuntimeError: unexpected",
    "user_error": "vidprompt: v.mp4 is bad",
    "disk": " cannot be written: No space left on device",  # which file: the stage knows better
    "memory": "vidprompt: out of memory (",
    "sigterm": "stopped by signal 15",
    "sigint": "stopped by signal 2",
    "group": "stopped by signal 15",
    "worker": "a loading process",
}
WORKERS = {
    "manifest": "workers=2", "frames": "workers=2", "train": "trainer.workers=2", "features": "workers=2",
}  # fmt: skip
REPLACED = {
    ("manifest", "worker"): 0,
    ("frames", "worker"): 0,
}  # what a lost worker did is done again
MADE = {"manifest": "cache/probes", "frames": "cache/frames"}  # and must be made again
BEFORE = ("manifest", "splits", "frames", "train")
FAST = [("train", "error")]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    make_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in BEFORE:
            run_stage(stage)
    return folder


def alive(mark: str) -> list[int]:
    """Processes with the mark in their environment."""

    def marked() -> Iterator[int]:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state = (folder / "stat").read_text().rpartition(") ")[2][0]
                if mark.encode() in (folder / "environ").read_bytes() and state != "Z":
                    yield int(folder.name)
            except OSError:
                continue

    return list(marked())


def cases() -> Iterator[object]:
    for stage in WORKERS:
        for event in STATUS:
            slow = () if (stage, event) in FAST else pytest.mark.slow
            yield pytest.param(stage, event, marks=slow)


@pytest.mark.parametrize(("stage", "event"), cases())
def test_every_way_out(project: Path, tmp_path: Path, stage: str, event: str) -> None:
    if stage in MADE:
        project = shutil.copytree(project, tmp_path / "project")
        shutil.rmtree(project / MADE[stage])
    mark = uuid.uuid4().hex
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.field.interrupted_stage", event, stage, *OVERRIDES),
            *(WORKERS[stage], "trainer.length=20", "trainer.batch_size=2"),
        ],
        cwd=project,
        env=os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}", "MARK": mark, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stderr is not None
    said = []
    for line in child.stderr:
        said.append(line)
        if line == "event\n":
            break
    began = time.monotonic()
    assert event == "worker" or len(alive(mark)) >= 2, "".join(said)
    code = child.wait(60)
    while left := alive(mark):
        assert time.monotonic() - began < LIMIT_S, left
        time.sleep(0.05)
    seconds = time.monotonic() - began
    message = "".join(said) + child.stderr.read()
    assert code == REPLACED.get((stage, event), STATUS[event]), message
    assert SAYS.get(event, "") in message or not code
    assert seconds < LIMIT_S
    assert not list(project.rglob("*.part")) or event == "killed"
    if event not in ("error", "hung"):
        assert "Traceback" not in message
