"""The training stage: a training that starts from another one, and methods that are fitted to features."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.small import small_backbone
from tests.pipeline.stages.test_train_stage import config, project

from vidprompt.data.clips.reading import normalise
from vidprompt.data.clips.testing import TestClips
from vidprompt.data.frames.sampling import Views
from vidprompt.data.splits.split_file import Split, Subset, write_split
from vidprompt.files.hashes import sha256
from vidprompt.models import create_model
from vidprompt.models.checkpoint import load_checkpoint
from vidprompt.models.checkpoint_metadata import read_metadata
from vidprompt.models.methods.tip_adapter import TipAdapter
from vidprompt.pipeline.stages import train as stage
from vidprompt.system.errors import UserError

__all__ = ["project"]  # the fixture
RUN = "supervised_split1"


def checkpoint(project: Path, method: str) -> Path:
    return project / f"models/d4/{method}/{RUN}/model.safetensors"


def summary(project: Path, method: str) -> dict[str, Any]:
    file = project / f"results/d4/{method}/runs/{RUN}/training.json"
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def test_a_second_training_starts_from_the_first_ones_checkpoint(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = ("method=vl_prompting", f"trainer.start_from=d4/vifi_clip/{RUN}")
    with pytest.raises(
        UserError, match=r"no checkpoint models/d4/vifi_clip/.*Train that run first"
    ):
        stage.run(config(project, monkeypatch, *second))
    stage.run(config(project, monkeypatch, "method=vifi_clip", "trainer.lr=1e-3"))
    first = checkpoint(project, "vifi_clip")
    stage.run(config(project, monkeypatch, *second))
    path = checkpoint(project, "vl_prompting")
    record = {
        "sha256": sha256(first),
        "method": "vifi_clip",
        "trained_on": {"dataset": "d4", "protocol": "supervised", "split": RUN},
    }
    assert summary(project, "vl_prompting")["start_from"] == record
    assert "start_from" not in summary(project, "vifi_clip")
    assert read_metadata(path).start_from == record
    values, weights = load_file(path), load_file(first)
    assert all(torch.equal(values[name], value) for name, value in weights.items())
    assert {"vision_prompts", "text_prompts", "context.vectors"} <= set(values)


@pytest.mark.slow
def test_the_content_of_the_first_checkpoint_is_part_of_the_configuration(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, first = checkpoint(project, "vl_prompting"), checkpoint(project, "vifi_clip")
    hashes = []
    for start in (f"d4/vifi_clip/{RUN}", str(first), f"d4/vifi_clip/{RUN}", "null"):
        if start != str(first):  # by its file it is the same run
            rate = f"trainer.lr={len(hashes) + 1}e-3"
            stage.run(config(project, monkeypatch, "method=vifi_clip", rate))
        stage.run(
            config(project, monkeypatch, "method=vl_prompting", f"trainer.start_from={start}")
        )
        hashes.append(read_metadata(path).config_hash)
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
    assert read_metadata(path).start_from == {}
    assert not [name for name in load_file(path) if name.startswith("clip.")]


def test_a_start_on_another_backbone_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.run(config(project, monkeypatch))
    state = small_backbone().clip.state_dict()
    save_file({name: value + 1 for name, value in state.items()}, project / "clip.safetensors")
    with pytest.raises(UserError, match="was trained on backbone small"):
        stage.run(config(project, monkeypatch, f"trainer.start_from=d4/ez_clip/{RUN}"))


@torch.no_grad()
def features(project: Path, videos: list[str], views: dict[str, Any]) -> torch.Tensor:
    """Of frozen CLIP, of clips as tests have them."""
    model = create_model("frozen_clip", small_backbone(), num_frames=4).eval()
    clips = TestClips(project / "frames", videos, num_frames=4, size=32, views=Views(**views))
    video = torch.stack([clips[i][0] for i in range(len(videos))]).float()
    backbone = model.backbone
    return model.encode_video(normalise(video, backbone.mean, backbone.std, torch.device("cpu")))[1]


@pytest.mark.parametrize("method", ["tip_adapter", "tip_adapter_f"])
def test_the_cache_is_the_training_videos_features(
    project: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    overrides = (f"method={method}", "trainer.dtype=float32", "trainer.lr=1e-3")
    chosen = config(project, monkeypatch, *overrides)
    stage.run(chosen)
    path = checkpoint(project, method)
    values = load_file(path)
    expected = features(project, [f"v/{i:02}" for i in range(4)], dict(vars(chosen.views)))
    keys = torch.nn.functional.normalize(expected, dim=-1)
    trained = method == "tip_adapter_f"
    assert torch.allclose(values["keys"], keys, atol=1e-5) is not trained
    assert torch.allclose(values["keys"], keys, atol=0.02)
    assert values["labels"].tolist() == [0, 1, 0, 1]
    found = summary(project, method)
    assert (found["steps"], found["epochs"]) == ((2, 1.0) if trained else (0, 0.0))
    assert found["trained_parameters"] == (4 * 32 if trained else 0)
    log = (project / f"results/d4/{method}/runs/{RUN}/loss.csv").read_text("utf-8")
    assert len(log.splitlines()) == (2 if trained else 1)
    back, metadata = load_checkpoint(path, small_backbone_of(project))
    assert isinstance(back, TipAdapter)
    assert back.fitted
    assert metadata.class_names == ["run", "sit"]


def small_backbone_of(project: Path) -> Any:
    from vidprompt.models.backbones.loading import load_backbone

    return load_backbone(
        {
            "name": "small",
            "weights": str(project / "clip.safetensors"),
            "config": str(project / "clip.json"),
        }
    )


def test_a_run_that_is_killed_while_it_encodes_keeps_what_it_has(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = config(project, monkeypatch, "method=tip_adapter")
    with monkeypatch.context() as broken:
        broken.setattr(TipAdapter, "fit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stage.run(chosen)
    with caplog.at_level(logging.INFO):
        stage.run(chosen)
    assert "1 of 1 blocks of an interrupted run are kept" in caplog.text
    assert not (project / f"cache/training/d4/tip_adapter/{RUN}/fit").exists()


def test_held_out_videos_choose_alpha_and_beta(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Subset(["run", "sit"], ["v/00", "v/01"], [0, 1])
    held = Subset(["run", "sit"], ["v/02", "v/03"], [0, 1])
    split = Split("supervised/d4@split1", "supervised", RUN, train=train, val=held)
    write_split(split, project / f"cache/splits/d4/{RUN}.json")
    stage.run(config(project, monkeypatch, "method=tip_adapter", "method.options.search=[7,3]"))
    values = load_file(checkpoint(project, "tip_adapter"))
    assert len(values["keys"]) == 2
    grid = 0.1 + np.arange(200) * 6.9 / 200
    assert np.abs(grid - float(values["beta"])).min() < 1e-3


def test_re_identification_has_no_cache(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = Subset(["a", "b"], [f"v/{i:02}" for i in range(4)], [0, 0, 1, 1])
    write_split(
        Split("reid/d4@4-frames", "reid", "reid", train=videos),
        project / "cache/splits/d4/reid.json",
    )
    chosen = config(
        project, monkeypatch, "method=tip_adapter", "split=reid", "protocol=reid",
        "protocol.people_per_batch=2", "protocol.tracklets_per_person=2", "trainer.length=0",
    )  # fmt: skip
    with pytest.raises(UserError, match="tip_adapter classifies videos"):
        stage.run(chosen)
