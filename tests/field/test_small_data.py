"""Data and parameters with which nothing useful can be trained: said before any training."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tests.pipeline.project import edit
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.config.compose import compose
from vidprompt.data.manifest.health import Health
from vidprompt.data.splits.list_sizes import batch_note, check_lists, frames_note, list_notes
from vidprompt.data.splits.split_file import Split, Subset
from vidprompt.pipeline.doctor import State, examine
from vidprompt.pipeline.stages import manifest as manifest_stage
from vidprompt.pipeline.stages import splits as splits_stage
from vidprompt.pipeline.stages import unpack as unpack_stage
from vidprompt.system.errors import DataError, UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Parameters, and the dataset `own` without drawn protocols."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    own = tmp_path / "params/dataset/own.yaml"
    edit(own, protocols={"few_shot": None, "base_to_novel": None}, probe="stat")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def clips(project: Path, *names: str) -> None:
    for name in names:
        (project / "data/own" / name).parent.mkdir(parents=True, exist_ok=True)
        (project / "data/own" / name).write_bytes(name.encode())


@pytest.mark.filterwarnings("ignore:own. nothing to test on")
def test_one_video_a_class_stops_doctor_and_splits(project: Path) -> None:
    clips(project, "a/1.mp4", "b/1.mp4", "c/1.mp4")
    config = compose(["dataset=own"])
    faults = [f for f in examine(config, measure=False) if f.subject == "splits"]
    assert [f.state for f in faults] == [State.MISSING]
    assert "it has no test video: each class needs two videos" in faults[0].message
    manifest_stage.run(config)
    with pytest.raises(DataError, match="it has no test video"):
        splits_stage.run(config)


def test_one_class_and_a_large_batch_are_noted(project: Path) -> None:
    clips(project, *(f"a/{i}.mp4" for i in range(8)))
    config = compose(["dataset=own", "trainer.batch_size=256"])
    notes = [f.message for f in examine(config, measure=False) if f.subject == "splits"]
    assert notes == [
        "supervised/own@split1 (train): all videos are of one class, so there is nothing to tell apart",
        "supervised/own@split1 (tests.test): all videos are of one class, so top-1 is always 1",
        "trainer.batch_size=256 is more than the training videos of supervised/own@split1 (6): a batch there"
        " is all of them",
    ]


def test_lists_without_a_usable_video_say_why() -> None:
    two = Subset(["a", "b"], ["v1", "v2"], [0, 1])
    split = Split(
        "supervised/x", "supervised", "x", two, None, {"test": Subset(["a", "b"], ["v3"], [0])}
    )
    health = dict.fromkeys(("v1", "v2", "v3"), Health.OK.value)
    check_lists(split)
    assert list(list_notes(split, health)) == [
        "supervised/x (tests.test): all videos are of one class, so top-1 is always 1",
        "supervised/x (tests.test): 1 of 2 classes have no video to test: b",
    ]
    assert batch_note([split], 2) == batch_note([split], "???") == ""
    assert "of 2 splits, the fewest of supervised/x (2)" in batch_note([split, split], 3)
    manifest = pd.DataFrame({"health": ["ok", "truncated"], "n_frames": [12, 90]})
    assert "num_frames=16 is more than any video has (the longest: 12)" in frames_note(manifest, 16)
    assert frames_note(manifest, 12) == frames_note(manifest.iloc[1:], 12) == ""
    short = dict.fromkeys(health, Health.TOO_FEW_FRAMES.value)
    first, *_ = list_notes(split, short)
    assert re.search(r"none of its 2 training.*too_few_frames 2.*min_frames", first)


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip", "frozen_clip"])
def test_no_template_is_refused_by_every_command(method: str) -> None:
    with pytest.raises(UserError, match=r"prompts\.templates=\[\]: no text for a class"):
        compose([f"method={method}", "prompts.templates=[]"])
    with pytest.raises(UserError, match="exactly one {}"):
        compose([f"method={method}", "prompts.templates=['a video']"])


def test_the_name_of_a_dataset_is_its_files(project: Path) -> None:
    folder = project / "params/dataset"
    shutil.copy(folder / "own.yaml", folder / "kitchen.yaml")
    run = CliRunner().invoke
    for command in ("manifest", "splits", "doctor"):
        result = run(app, [command, "dataset=kitchen"])
        assert isinstance(result.exception, UserError | SystemExit)
        assert "name: own" in f"{result.exception}{result.output}"
    assert not (project / "cache").exists()
    text = (folder / "kitchen.yaml").read_text(encoding="utf-8")
    (folder / "kitchen.yaml").write_text(text.replace("name: own\n", ""), encoding="utf-8")
    assert compose(["dataset=kitchen"]).dataset.name == "kitchen"
    with pytest.raises(UserError, match="set by command line"):
        compose(["dataset=kitchen", "dataset.name=own"])
    (folder / "Own.yaml").write_text("{}")
    with pytest.raises(UserError, match="differ in capitals only"):
        compose(["dataset=own"])


def test_two_datasets_are_not_unpacked_to_one_folder(project: Path) -> None:
    folder = project / "params/dataset"
    edit(folder / "own.yaml", archives="data/own_tars", root="cache/unpacked/demo/own")
    for name in ("own", "demo"):
        with pytest.raises(UserError, match="would both be unpacked to"):
            compose([f"dataset={name}"])
    edit(folder / "own.yaml", archives="data/own_tars", root="data")
    (project / "data/own_tars").mkdir(parents=True)
    with pytest.raises(UserError, match="holds the archives"):
        unpack_stage.run(compose(["dataset=own"]))
