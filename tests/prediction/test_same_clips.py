"""A file read to predict gives the pixels that the tests have from the frame cache, bit for bit."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.make_videos import pictures, write_video
from tests.prediction.small_checkpoint import EZ_VIEWS, SIZE, VITA_VIEWS, T, write_model

import vidprompt
from vidprompt.data.clips.testing import TestClips
from vidprompt.data.frames.sampling import TestFrames, Views
from vidprompt.data.probe.videos import probe_video
from vidprompt.data.shards.build import encode_video, write_shard
from vidprompt.data.shards.cache_build import build_frame_cache
from vidprompt.data.shards.plan import FrameRow, FrameSettings, ShardPlan
from vidprompt.data.workers.isolated import TaskResult
from vidprompt.inference.encoding import encode_videos
from vidprompt.prediction.clip_input import ALL_FRAMES, ClipInput
from vidprompt.prediction.clips import video_clips
from vidprompt.system.progress import Progress

LENGTHS = {"long.mp4": 48, "short.mp4": 3, "one.avi": 1, "upright.mp4": 30}
JPEG = {"short_side": 48, "stretch": None, "format": "jpeg", "quality": 90}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[FrameRow]:
    """Videos of several lengths and shapes and a folder of images, probed as the manifest does it."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "long.mp4", 48, kind="open_gop.mp4")
    write_video(folder / "short.mp4", 3, 96, 130, kind="h264.mp4")
    write_video(folder / "one.avi", 1, kind="mpeg4.avi")
    write_video(folder / "upright.mp4", 30, 128, 80, kind="h264.mp4")
    for number, picture in enumerate(pictures(9, 60, 40)):
        (folder / "images").mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / f"images/{number}.png")
    found = [
        FrameRow(name, folder / name, "video", length, probe_video(folder / name, T).exact, "v")
        for name, length in LENGTHS.items()
    ]
    return [*found, FrameRow("images", folder / "images", "frames", 9, True, "v")]


def build_cache(rows: list[FrameRow], settings: FrameSettings, out: Path) -> None:
    """Without worker processes, which take a second to start."""

    def run(plans: Sequence[ShardPlan], folder: Path, _: Callable[[int], None]) -> None:
        for plan in plans:
            write_shard(plan, folder, (TaskResult(*encode_video(job)) for job in plan.jobs))

    build_frame_cache(rows, settings, {}, out, runner=run)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "EZ-CLIP": (EZ_VIEWS, JPEG, False),
    "Vita-CLIP": (VITA_VIEWS, JPEG, False),
    "three crops of WebP": ({"clips": 2, "crops": 3}, JPEG | {"format": "webp"}, False),
    "Vita-CLIP, three crops": (VITA_VIEWS | {"crops": 3, "resize": 256}, JPEG, False),
    "smaller than the input": (EZ_VIEWS, JPEG | {"short_side": 20}, False),
    "reversed and even": ({"order": "reversed", "indices": "even"}, JPEG, False),
    "shuffled": ({"order": "shuffled", "sampling": "dense"}, JPEG, False),
    "whole tracklets, stretched": ({"crops": 3}, JPEG | {"stretch": [48, 48]}, True),
}


@pytest.mark.parametrize("case", CASES)
def test_clips_are_those_of_the_frame_cache(
    case: str, rows: list[FrameRow], tmp_path: Path
) -> None:
    views, frames, whole = CASES[case]
    test = TestFrames(T, **{k: v for k, v in views.items() if k in ("sampling", "stride", "clips")})
    kept = (None, ()) if whole or views.get("indices") else (5, (test,))
    stored = FrameSettings(**frames, frames=kept[0], tests=kept[1])
    build_cache(rows, stored, tmp_path / "frames")
    cached = TestClips(
        tmp_path / "frames",
        [row.video_id for row in rows],
        num_frames=T,
        size=SIZE,
        views=Views(**views),
        whole=whole,
    )
    tracklet = ALL_FRAMES if whole else None
    settings = ClipInput.of({"views": views, "frames": frames, "tracklet": tracklet}, T, SIZE)
    for number, row in enumerate(rows):
        clips = video_clips(settings.decode(row.path), settings, row.video_id)
        items = range(cached.first[number], cached.first[number + 1])
        expected = torch.cat([cached[item] for item in items])
        assert clips.clips.dtype == expected.dtype
        assert torch.equal(clips.clips, expected), row.video_id
        assert clips.n_frames == row.n_frames
        assert clips.numbers.shape == clips.times.shape == (len(items), T)
        rate = 25 * (clips.numbers if row.kind == "frames" else clips.times)
        assert np.allclose(rate, 25 * clips.numbers if row.kind == "frames" else clips.numbers)


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_a_models_features_are_those_of_the_features_stage(
    method: str, rows: list[FrameRow], tmp_path: Path
) -> None:
    views = EZ_VIEWS if method == "ez_clip" else VITA_VIEWS
    given = {"views": views, "frames": JPEG, "tracklet": None}
    model = vidprompt.load(write_model(tmp_path, method, input=given), "cpu")
    stored = FrameSettings(**JPEG, frames=None)
    build_cache(rows, stored, tmp_path / "frames")
    names = [row.video_id for row in rows]
    cached = TestClips(tmp_path / "frames", names, num_frames=T, size=SIZE, views=model.input.views)
    with Progress("test", len(cached), quiet=True) as progress:
        expected = encode_videos(
            model.encoder, cached, batch_size=1, device=model.device, progress=progress
        )
    found = [one[1] for one in model.features([row.path for row in rows])]  # type: ignore[index]
    np.testing.assert_allclose(np.stack(found), expected, rtol=0, atol=2e-6)
    read = model.read(rows[0].path)
    assert torch.equal(read.clips[0], cached[0][0])


def test_without_stored_frames_a_view_is_made_of_the_video_itself(rows: list[FrameRow]) -> None:
    """As torchvision's Resize and CenterCrop of the frames as Pillow images."""
    from torchvision import transforms

    from vidprompt.data.decode.reader import read_frames

    settings = ClipInput.of({"views": EZ_VIEWS}, T, SIZE)
    bicubic = transforms.InterpolationMode.BICUBIC
    view = transforms.Compose(
        [transforms.Resize(36, bicubic), transforms.CenterCrop(SIZE), transforms.PILToTensor()]
    )
    for row in rows:
        clips = video_clips(settings.decode(row.path), settings)
        frames = read_frames(row.path, clips.numbers[0].tolist(), row.kind, row.exact)
        expected = torch.stack([view(Image.fromarray(frame)) for frame in frames])
        assert torch.equal(clips.clips[0], expected), row.video_id


def test_frames_of_other_places_are_not_the_clips(rows: list[FrameRow], tmp_path: Path) -> None:
    """The comparison above would see a clip that is one frame late."""
    settings = ClipInput.of({"views": EZ_VIEWS, "frames": JPEG}, T, SIZE)
    late = dataclasses.replace(settings, views=Views("dense", 8, **EZ_VIEWS))  # type: ignore[arg-type]
    path = shutil.copy(rows[0].path, tmp_path)
    clips = [video_clips(one.decode(path), one).clips for one in (settings, late)]
    assert not torch.equal(*clips)
