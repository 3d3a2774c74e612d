"""The training stage on a few tiny videos: what it refuses, what it follows, what it leaves."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.project import changed
from tests.pipeline.stages.encoding_project import BACKBONE, make_project

from vidprompt.config.compose import compose
from vidprompt.config.schema import Config
from vidprompt.data.splits.split_file import Split, Subset, write_split
from vidprompt.pipeline import training_data
from vidprompt.pipeline.stages import train as stage
from vidprompt.pipeline.training_data import TrainingLists, training_lists
from vidprompt.system.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Dataset d4: four videos of two classes to train on, one of them not in the frame cache."""
    make_project(tmp_path, [4])
    videos = Subset(["run", "sit"], [f"v/{i:02}" for i in range(4)] + ["v/broken"], [0, 1, 0, 1, 0])
    split = Split("supervised/d4@split1", "supervised", "supervised_split1", train=videos)
    write_split(split, tmp_path / "cache/splits/d4/supervised_split1.json")
    return tmp_path


def config(project: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Config:
    monkeypatch.chdir(ROOT)
    usual = compose(["trainer.length=2", "trainer.batch_size=2", "trainer.warmup=0", *overrides])
    (project / "clip.json").write_text(json.dumps(BACKBONE))
    monkeypatch.chdir(project)
    return changed(
        usual,
        dataset__name="d4",
        method__num_frames=4,
        backbone__name="small",
        backbone__weights=str(project / "clip.safetensors"),
        backbone__config=str(project / "clip.json"),
    )


@pytest.mark.parametrize("mirror", [True, False])
def test_clips_are_mirrored_only_where_the_dataset_lets_them(
    project: Path, monkeypatch: pytest.MonkeyPatch, mirror: bool
) -> None:
    small = config(
        project, monkeypatch, "trainer.augmentation.flip=true", f"dataset.mirror={mirror}"
    )
    used = []
    usual = training_data.Augmentation

    def noted(**numbers: Any) -> Any:
        used.append(numbers["flip"])
        return usual(**numbers)

    monkeypatch.setattr(training_data, "Augmentation", noted)
    stage.run(small)
    assert used == [mirror]
    summary = json.loads(
        (project / "results/d4/ez_clip/runs/supervised_split1/training.json").read_text()
    )
    assert (summary["videos"], summary["listed"], summary["steps"]) == (4, 5, 2)
    assert summary["epochs"] == 1.0
    assert (project / "models/d4/ez_clip/supervised_split1/model.safetensors").is_file()


def test_what_cannot_be_trained_is_a_sentence(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = {
        "protocol=few_shot": "is of protocol supervised: leave out protocol=few_shot",
        "method=frozen_clip": "frozen_clip has nothing to train",
        "trainer.select=best": "needs held-out videos",
        "seed=-1": "seed=-1: a whole number",
        "prompts.ensemble=mean": "valid: softmax_sum, mean_feature",
    }
    for override, says in cases.items():
        with pytest.raises(UserError, match=says):
            stage.run(config(project, monkeypatch, override))


def test_another_list_is_another_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = config(project, monkeypatch)
    lists = training_lists(small)
    fingerprint = stage._fingerprint(small, lists, "weights")
    renamed = Subset(["walk", "sit"], lists.train.videos, lists.train.labels)
    other = TrainingLists(lists.split, renamed, lists.listed, None, lists.cache)
    assert stage._fingerprint(small, other, "weights") != fingerprint
    quieter = config(project, monkeypatch, "trainer.workers=3", "trainer.save_every=7")
    assert stage._fingerprint(quieter, lists, "weights") == fingerprint
