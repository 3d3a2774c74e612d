"""Which stages an active dataset has, and how it becomes active."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from vidprompt import activation
from vidprompt.errors import UserError

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _stages(*names: str, trained: tuple[str, ...] = ("ez_clip",)) -> activation.Stages:
    return activation.stages_of(names, {"active": list(names), "trained": list(trained)})


def test_two_lines_make_a_dataset_active(project: Path) -> None:
    file = project / "params/pipeline.yaml"
    before = file.read_text()
    active, stages = activation.activate(["ucf101"])
    assert active == ["demo", "ucf101"]
    assert file.read_text() == before.replace("[demo]", "[demo, ucf101]")
    assert yaml.safe_load((project / "params/stages.yaml").read_text()) == stages
    assert not activation.stale()
    assert activation.activate(["ucf101"])[0] == active  # once is enough
    (project / "params/stages.yaml").unlink()
    assert activation.stale()


def test_a_zero_shot_test_waits_for_the_dataset_that_trains() -> None:
    alone = _stages("ucf101")
    assert "ucf101-ez_clip-zero_shot" not in alone["evaluate"]
    assert "ucf101-frozen_clip-zero_shot" in alone["evaluate"]
    both = _stages("kinetics400", "ucf101")
    assert "ucf101-ez_clip-zero_shot" in both["evaluate"]
    encoded = both["features"]["ucf101-ez_clip-kinetics400_supervised_split1"]
    assert encoded["run"] == "kinetics400/supervised_split1"
    assert encoded["model"] == "kinetics400/ez_clip/supervised_split1"
    assert encoded["model"] in {
        s["model"] for k, s in both["features"].items() if k in both["train"]
    }


def test_runs_are_those_of_the_datasets_own_numbers() -> None:
    def runs(*names: str) -> set[str]:
        return {stage["run"] for stage in _stages(*names)["train"].values()}

    few = {f"few_shot_{k}shot_seed{s}" for k in (2, 4, 8, 16) for s in (1, 2, 3)}
    novel = {f"base_to_novel_16shot_seed{s}" for s in (1, 2, 3)}
    assert runs("ucf101") == few | novel | {f"supervised_split{s}" for s in (1, 2, 3)}
    assert runs("ssv2") == few | novel | {"supervised_split1"}
    assert runs("ccvid") == {"reid"}
    assert runs("kinetics600") == set()  # tested only
    assert set(_stages("ccvid")["reid"]) == {"ccvid-ez_clip", "ccvid-frozen_clip"}


def test_a_dataset_nobody_knows_is_refused(project: Path) -> None:
    before = (project / "params/pipeline.yaml").read_text()
    with pytest.raises(UserError, match="did you mean ucf101"):
        activation.activate(["ucf10"])
    with pytest.raises(UserError, match="small letters"):
        activation.activate(["UCF-101"])
    assert (project / "params/pipeline.yaml").read_text() == before


def test_the_committed_stages_are_the_committed_parameters() -> None:
    assert not activation.stale()
