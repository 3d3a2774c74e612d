"""Every view is encoded once, in the order of the videos, whatever the batch size."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from vidprompt.data.clips.testing import TestClips
from vidprompt.data.frames.sampling import Views
from vidprompt.data.shards.cache_build import build_frame_cache
from vidprompt.data.shards.plan import FrameRow, FrameSettings
from vidprompt.inference.encoding import encode_blocks, encode_videos, single_threaded
from vidprompt.system.progress import Progress


class Shades(torch.nn.Module):
    """A model whose feature is the mean red of the first and of the last frame, and where it sits."""

    backbone = SimpleNamespace(mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)

    def encode_video(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        red = video[:, :, 0]
        feature = torch.stack([red[:, 0].mean((1, 2)), red[:, -1].mean((1, 2))], 1)
        return feature, feature


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    rows = []
    for person, frames in enumerate((5, 9, 4)):
        pictures = folder / str(person)
        pictures.mkdir()
        for number in range(frames):
            shade = 100 * person + 10 * number
            Image.new("RGB", (16, 16), (shade, 0, 0)).save(pictures / f"{number}.png")
        rows.append(FrameRow(f"p/{person}", pictures, "frames", frames, True, "p"))
    build_frame_cache(rows, FrameSettings(short_side=16, frames=None), {}, folder / "frames")
    return folder / "frames"


def _encoded(clips: TestClips, batch_size: int) -> torch.Tensor:
    return torch.cat(_blocks(clips, [len(clips.rows)], batch_size))


def _blocks(clips: TestClips, sizes: list[int], batch_size: int) -> list[torch.Tensor]:
    with Progress("test", len(clips), quiet=True) as progress:
        blocks = encode_blocks(
            Shades(),  # type: ignore[arg-type]
            clips,
            sizes,
            batch_size=batch_size,
            device=torch.device("cpu"),
            progress=progress,
        )
        found = [torch.from_numpy(block) for block in blocks]
    assert progress.done == len(clips)
    return found


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_views_stay_with_their_videos(cache: Path, batch_size: int) -> None:
    views = Views("dense", stride=1, clips=2, crops=3)
    clips = TestClips(cache, ["p/2", "p/0"], num_frames=3, size=16, views=views)
    features = _encoded(clips, batch_size)
    assert features.shape == (2, 6, 2)
    expected = [[200, 220]] * 3 + [[210, 230]] * 3, [[0, 20]] * 3 + [[20, 40]] * 3
    torch.testing.assert_close(features, torch.tensor(expected).float(), atol=2, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_a_tracklets_feature_is_the_mean_of_its_clips(cache: Path, batch_size: int) -> None:
    clips = TestClips(cache, ["p/0", "p/1"], num_frames=4, size=16, whole=True)
    features = _encoded(clips, batch_size)
    # five frames: 0-3 and the fifth alone, repeated; nine: 0, 2, 4, 6; 1, 3, 5, 7; the ninth
    first = [(0 + 40) / 2, (30 + 40) / 2]
    second = [(100 + 110 + 180) / 3, (160 + 170 + 180) / 3]
    expected = torch.tensor([[first], [second]])
    torch.testing.assert_close(features, expected, atol=2, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
@pytest.mark.parametrize("whole", [False, True])
def test_blocks_follow_each_other(cache: Path, batch_size: int, whole: bool) -> None:
    videos = ["p/0", "p/1", "p/2", "p/1", "p/0"]
    views = Views("dense", clips=2)
    clips = TestClips(cache, videos, num_frames=3, size=16, views=views, whole=whole)
    together = _encoded(clips, 100)
    blocks = _blocks(clips, [2, 1, 2], batch_size)
    assert [len(block) for block in blocks] == [2, 1, 2]
    torch.testing.assert_close(torch.cat(blocks), together)
    with Progress("test", len(clips), quiet=True) as progress:
        at_once = encode_videos(
            Shades(),  # type: ignore[arg-type]
            clips,
            batch_size=batch_size,
            device=torch.device("cpu"),
            progress=progress,
        )
    torch.testing.assert_close(torch.from_numpy(at_once), together)


def test_a_batch_has_videos_of_one_block(cache: Path) -> None:
    clips = TestClips(cache, ["p/0", "p/1", "p/2"], num_frames=3, size=16)
    seen = []

    class Counting(Shades):
        def encode_video(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            seen.append((len(video), torch.get_num_threads()))
            return super().encode_video(video)

    before = torch.get_num_threads()
    with Progress("test", len(clips), quiet=True) as progress:
        options = {"batch_size": 8, "device": torch.device("cpu"), "progress": progress}
        assert len(list(encode_blocks(Counting(), clips, [2, 1], **options))) == 2
    assert seen == [(2, 1), (1, 1)]  # and each by one thread
    assert torch.get_num_threads() == before
    with single_threaded(torch.device("cpu")) as threads:
        assert (threads, torch.get_num_threads()) == (before, 1)


@pytest.mark.parametrize("whole", [False, True])
def test_frames_can_be_reversed(cache: Path, whole: bool) -> None:
    forward, backward = (
        TestClips(
            cache, ["p/1", "p/0"], num_frames=3, size=16, views=Views(order=order), whole=whole
        )
        for order in ("forward", "reversed")
    )
    torch.testing.assert_close(_encoded(backward, 2), _encoded(forward, 2).flip(-1))


def test_precision_is_the_models(cache: Path) -> None:
    class Cast(Shades):
        def encode_video(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            feature = video.mean((1, 2, 3)) @ torch.eye(16)  # products are what autocast casts
            dtypes.append(feature.dtype)
            return feature, feature

    for precision, expected in (("no", torch.float32), ("bf16", torch.bfloat16)):
        dtypes: list[torch.dtype] = []
        views = Views(precision=precision)
        clips = TestClips(cache, ["p/0"], num_frames=3, size=16, views=views)
        with Progress("test", len(clips), quiet=True) as progress:
            options = {"batch_size": 8, "device": torch.device("cpu"), "progress": progress}
            features = encode_videos(Cast(), clips, **options)
        assert dtypes == [expected]
        assert features.dtype == "float32"
