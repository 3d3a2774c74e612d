"""Which stages an active dataset has, and how it becomes active."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.pipeline.project import edit

from vidprompt.pipeline import matrix
from vidprompt.system.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _stages(*names: str, trained: tuple[str, ...] = ("ez_clip",)) -> matrix.Stages:
    return matrix.stages_of(names, {"active": list(names), "trained": list(trained)})


def test_two_lines_make_a_dataset_active(project: Path) -> None:
    file = project / "params/pipeline.yaml"
    before = file.read_text("utf-8")
    active, stages = matrix.activate(["ucf101"])
    assert active == ["demo", "ucf101"]
    assert file.read_text("utf-8") == before.replace("[demo]", "[demo, ucf101]")
    assert yaml.safe_load((project / "params/stages.yaml").read_text("utf-8")) == stages
    assert not matrix.stale()
    assert matrix.activate(["ucf101"])[0] == active  # once is enough
    (project / "params/stages.yaml").unlink()
    assert matrix.stale()


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


def _publish(project: Path, *entries: dict[str, Any], **changes: Any) -> None:
    file = project / "params/dataset/ucf101.yaml"
    content = yaml.safe_load(file.read_text("utf-8")) | {"published": list(entries)} | changes
    file.write_text(yaml.safe_dump(content, sort_keys=False))


def test_a_published_list_has_the_features_of_the_model_it_is_tested_with(project: Path) -> None:
    tested = {"id": "zero_shot/ucf101@theirs", "lists": {"test": "a.txt"}}
    _publish(project, tested | {"trained_on": "ssv2/supervised_split1"})
    both = _stages("kinetics400", "ssv2", "ucf101")
    encoded = both["features"]["ucf101-ez_clip-ssv2_supervised_split1"]
    assert encoded["run"] == "ssv2/supervised_split1"
    assert encoded["model"] == "ssv2/ez_clip/supervised_split1"
    assert "ucf101-ez_clip-kinetics400_supervised_split1" in both["features"]
    assert "ucf101-ez_clip-zero_shot" in both["evaluate"]
    # one of the models is trained by nobody: what needs it is left out, all the rest stays
    alone = _stages("kinetics400", "ucf101")
    assert "ucf101-ez_clip-ssv2_supervised_split1" not in alone["features"]
    assert "ucf101-ez_clip-zero_shot" not in alone["evaluate"]
    assert "ucf101-frozen_clip-zero_shot" in alone["evaluate"]
    assert "ucf101-ez_clip-supervised" in alone["evaluate"]


def test_a_published_list_tested_with_a_model_of_its_own_dataset(project: Path) -> None:
    tested = {"id": "few_shot/ucf101@theirs", "lists": {"test": "a.txt"}}
    _publish(project, tested | {"trained_on": "supervised_split2"})
    usual = _stages("ucf101")
    _publish(project, tested | {"trained_on": "ucf101/supervised_split2"})
    assert _stages("ucf101") == usual  # the same model by either name
    assert len(usual["features"]) == len(usual["train"])  # which is encoded with anyway
    # a model that no stage trains: an imported checkpoint in models/ucf101/ez_clip/imported
    _publish(project, tested | {"trained_on": "imported"})
    more = _stages("ucf101")
    assert set(more["features"]) - set(usual["features"]) == {"ucf101-ez_clip-imported"}
    assert more["features"]["ucf101-ez_clip-imported"]["model"] == "ucf101/ez_clip/imported"
    assert more["train"] == usual["train"]


def test_published_lists_alone_are_evaluated(project: Path) -> None:
    """Of a protocol that the dataset's parameters leave out, or that it has no role in."""
    lists = {"train": "a.txt", "test": "b.txt"}
    off = dict.fromkeys(("few_shot", "base_to_novel", "zero_shot", "supervised"))
    entries = [
        {"id": f"{name}/ucf101@theirs", "lists": lists} for name in ("few_shot", "zero_shot")
    ]
    _publish(project, *entries, protocols=off, roles={"recognition": "ucf101"})
    stages = _stages("ucf101")
    runs = {"few_shot_theirs", "zero_shot_theirs"}
    assert {stage["run"] for stage in stages["train"].values()} == runs
    assert {stage["protocol"] for stage in stages["evaluate"].values()} == {"few_shot", "zero_shot"}
    _publish(project, {"id": "few_shot/ucf101@theirs", "lists": {"test": "b.txt"}}, protocols=off)
    with pytest.raises(UserError, match="without a train list, trained_on"):
        _stages("ucf101")
    _publish(project, {"id": "reid/ucf101@theirs", "lists": lists})
    with pytest.raises(UserError, match="reader: ccvid"):
        _stages("ucf101")


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
    before = (project / "params/pipeline.yaml").read_text("utf-8")
    with pytest.raises(UserError, match="did you mean ucf101"):
        matrix.activate(["ucf10"])
    with pytest.raises(UserError, match="small letters"):
        matrix.activate(["UCF-101"])
    assert (project / "params/pipeline.yaml").read_text("utf-8") == before


def test_stages_name_every_file_that_a_trainings_numbers_come_from(project: Path) -> None:
    """DVC does not follow a file's `defaults`."""
    edit(project / "params/dataset/ucf101.yaml", pipeline__trainer="paper")
    stages = _stages("ucf101")
    about = stages["train"]["ucf101-ez_clip-supervised_split1"]
    assert about["trainer"] == "params/trainer/paper.yaml"
    assert about["trainer_base"] == "params/trainer/released.yaml"
    assert about["recipe"] == "params/recipe/paper/ez_clip.yaml"
    assert about["recipe_base"] == "params/recipe/released/ez_clip.yaml"
    floor = stages["evaluate"]["ucf101-frozen_clip-supervised"]
    assert floor["recipe"] == floor["recipe_base"] == "params/method/frozen_clip.yaml"
    for key in ("trainer_base", "recipe", "recipe_base"):
        assert (project / about[key]).is_file()
    edit(project / "params/trainer/paper.yaml", defaults=["released", "demo", "_self_"])
    with pytest.raises(UserError, match="begins with several files"):
        _stages("ucf101")


def test_the_committed_stages_are_the_committed_parameters() -> None:
    assert not matrix.stale()


def test_what_a_dataset_does_not_choose_is_the_usual(project: Path) -> None:
    file = project / "params/dataset/ucf101.yaml"
    own = yaml.safe_load(file.read_text("utf-8"))
    file.write_text(yaml.safe_dump(own | {"pipeline": {"backbone": "vit_b_16"}}))
    stage = _stages("ucf101")["dataset"]["ucf101"]
    chosen = [Path(stage[group]).stem for group in ("backbone", "views", "trainer")]
    assert chosen == ["vit_b_16", "frozen_clip", "demo"]  # views: the floor's
    file.write_text(yaml.safe_dump(own | {"pipeline": {"view": "centre"}}))
    with pytest.raises(UserError, match="unknown key 'view': did you mean views"):
        _stages("ucf101")
