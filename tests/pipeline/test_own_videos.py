"""A folder of somebody's own clips through `dvc repro` to metrics, with no code written."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.data.make_videos import write_video
from tests.pipeline.project import copy_project, edit, run, short_training, write_backbone

from vidprompt.data.manifest.table import read_manifest

CLASSES = ("Open door", "close_door", "wave (left)")
CLIPS = 6


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    copy_project(folder)
    for number, name in enumerate(CLASSES):
        for clip in range(CLIPS):
            path = folder / f"data/own/{name}/take {clip}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, n=16, height=48, width=64 + 2 * clip, kind="h264.mp4", seed=number)
    (folder / "data/own/close_door/take 9.mp4").write_bytes(b"")
    write_backbone(folder)
    short_training(folder)
    # all that a user says: that it is there, and that this machine has no GPU
    own = {"backbone": "demo_clip", "frames": "demo", "prompts": "demo", "trainer": "demo"}
    edit(folder / "params/dataset/own.yaml", pipeline=own, validation__max_broken_share=0.1)
    edit(
        folder / "params/dataset/own.yaml",
        protocols={"few_shot": None, "base_to_novel": {"shots": None}},
    )
    edit(folder / "params/pipeline.yaml", active=[], trained=["ez_clip"])
    text = (
        (folder / "params/pipeline.yaml")
        .read_text("utf-8")
        .replace("active: []", "active: [] # none")
    )
    (folder / "params/pipeline.yaml").write_text(text)
    run("vidprompt", "activate", "own", folder=folder, forked=True)
    run("dvc", "add", "-q", "data/own", "data/demo", folder=folder)  # their backbone is the demo's
    run("dvc", "repro", folder=folder, forked=True)
    return folder


def test_every_protocol_it_can_take_part_in_has_metrics(project: Path) -> None:
    for method in ("frozen_clip", "ez_clip"):
        folder = project / "results/own" / method
        assert {p.name for p in folder.iterdir()} - {"runs"} == {"supervised", "base_to_novel"}
        result = json.loads((folder / "supervised/metrics.json").read_text("utf-8"))
        assert result["coverage"] <= 1
        assert result["n"] >= len(CLASSES)
    assert (project / "results/own/report.html").is_file()


def test_the_broken_clip_is_counted_and_drawn_videos_are_apart(project: Path) -> None:
    manifest = read_manifest(project / "cache/manifest/own/manifest.parquet")
    assert len(manifest) == len(CLASSES) * CLIPS + 1
    assert manifest.loc[manifest["health"] == "empty", "label"].tolist() == ["close_door"]
    split = json.loads((project / "cache/splits/own/supervised_split1.json").read_text("utf-8"))
    assert split["train"]["classes"] == sorted(CLASSES)
    train, test = set(split["train"]["videos"]), set(split["tests"]["test"]["videos"])
    assert not train & test
    assert len(train | test) == len(manifest)
    per_class = pd.Series(split["tests"]["test"]["labels"]).value_counts()
    assert np.all(per_class >= 1)


def test_the_stages_are_those_of_the_active_dataset_alone(project: Path) -> None:
    stages = yaml.safe_load((project / "params/stages.yaml").read_text("utf-8"))
    assert list(stages["dataset"]) == ["own"]
    assert not stages["reid"]
    run("vidprompt", "activate", "--check", folder=project, forked=True)
    edit(project / "params/dataset/own.yaml", protocols={"few_shot": None, "supervised": None})
    assert "vidprompt activate" in run(
        "vidprompt", "activate", "--check", folder=project, fails=True, forked=True
    )
