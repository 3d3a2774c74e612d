"""The training stage on a few tiny videos: what it refuses, what it follows, what it leaves."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.pipeline.project import changed
from tests.pipeline.stages.encoding_project import BACKBONE, make_project

from vidprompt.config.compose import compose
from vidprompt.config.schema import Config
from vidprompt.data.splits.split_file import Split, Subset, write_split
from vidprompt.models.checkpoint_metadata import read_metadata
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
        (project / "results/d4/ez_clip/runs/supervised_split1/training.json").read_text("utf-8")
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
    fingerprint = stage._fingerprint(small, lists, {}, "weights")
    renamed = Subset(["walk", "sit"], lists.train.videos, lists.train.labels)
    other = TrainingLists(lists.split, renamed, lists.listed, None, lists.cache)
    assert stage._fingerprint(small, other, {}, "weights") != fingerprint
    quieter = config(project, monkeypatch, "trainer.workers=3", "trainer.save_every=7")
    assert stage._fingerprint(quieter, lists, {}, "weights") == fingerprint


PEOPLE = (
    "split=reid", "method.options.train_backbone=all", "method.options.trained_towers=image",
    "method.options.adapter_ratio=0",
    "protocol.head=linear", "protocol.margin=null", "protocol.triplet_normalised=false",
    "protocol.motion_weight=1", "protocol.people_per_batch=2", "protocol.tracklets_per_person=2",
    "protocol.image_model.length=3", "trainer.optimizer=sgd", "trainer.lr=0.01",
    "trainer.length=4", "trainer.save_every=1", "trainer.log_every=1",
)  # fmt: skip


@pytest.fixture
def people(project: Path) -> Path:
    """The same videos, of two persons."""
    videos = Subset(["a", "b"], [f"v/{i:02}" for i in range(4)], [0, 0, 1, 1])
    split = Split("reid/d4@4-frames", "reid", "reid", train=videos)
    write_split(split, project / "cache/splits/d4/reid.json")
    return project


def trained_files(project: Path) -> dict[str, bytes]:
    files = [project / "models/d4/ez_clip/reid/model.safetensors"]
    files += sorted((project / "results/d4/ez_clip/runs/reid").iterdir())
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize(("dies_at", "phase"), [(2, "image_model"), (5, ".")])
def test_a_kill_in_either_phase_changes_nothing(
    people: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int, phase: str
) -> None:
    small = config(people, monkeypatch, *PEOPLE)
    stage.run(small)
    whole = trained_files(people)
    assert set(whole) == {"model.safetensors", "loss.csv", "image_loss.csv", "training.json"}
    shutil.rmtree(people / "results")
    scratch = people / "cache/training/d4/ez_clip/reid"
    assert not list(scratch.rglob("step-*"))  # nothing of a finished run is left
    usual, read = training_data.batches, 0

    def dying(*arguments: Any) -> Iterator[Any]:
        nonlocal read
        for batch in usual(*arguments):
            if read == dies_at:
                raise ConnectionError("killed")
            read += 1
            yield batch

    monkeypatch.setattr(training_data, "batches", dying)
    with pytest.raises(ConnectionError):
        stage.run(small)
    assert list((scratch / phase).glob("step-*.json"))
    read, dies_at = dies_at, 7  # steps in all: each is read once
    stage.run(small)
    assert trained_files(people) == whole


def test_the_image_model_starts_the_video_model_and_is_recorded(
    people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.run(config(people, monkeypatch, *PEOPLE, "trainer.lr=0", "protocol.image_model.lr=0.1"))
    checkpoint = people / "models/d4/ez_clip/reid/model.safetensors"
    started, backbone = load_file(checkpoint), load_file(people / "clip.safetensors")
    weight = "visual.conv1.weight"
    assert not torch.equal(started[f"clip.{weight}"], backbone[weight].half())
    assert started["temporal_prompts"].shape[1] == 4
    runs = people / "results/d4/ez_clip/runs/reid"
    image = json.loads((runs / "training.json").read_text("utf-8"))["image_model"]
    assert (image["steps"], image["last"]["lr"]) == (3, pytest.approx(0.1, abs=0.08))
    header = (runs / "image_loss.csv").read_text("utf-8").splitlines()[0]
    assert header == "step,loss,cross_entropy,triplet,lr"  # and no motion of one frame
    first = read_metadata(checkpoint)
    assert first.image_model
    stage.run(config(people, monkeypatch, *PEOPLE, "protocol.image_model.lr=0.2"))
    other = read_metadata(checkpoint)
    assert other.image_model not in ("", first.image_model)
    stage.run(config(people, monkeypatch, *PEOPLE, "protocol.image_model=null"))
    assert read_metadata(checkpoint).image_model == ""
    assert json.loads((runs / "training.json").read_text("utf-8"))["image_model"] is None
    assert not (runs / "image_loss.csv").exists()  # of the run before


def test_the_video_models_length_leaves_the_image_model_as_it_is(
    people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = stage.image_model_config(config(people, monkeypatch, *PEOPLE))
    assert images is not None
    assert (images.method.num_frames, images.method.options["temporal_prompts"]) == (1, False)
    assert (images.trainer.length, images.trainer.sampling) == (3, "segment")
    longer = config(people, monkeypatch, *PEOPLE, "trainer.length=9", "protocol.motion_weight=2")
    other = stage.image_model_config(longer)
    assert other is not None
    assert other.values == images.values
    for none in ("protocol.image_model.length=0", "protocol.image_model=null"):
        assert stage.image_model_config(config(people, monkeypatch, *PEOPLE, none)) is None
    wrong = {
        "protocol.head=linea": "protocol.head=linea: did you mean linear",
        "protocol.margin=-1": "protocol.margin=-1: a number from 0, or null",
        "protocol.tracklet=all": "protocol.tracklet=all: write all-frames, all-frames-N or N-frames",
        "protocol.image_model.lr=fast": "protocol.image_model.lr=fast: a number from 0, or null",
        "protocol.image_model.size=2": "protocol.image_model.length",
    }
    for override, says in wrong.items():
        with pytest.raises(UserError, match=says):
            config(people, monkeypatch, *PEOPLE, override)
