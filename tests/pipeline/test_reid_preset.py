"""The published recipe of re-identification, `ez_clip_ccvid@csci`, on the demo's people."""

import json
from pathlib import Path

import pytest
from tests.pipeline.project import copy_project, edit, run, write_backbone

from vidprompt.models.checkpoint_metadata import read_metadata

FEW = ("trainer.length=3", "trainer.warmup=1", "protocol.image_model.length=2")
PRESET = ("experiment=ez_clip_ccvid@csci", "dataset=demo", "backbone=demo_clip", *FEW)
PROTOCOLS = {"general", "clothes-changing", "same-clothes"}


@pytest.mark.slow
def test_the_preset_runs_from_the_frames_to_the_metrics(tmp_path: Path) -> None:
    from tools.demo import people

    copy_project(tmp_path)
    people.write_people(tmp_path / "data/people", 1, train_people=3, test_people=3, frames=8)
    write_backbone(tmp_path)
    edit(
        tmp_path / "params/dataset/demo.yaml",
        root="data",
        archives=None,
        sources={"people": {"reader": "ccvid", "folder": "people"}},
        roles={"reid": "people"},
        class_groups=None,
        validation__expected={},
    )
    for stage in ("manifest", "splits", "frames", "backbone", "train", "features"):
        run("vidprompt", stage, *PRESET, folder=tmp_path, forked=True)
    run("vidprompt", "evaluate", *PRESET, "protocol=reid", folder=tmp_path, forked=True)
    result = json.loads((tmp_path / "results/demo/ez_clip/reid/metrics.json").read_text("utf-8"))
    assert set(result["summary"]) == PROTOCOLS
    for protocol in PROTOCOLS:
        assert result["summary"][protocol]["id"] == f"reid/demo/{protocol}@all-frames-4"
    training = json.loads(
        (tmp_path / "results/demo/ez_clip/runs/reid/training.json").read_text("utf-8")
    )
    assert (training["steps"], training["image_model"]["steps"]) == (3, 2)
    assert set(training["last"]) == {"step", "loss", "cross_entropy", "triplet", "motion", "lr"}
    metadata = read_metadata(tmp_path / "models/demo/ez_clip/reid/model.safetensors")
    assert metadata.options["train_backbone"] == "all"
    assert metadata.options["trained_towers"] == "image"
    assert metadata.image_model
    floor = ("method=frozen_clip", "method.num_frames=8")
    printed = run("vidprompt", "features", *PRESET, *floor, folder=tmp_path, fails=True)
    assert "says 'all-frames-4' and the model takes 8 frames" in printed
