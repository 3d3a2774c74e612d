"""Test and training clips as released: frames and pictures against plain second computations.

Frames follow EZ-CLIP's `datasets/datasets.py` and Vita-CLIP's `video_dataset/dataset.py`, written down here
as formulas over real numbers and lists; pictures follow torchvision's transforms of Pillow images and
`torch.nn.functional.interpolate`.
"""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_videos import write_video
from PIL import Image
from torchvision import transforms

from vidprompt.config.compose import compose
from vidprompt.data.clips.reading import normalise, to_clip
from vidprompt.data.clips.testing import TestClips, spatial_crops
from vidprompt.data.clips.training import TrainingClips
from vidprompt.data.decode.reader import read_frames
from vidprompt.data.frames.cache import FrameCache
from vidprompt.data.frames.sampling import Views, cached_frames, clip_rng, training_frames
from vidprompt.data.shards.cache_build import build_frame_cache
from vidprompt.data.shards.plan import FrameRow, FrameSettings
from vidprompt.system.errors import DataError, UserError

LENGTHS = range(1, 401)
STRIDE = 16  # Vita-CLIP's
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]
LAYOUT = (
    1e-3  # levels of 255, of floats: sums differ with the layout of the memory; integers are equal
)


def views_of(method: str) -> Views:
    """A method's own test on a real dataset."""
    return Views(**vars(compose(["dataset=ucf101", f"method={method}"]).views))


def ez_clip_test(n: int, t: int) -> list[int]:
    if t == 1:
        return [n // 2]
    if n <= t:
        return [math.floor(Fraction(i * n, t)) for i in range(t)]
    middles = [(i + Fraction(1, 2)) * Fraction(n, t) for i in range(t)]
    return [math.floor(middle - Fraction(1, 2)) for middle in middles]


def vita_clip_test(n: int, t: int, clips: int) -> list[list[int]]:
    span = (t - 1) * STRIDE + 1
    shown = [*range(n), *[n - 1] * (span - n)]  # a short video stands still
    room = len(shown) - span
    starts = [room // 2] if clips == 1 else [round(room * i / (clips - 1)) for i in range(clips)]
    return [shown[start::STRIDE][:t] for start in starts]


@pytest.mark.parametrize("t", [1, 5, 8, 12, 16])
def test_a_test_looks_at_the_released_frames(t: int) -> None:
    ez_clip, vita_clip = views_of("ez_clip"), views_of("vita_clip")
    for n in LENGTHS:
        assert ez_clip.frames(n, t).tolist() == [ez_clip_test(n, t)], n
        assert vita_clip.frames(n, t).tolist() == vita_clip_test(n, t, 3), n
        one = Views("dense", STRIDE)
        assert one.frames(n, t).tolist() == vita_clip_test(n, t, 1), n


@pytest.mark.parametrize("t", [8, 16])
def test_training_draws_the_released_frames(t: int) -> None:
    for n in LENGTHS:
        seen: list[set[int]] = [set() for _ in range(t)]
        for epoch in range(3 if n > 40 else 200):
            rng = clip_rng(1, epoch, str(n))
            drawn = training_frames("segment", n, t, 1, rng).tolist()
            if n <= t:  # every frame, and some again, in order
                assert drawn == sorted(drawn)
                assert set(drawn) == set(range(n))
            for segment, number in zip(seen, drawn, strict=True):
                segment.add(number)
        for i, numbers in enumerate(seen):
            segment = range(i * n // t, (i + 1) * n // t)
            if n > t:
                assert numbers <= set(segment)
            if t < n <= 40:
                assert numbers == set(segment)
    assert training_frames("centre", 300, t, 1, rng).tolist() == ez_clip_test(300, t)


def test_dense_training_draws_the_released_frames() -> None:
    t, span = 8, 7 * STRIDE + 1
    for n in LENGTHS:
        rng = clip_rng(1, 0, str(n))
        drawn = [training_frames("dense", n, t, STRIDE, rng).tolist() for _ in range(3)]
        walked = list(range(0, n, STRIDE))  # stands still on the last frame it comes to
        for clip in drawn:
            if n <= span:
                assert clip == [*walked, *[walked[-1]] * t][:t], n
            else:
                assert 0 <= clip[0] <= n - span
                assert clip == list(range(clip[0], clip[0] + span, STRIDE))
    starts = {training_frames("dense", span + 3, t, STRIDE, rng)[0] for _ in range(200)}
    assert starts == {0, 1, 2, 3}


def test_the_usual_cache_holds_what_tests_look_at() -> None:
    settings = compose(["dataset=ucf101"]).frames
    assert settings.frames == 32
    numbers = FrameSettings(frames=settings.frames, tests=settings.tests)  # type: ignore[arg-type]
    ez_clip, vita_clip = views_of("ez_clip"), views_of("vita_clip")
    for n in LENGTHS:
        cached = set(numbers.frame_numbers(n))
        assert len(cached) >= min(n, 32)
        assert len(cached) <= 49
        for t in (1, 8, 16):
            assert cached.issuperset(ez_clip.frames(n, t).ravel().tolist()), (n, t)
        assert cached.issuperset(vita_clip.frames(n, 8).ravel().tolist()), n
        without = cached_frames(n, 32, numbers.tests[:3])
        assert len(without) == min(n, 32)  # these tests cost no frame more


def test_cached_frames_are_even_between_those_of_tests() -> None:
    assert cached_frames(100, 4) == (19, 39, 59, 79)
    assert cached_frames(9, 1) == (4,)
    assert cached_frames(5, 8) == (0, 1, 2, 3, 4)
    assert cached_frames(3, None) == (0, 1, 2)
    for n in (200, 300, 400):
        settings = compose(["dataset=ucf101"]).frames
        tests = FrameSettings(tests=settings.tests[1:3]).tests  # type: ignore[arg-type]
        gaps = np.diff([-1, *cached_frames(n, 32, tests), n])
        assert gaps.max() <= n / 32 + 1.5


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ({"num_frame": 8}, "frames.tests: unknown key 'num_frame': did you mean num_frames"),
        ({"sampling": "dense"}, "has no num_frames"),
        ({"num_frames": 8, "sampling": "sparse"}, "sampling=sparse: valid: segment, dense"),
    ],
)
def test_wrong_tests_of_frames_are_refused(test: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        FrameSettings(tests=(test,))  # type: ignore[arg-type]


# -- through the cache ----------------------------------------------------------------------------

COUNTS = (5, 40, 131)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """A cache as `frames: standard` makes it, of three videos."""
    folder = tmp_path_factory.mktemp("released")
    files = {f"v/{n}": write_video(folder / f"{n}.mp4", n, 76, 102, "h264.mp4", n) for n in COUNTS}
    frames = dict(vars(compose(["dataset=ucf101"]).frames)) | {"short_side": 64}
    frames.pop("per_source")
    rows = [
        FrameRow(v, file, "video", n, False, "v")
        for (v, file), n in zip(files.items(), COUNTS, strict=True)
    ]
    build_frame_cache(rows, FrameSettings(**frames), {}, folder / "frames")
    return folder / "frames", files


def stored(frame: np.ndarray, short: int = 64) -> Image.Image:
    """A decoded frame as the cache keeps it: the short side resized by Pillow, JPEG of quality 90."""
    image = transforms.Resize(short, transforms.InterpolationMode.BICUBIC)(Image.fromarray(frame))
    buffer = io.BytesIO()
    image.save(buffer, format="jpeg", quality=90)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize(("method", "t"), [("ez_clip", 8), ("ez_clip", 16), ("vita_clip", 8)])
def test_a_test_clip_is_that_of_the_video_itself(
    videos: tuple[Path, dict[str, Path]], method: str, t: int
) -> None:
    cache, files = videos
    views, size = views_of(method), 32
    clips = TestClips(cache, list(files), num_frames=t, size=size, views=views)
    for item in range(len(clips)):
        video = int(clips.owner[item])
        n, file = COUNTS[video], list(files.values())[video]
        released = [ez_clip_test(n, t)] if method == "ez_clip" else vita_clip_test(n, t, 3)
        numbers = released[item - int(clips.first[video])]
        pictures = [stored(frame) for frame in read_frames(file, numbers, exact=False)]
        wanted = second_computation(pictures, method, size)
        assert clips[item].dtype == wanted.dtype
        torch.testing.assert_close(clips[item][0], wanted, rtol=0, atol=LAYOUT)


def test_a_test_whose_frames_are_not_cached_is_refused(
    videos: tuple[Path, dict[str, Path]],
) -> None:
    cache, files = videos
    with pytest.raises(DataError, match=r"v/131: frame \d+ is needed, and 4\d of 131 are cached"):
        TestClips(cache, list(files), num_frames=8, size=32, views=Views(indices="even"))
    with pytest.raises(DataError, match=r"v/40: frame .* list these clips under `tests`"):
        TestClips(cache, ["v/40"], num_frames=8, size=32, views=Views("dense", 1, 4))
    with pytest.raises(DataError, match=r"v/131: .* frames=all"):
        TrainingClips(cache, ["v/131"], [0], num_frames=8, size=32, sampling="dense", stride=16)


def test_training_draws_from_what_is_cached_of_a_segment(
    videos: tuple[Path, dict[str, Path]],
) -> None:
    path, _ = videos
    cache = FrameCache(path)
    row = int(cache.rows(["v/131"])[0])
    held = cache.source_frames(row)
    drawn = np.stack(
        [
            training_frames("segment", 131, 8, 1, clip_rng(1, epoch, "v"), cached=held)
            for epoch in range(300)
        ]
    )
    for i in range(8):
        segment = set(range(i * 131 // 8, (i + 1) * 131 // 8))
        assert set(drawn[:, i].tolist()) == segment & set(held.tolist())
    with pytest.raises(DataError, match="v/131: .* some of 100 segments have none"):
        TrainingClips(path, ["v/131"], [0], num_frames=100, size=32)


# -- pictures -------------------------------------------------------------------------------------


def second_computation(pictures: list[Image.Image], method: str, size: int) -> torch.Tensor:
    """The released test pictures, (T, 3, size, size) in [0, 255]: uint8 of EZ-CLIP, float of Vita-CLIP."""
    if method == "ez_clip":
        resize = transforms.Resize(size * 256 // 224, transforms.InterpolationMode.BICUBIC)
        transform = transforms.Compose([resize, transforms.CenterCrop(size)])
        return torch.stack(
            [torch.from_numpy(np.array(transform(one))).permute(2, 0, 1) for one in pictures]
        )
    clip = torch.from_numpy(np.stack([np.asarray(one) for one in pictures])).float()
    clip = clip.permute(3, 0, 1, 2)
    height, width = clip.shape[-2:]
    sides = (size, width * size // height) if height < width else (height * size // width, size)
    clip = torch.nn.functional.interpolate(clip, size=sides, mode="bilinear", align_corners=False)
    top, left = (sides[0] - size) // 2, (sides[1] - size) // 2
    return clip[..., top : top + size, left : left + size].transpose(0, 1)


def pictures_of(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height * width)
    coarse = rng.integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    noise = rng.integers(-30, 31, (2, height, width, 3))
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


SIZES = [(256, 341), (240, 320), (341, 256), (63, 48), (131, 257), (224, 224)]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(("size", "margin"), [(224, 256), (32, 36), (336, 384)])
def test_pictures_of_a_test_are_the_released_ones_to_the_pixel(
    shape: tuple[int, int], size: int, margin: int
) -> None:
    frames = pictures_of(*shape)
    pictures, clip = [Image.fromarray(one) for one in frames], to_clip(frames)
    views = views_of("ez_clip")
    assert views.short_side(size) == margin
    found = spatial_crops(clip, size, views)
    wanted = second_computation(pictures, "ez_clip", size)
    assert torch.equal(found[0], wanted)
    found = normalise(found, MEAN, STD, torch.device("cpu"))[0]
    scale = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    whole = torch.stack([scale(Image.fromarray(one.permute(1, 2, 0).numpy())) for one in wanted])
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-6)
    found = spatial_crops(clip, size, views_of("vita_clip"))[0]
    wanted = second_computation(pictures, "vita_clip", size)
    torch.testing.assert_close(found, wanted, rtol=0, atol=LAYOUT)


@pytest.mark.parametrize("antialias", [True, False])
def test_three_crops_lie_along_the_longer_side(antialias: bool) -> None:
    for shape, along in (((48, 80), -1), ((80, 48), -2)):
        clip = to_clip(pictures_of(*shape))
        views = Views(crops=3, resize=256, antialias=antialias)
        crops = spatial_crops(clip, 32, views)  # 36 × 60, of which 32 × 32 in the middle across
        first, middle, last = crops.unbind(0)
        shared = 32 - 14  # of two that are 14 apart
        assert torch.equal(first.narrow(along, 14, shared), middle.narrow(along, 0, shared))
        assert torch.equal(middle.narrow(along, 14, shared), last.narrow(along, 0, shared))
        one = spatial_crops(clip, 32, Views(resize=256, antialias=antialias))
        assert torch.equal(one[0], middle)
