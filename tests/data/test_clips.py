"""Augmentation treats all frames of a clip alike; clips and views are the same whoever makes them."""

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_videos import write_video
from PIL import Image

from vidprompt.data.clips.augmentation import ERASED, Augmentation, training_view
from vidprompt.data.clips.batch_plan import ShuffledBatches
from vidprompt.data.clips.reading import read_clip
from vidprompt.data.clips.testing import TestClips
from vidprompt.data.clips.training import TrainingClips, batches
from vidprompt.data.frames.cache import FrameCache
from vidprompt.data.frames.sampling import Views
from vidprompt.data.shards.cache_build import build_frame_cache
from vidprompt.data.shards.plan import FrameRow, FrameSettings
from vidprompt.system.errors import DataError, UserError


def clip_of_one_picture() -> torch.Tensor:
    picture = torch.randint(0, 256, (3, 48, 64), generator=torch.Generator().manual_seed(0))
    return picture.to(torch.uint8).expand(8, 3, 48, 64).clone()


def view(seed: int, **options: object) -> torch.Tensor:
    chosen = Augmentation(**options)  # type: ignore[arg-type]
    return training_view(clip_of_one_picture(), 48, chosen, np.random.default_rng(seed))


def test_all_frames_of_a_clip_are_augmented_alike_and_clips_differently() -> None:
    everything = {
        "scales": (1.0, 0.75), "flip": True, "jitter": 1.0, "channels": 1.0, "greyscale": 0.5
    }  # fmt: skip
    views = [view(seed, **everything) for seed in range(12)]
    for one in views:
        assert one.shape == (8, 3, 48, 48)
        assert one.dtype == torch.uint8
        assert (one == one[:1]).all()
    assert len({one.numpy().tobytes() for one in views}) == 12
    assert torch.equal(views[3], view(3, **everything))


def test_what_is_off_changes_nothing() -> None:
    source = clip_of_one_picture()
    plain = view(5)
    assert any(torch.equal(plain, source[..., left : left + 48]) for left in range(17))
    assert torch.equal(view(5, jitter=1.0, jitter_strength=(0, 0, 0, 0)), plain)


def test_rand_augment_and_a_random_area_are_alike_for_all_frames() -> None:
    options: dict[str, Any] = {
        "area": (0.08, 1.0),
        "rand_augment": {"layers": 2, "probability": 1.0},
    }
    views = [view(seed, **options) for seed in range(6)]
    for one in views:
        assert one.shape == (8, 3, 48, 48)
        assert (one == one[:1]).all()
    assert len({one.numpy().tobytes() for one in views}) == 6
    assert torch.equal(views[2], view(2, **options))


def test_one_grey_box_is_erased_in_half_of_the_clips_and_the_rest_stays() -> None:
    erased = 0
    for seed in range(400):
        plain, found = view(seed), view(seed, erase=0.5)
        changed = (plain != found).any(1)  # (T, H, W)
        assert (changed == changed[:1]).all()
        grey = torch.tensor(ERASED, dtype=torch.uint8)[:, None, None]
        if bool(changed.any()):
            erased += 1
            rows, columns = (changed[0].any(side).nonzero().flatten() for side in (1, 0))
            box = found[0][:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert (box == grey).all()
            assert changed.float().mean() <= 0.42
    assert erased == pytest.approx(200, abs=40)  # four deviations
    assert not torch.equal(view(0, erase=1.0), view(1, erase=1.0))


def test_jitter_may_be_drawn_for_every_frame() -> None:
    still = view(1, jitter=1.0)
    flicker = view(1, jitter=1.0, jitter_by_frame=True)
    assert (still == still[:1]).all()
    assert torch.equal(flicker[0], still[0])  # the first frame's draw is the clip's
    assert len({frame.numpy().tobytes() for frame in flicker}) == 8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"erase_area": (0.4, 0.02)}, "augmentation.erase_area: .*; give a smallest and a largest"),
        ({"area": (0.5, 2.0)}, "augmentation.area: .*; give a smallest and a largest value"),
        ({"ratio": (2.0, 1.0)}, "augmentation.ratio: .*; give a smallest and a largest value"),
        ({"rand_augment": {"strength": 3}}, "rand_augment has no 'strength'"),
    ],
)
def test_an_augmentation_that_is_none_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Augmentation(**options)


def test_shuffled_channels_are_the_same_three_planes() -> None:
    source = clip_of_one_picture()[..., :48]
    orders = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        shuffled = training_view(source, 48, Augmentation(channels=1.0), rng)[0]
        planes = [[torch.equal(new, old) for old in source[0]] for new in shuffled]
        orders.add(tuple(plane.index(True) for plane in planes))
    assert orders == set(itertools.permutations(range(3)))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of 20 frames, 15 of which are cached, and a tracklet with all of its 11."""
    folder = tmp_path_factory.mktemp("cache")
    rows = [
        FrameRow(
            f"a/{n}",
            write_video(folder / f"{n}.mp4", 20, 64, 96, "h264.mp4", n),
            "video",
            20,
            True,
            "a",
        )
        for n in range(2)
    ]
    tracklet = folder / "person"
    tracklet.mkdir()
    for number in range(11):
        Image.new("RGB", (64, 64), (20 * number, 0, 0)).save(tracklet / f"{number:03d}.png")
    rows.append(FrameRow("p/1", tracklet, "frames", 11, True, "p"))
    tests: Any = [{"num_frames": 5, "sampling": "dense", "clips": 3}]
    settings = FrameSettings(short_side=64, frames=12, tests=tests)
    build_frame_cache(rows, settings, {"p": {"frames": None}}, folder / "frames")
    return folder / "frames"


def _shade(clip: torch.Tensor) -> list[int]:
    """Which frames of the tracklet a clip (T, 3, S, S) has."""
    return (clip[:, 0].float().mean((1, 2)) / 20).round().int().tolist()


def test_an_epoch_gives_the_same_clips_however_many_workers(cache: Path) -> None:
    clips = TrainingClips(
        cache,
        ["a/1", "p/1", "a/0"],
        [1, 2, 0],
        num_frames=4,
        size=48,
        seed=3,
        augmentation=Augmentation(scales=[1.0, 0.75], flip=True, jitter=0.5),
    )
    steps = 10  # more than two workers have memory for
    plan = ShuffledBatches(3, 2, steps, seed=1)
    one = list(batches(clips, plan, workers=0))
    for workers, start in ((2, 0), (0, 3)):
        plan = ShuffledBatches(3, 2, steps, seed=1, start=start)
        for (video, labels), (other, theirs) in zip(
            batches(clips, plan, workers), one[start:], strict=True
        ):
            assert torch.equal(video, other)
            assert torch.equal(labels, theirs)
    assert one[0][0].shape == (2, 4, 3, 48, 48)
    assert not torch.equal(clips[(0, 0)][0], clips[(1, 0)][0])


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_batches_augmented_on_a_device_are_the_same(cache: Path, workers: int) -> None:
    options: dict[str, Any] = {
        "num_frames": 4,
        "size": 48,
        "augmentation": Augmentation(jitter=1.0, jitter_by_frame=True, channels=0.5),
    }
    videos, labels = ["a/1", "p/1", "a/0"], [1, 2, 0]
    plan = ShuffledBatches(3, 2, 4, seed=1)
    here = batches(TrainingClips(cache, videos, labels, **options), plan, 0)
    there = batches(TrainingClips(cache, videos, labels, drawn=True, **options), plan, workers)
    for (video, label), (other, theirs) in zip(here, there, strict=True):
        assert torch.equal(label, theirs)
        assert torch.equal(video, other)


def test_shared_memory_is_counted_for_whole_pictures(cache: Path) -> None:
    chosen = {"num_frames": 4, "size": 48, "augmentation": Augmentation(rand_augment={})}
    sizes = [
        TrainingClips(cache, ["a/1", "p/1"], [0, 0], drawn=drawn, **chosen).item_bytes  # type: ignore[arg-type]
        for drawn in (False, True)
    ]
    assert sizes == [4 * 3 * 48 * 48, 4 * 3 * 64 * 96]


def test_views_are_clips_and_crops_in_order(cache: Path) -> None:
    views = Views("dense", stride=1, clips=3, crops=3)
    clips = TestClips(cache, ["p/1", "a/0"], num_frames=5, size=64, views=views)
    assert clips.owner.tolist() == [0, 0, 0, 1, 1, 1]
    items = [clips[i] for i in range(6)]
    assert {item.shape for item in items} == {(3, 5, 3, 64, 64)}
    assert [_shade(item[0]) for item in items[:3]] == [
        [0, 1, 2, 3, 4],
        [3, 4, 5, 6, 7],
        [6, 7, 8, 9, 10],
    ]
    wide = items[3]  # 64 × 96: left, middle, right
    assert torch.equal(wide[0][..., 16:], wide[1][..., :-16])
    assert torch.equal(wide[1][..., 16:], wide[2][..., :-16])
    centre = TestClips(cache, ["a/0"], num_frames=5, size=64, views=Views("dense", 1, 3, 1))
    assert torch.equal(centre[0][0], wide[1])


@pytest.mark.parametrize("positions", [[7, 2, 5], [3, 1, 3], [2, 2, 4], [10, 0]])
def test_frames_come_in_the_order_asked_for(cache: Path, positions: list[int]) -> None:
    frames = FrameCache(cache)
    clip = read_clip(frames, int(frames.rows(["p/1"])[0]), np.array(positions))
    assert _shade(clip) == positions


def test_whole_tracklets_have_every_frame(cache: Path) -> None:
    clips = TestClips(cache, ["p/1"], num_frames=4, size=64, whole=True)
    seen = [_shade(clips[i][0]) for i in range(len(clips))]
    assert seen == [[0, 2, 4, 6], [1, 3, 5, 7], [8, 9, 10, 8]]
    with pytest.raises(DataError, match="a/0: 15 of 20 frames are cached, and all are needed"):
        TestClips(cache, ["p/1", "a/0"], num_frames=4, size=64, whole=True)
    with pytest.raises(DataError, match="b/1 is not in the frame cache"):
        TestClips(cache, ["p/1", "b/1"], num_frames=4, size=64)


def test_a_worker_is_sent_no_names(cache: Path) -> None:
    clips = TrainingClips(cache, ["a/1"] * 1000, [0] * 1000, num_frames=4, size=48)
    assert len(pickle.dumps(clips)) < 1000 * 16 + 2000
