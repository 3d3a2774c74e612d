"""A tune reads no test video: real trainings whose reads of the frame cache are written down."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.field.small_project import OVERRIDES, make_project, run_stage

from vidprompt import tuning
from vidprompt.config.compose import compose
from vidprompt.data.splits.split_file import read_splits

pytest.importorskip("optuna")
# The command line, with every video that is read from the frame cache added to a file
SPY = """
import os, sys
from vidprompt.data.frames.cache import FrameCache

def noting(name):
    real = getattr(FrameCache, name)
    def read(self, video, *rest, **named):
        known = self.video_id(video) if not isinstance(video, str) else video
        with open(os.environ["READ"], "a", encoding="utf-8") as file:
            file.write(known + "\\n")
        return real(self, video, *rest, **named)
    setattr(FrameCache, name, read)

for name in ("read", "read_encoded"):
    noting(name)
from vidprompt.cli.main import main
main()
"""


@pytest.mark.slow
def test_a_tune_reads_training_videos_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path)
    for stage in ("manifest", "splits", "frames", "backbone"):
        run_stage(stage)
    [split] = [
        one
        for one in read_splits(Path("cache/splits/own")).values()
        if one.protocol == "supervised"
    ]
    assert split.train is not None
    tested = {video for test in split.tests.values() for video in test.videos}
    assert tested
    (tmp_path / "spy.py").write_text(SPY, encoding="utf-8")
    monkeypatch.setenv("READ", str(tmp_path / "read.txt"))
    space = {
        "trials": 2,
        "sampler": "random",
        "startup_trials": 1,
        "pruner": "median",
        "warmup": 1,
        "held_out": {"share": 0.4, "videos": 1},
        "space": {"trainer.lr": {"low": 1.0e-4, "high": 1.0e-2, "log": True}},
    }
    Path("params/tune/small.yaml").write_text(json.dumps(space), encoding="utf-8")
    result = tuning.run(
        [*OVERRIDES, "tune=small"], command=(sys.executable, str(tmp_path / "spy.py"))
    )
    found = json.loads(result.page.with_name("tune.json").read_text("utf-8"))
    read = set((tmp_path / "read.txt").read_text("utf-8").split("\n")) - {""}
    assert read == set(split.train.videos)  # those that were held out are among them
    assert not read & tested
    assert found["trained_on"] + found["held_out"] == len(split.train.videos)
    assert [len(trial["held_out"]) for trial in found["methods"]["vita_clip"]["trials"]] == [4, 4]
    Path("params/experiment/tuned.yaml").write_text(
        result.best["vita_clip"].read_text("utf-8"), encoding="utf-8"
    )
    best = found["methods"]["vita_clip"]["best"]
    rate = found["methods"]["vita_clip"]["trials"][best]["values"]["trainer.lr"]
    assert compose(["experiment=tuned"]).trainer.lr == rate
    run_stage("train", "experiment=tuned")  # what the file is for
