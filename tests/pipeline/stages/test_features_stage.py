"""Features are the same bytes whoever encodes them, however often they are interrupted."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.pipeline.project import changed
from tests.pipeline.stages.encoding_project import (
    VIEWS,
    config,
    contents,
    encode,
    encode_slowly,
    finish,
    make_project,
    start,
)

from vidprompt.inference.feature_store import read_features
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.pipeline.stages import features as stage
from vidprompt.system.errors import DataError, UserError

SIZES = (1, 7, 13)  # in blocks of two
DATASETS = [f"d{size}" for size in SIZES]
TRAINED = {"name": "ez_clip", "num_frames": 4, "objective": "contrastive_motion"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    make_project(folder, SIZES)
    return folder


@pytest.fixture(scope="module")
def alone(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process with two threads finds."""
    folder = copy_of(project, tmp_path_factory.mktemp("alone") / "project")
    finish(start(folder, 1, encode, folder, DATASETS, threads=2))
    return folder


def copy_of(project: Path, folder: Path) -> Path:
    return Path(shutil.copytree(project, folder, symlinks=True))


def encoded(folder: Path, dataset: str) -> Path:
    return folder / "cache/features" / dataset / "frozen_clip/frozen"


def scratch(folder: Path, dataset: str) -> Path:
    return folder / "cache/encoding" / dataset / "frozen_clip/frozen"


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_find_the_same_bytes(
    project: Path, alone: Path, tmp_path: Path, count: int
) -> None:
    folder = copy_of(project, tmp_path / "project")
    finish(start(folder, count, encode, folder, DATASETS))
    for dataset in DATASETS:
        assert contents(encoded(folder, dataset)) == contents(encoded(alone, dataset))
        assert not scratch(folder, dataset).exists()
    assert _log(folder, 0) == _log(alone, 0)
    assert not any(_log(folder, rank) for rank in range(1, count))


def _log(folder: Path, rank: int) -> list[str]:
    """The log of a process without lines of progress, which differ in their rates."""
    lines = (folder / f"log-{rank}.txt").read_text("utf-8").splitlines()
    return [line for line in lines if "clips/s" not in line]


def test_each_video_is_there_once_by_views_and_once_whole(alone: Path) -> None:
    for size in SIZES:
        features = read_features(encoded(alone, f"d{size}"))
        names = [f"v/{number:02}" for number in range(size)]
        assert features.videos == names + names[-3:]
        assert features.video.shape == (len(features.videos), 2, 32)
        assert np.isfinite(features.video).all()
        for whole, expected in ((False, names), (True, names[-3:]), (None, names)):
            positions, rows = features.rows(["v/broken", *names], whole)
            assert [features.videos[row] for row in rows] == expected
            assert [["v/broken", *names][i] for i in positions] == expected
        both = [features.rows(names[-1:], whole)[1][0] for whole in (False, True)]
        by_views, tracklet = features.video[both]
        assert (tracklet[0] == tracklet[1]).all()
        assert (by_views != tracklet).any()
        assert set(features.text) == {"supervised_split1/test", "supervised_split2/test"}
        assert features.text["supervised_split1/test"].shape == (2, 2, 32)


def test_a_killed_run_keeps_its_blocks(
    project: Path,
    alone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = copy_of(project, tmp_path / "project")
    (process,) = start(folder, 1, encode_slowly, folder, ["d13"])
    blocks = scratch(folder, "d13")
    until = time.monotonic() + 60
    while len(list(blocks.glob("block-*"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.join()
    first, second, *_ = sorted(blocks.glob("block-*"))
    assert not encoded(folder, "d13").exists()
    content = bytearray(second.read_bytes())
    content[-1] ^= 1  # one of them is damaged, another was cut off
    second.write_bytes(content)
    (blocks / "block-00005.safetensors").write_bytes(first.read_bytes()[:-4])
    (blocks / ".block-00006.safetensors.x.part").write_bytes(b"half")
    clips = count_clips(monkeypatch)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(stage, "BLOCK", stage.BLOCK)
    kept = len(list(blocks.glob("block-*"))) - 2
    encode(folder, ["d13"])
    said = caplog.text
    assert f"{kept} of 9 blocks of an interrupted run are kept" in said
    assert contents(encoded(folder, "d13")) == contents(encoded(alone, "d13"))
    assert not blocks.exists()
    # 13 videos of two clips, three tracklets of five clips together; a block has two videos
    assert sum(clips) == 13 * 2 + tracklet_clips(alone) - kept * 4


def tracklet_clips(alone: Path) -> int:
    from vidprompt.data.frames.cache import FrameCache

    cache = FrameCache(alone / "frames")
    return sum(-(-cache.num_frames(f"v/{number}") // 4) for number in (10, 11, 12))


def count_clips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clips each call of the model was given."""
    counts: list[int] = []
    encode_video = VideoCLIP.encode_video

    def counted(self: VideoCLIP, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        counts.append(len(video))
        return encode_video(self, video)

    monkeypatch.setattr(VideoCLIP, "encode_video", counted)
    return counts


def test_blocks_of_another_encoding_are_dropped_and_it_is_said(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = copy_of(project, tmp_path / "project")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(stage, "BLOCK", 2)
    clips = count_clips(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "write_features", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stage.run(config(folder, "d7"))
    whole = sum(clips)
    stage.run(config(folder, "d7", views=VIEWS | {"order": "reversed"}))
    said = caplog.text
    assert "6 blocks of an interrupted run are deleted: views changed\n" in said
    assert sum(clips) == 2 * whole
    assert read_features(encoded(folder, "d7")).videos


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_cannot_be_encoded_is_a_sentence(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(project, tmp_path / "project")
    monkeypatch.chdir(folder)
    wrong = config(folder, "d1", method=TRAINED)
    with pytest.raises(UserError, match="no checkpoint models/d1/ez_clip/supervised_split1"):
        stage.run(wrong)
    wrong = changed(wrong, split="zero_shot")
    with pytest.raises(UserError, match="no split of d1 is tested with a model trained on zero_sh"):
        stage.run(wrong)
    for file in (folder / "cache/splits/d1").glob("*.json"):
        file.write_text(file.read_text("utf-8").replace("v/00", "v/gone"))
    with pytest.raises(
        DataError, match="none of the 3 test videos of frozen is in cache/frames/d1"
    ):
        stage.run(config(folder, "d1"))
