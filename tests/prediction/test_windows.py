"""Windows of long videos: which frames they have, and that each is decoded and prepared once."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.data.make_videos import decode_in_order, make
from tests.prediction.small_model import FRAMES, small_model

from vidprompt.data.clips.reading import to_clip
from vidprompt.data.clips.testing import spatial_crops
from vidprompt.data.frames.sampling import Views
from vidprompt.prediction import windows
from vidprompt.prediction.decoding import Clock, PrepareFrame
from vidprompt.prediction.model import Model
from vidprompt.prediction.windows import VideoEnd, WindowCutter, WindowFrames, decode_windows
from vidprompt.system.errors import DataError, UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


def expected_views(model: Model, frames: np.ndarray) -> np.ndarray:
    """The features of a video that has only these frames."""
    settings = model.input
    clips = [
        spatial_crops(to_clip(frames[clip]), settings.image_size, settings.views)
        for clip in settings.clips(len(frames))
    ]
    return model.encode(torch.cat(clips))


@pytest.mark.parametrize("method", ["frozen_clip", "ez_clip", "vita_clip"])
def test_a_window_is_encoded_as_a_video_of_its_frames(method: str, folder: Path) -> None:
    video = make(folder, "b_frames.mp4", 36)  # 1.44 s at 25 frames a second
    model = small_model(method, Views(clips=2, crops=3))
    found = list(model.windows(video, window=0.8, stride=0.4))
    assert [(round(w.start, 6), round(w.end, 6)) for w in found] == [
        (0, 0.8),
        (0.4, 1.2),
        (0.8, 1.44),
    ]
    frames = decode_in_order(video)
    for one, part in zip(found, (frames[:20], frames[10:30], frames[20:]), strict=True):
        assert np.allclose(one.views, expected_views(model, part), atol=1e-4)
    assert np.isclose(np.linalg.norm(found[0].feature), 1)


def test_a_short_video_is_one_window_and_equals_its_prediction(folder: Path) -> None:
    model = small_model("ez_clip")
    video = make(folder, "short.mp4")
    (only,) = model.windows(video)
    assert (only.start, only.end) == (0, 0.2)
    assert np.allclose(only.views, model.encode(model.read(video).clips), atol=1e-5)


def test_frames_are_decoded_once_and_frozen_clip_encodes_them_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make(folder, "b_frames.mp4", 36)
    prepared, encoded, ends = [], [], list[VideoEnd]()
    prepare = PrepareFrame.__call__
    monkeypatch.setattr(
        PrepareFrame, "__call__", lambda self, frame: prepared.append(1) or prepare(self, frame)
    )
    model = small_model()
    encode = model.encode_frames
    monkeypatch.setattr(
        model, "encode_frames", lambda frames: encoded.extend(frames) or encode(frames)
    )
    settings = model.input
    items = list(settings.windows(video, 0.8, 0.4))
    taken = {
        n for one in items if isinstance(one, WindowFrames) for n in one.numbers.ravel().tolist()
    }
    assert len(prepared) == len(taken) < 3 * FRAMES
    list(model.windows(video, 0.8, 0.4, on_end=ends.append))
    assert len(encoded) == len(taken)
    assert ends == [VideoEnd(36, pytest.approx(1.44), "")]


def test_windows_are_seconds_of_the_time_stamps(folder: Path) -> None:
    video = make(folder, "variable_rate.mp4")
    with_times = small_model().read(video)
    items = list(decode_windows(video, lambda n: np.arange(n)[None], PrepareFrame(), 0.5, 0.5))
    found = [one.numbers.ravel().tolist() for one in items if isinstance(one, WindowFrames)]
    times = small_model().input.decode(video).times
    assert len(found) == int(np.ceil(with_times.duration / 0.5 - 0.02))
    assert [n for part in found for n in part] == list(range(with_times.n_frames))
    assert times[-1] > 1.4 * with_times.n_frames / 25  # else the rate does not vary


def test_a_window_decoded_apart_is_the_same(folder: Path, tmp_path: Path) -> None:
    model = small_model("ez_clip")
    video = make(folder, "b_frames.mp4", 36)
    here, apart = (list(model.windows(video, 0.8, 0.4, isolated=one)) for one in (False, True))
    assert all(np.array_equal(a.views, b.views) for a, b in zip(here, apart, strict=True))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    with pytest.raises(DataError, match=r"broken\.mp4: it (is no video|cannot be read)"):
        list(model.windows(broken, isolated=True))


def test_a_folder_of_images_is_a_video(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(30):
        size = (40, 36) if number else (64, 48)
        Image.new("RGB", size, (number, 0, 0)).save(tmp_path / f"{number}.png")
    items = list(
        decode_windows(tmp_path, lambda n: np.array([[0, n - 1]]), PrepareFrame(), 0.8, 0.8)
    )
    assert [one.numbers.tolist() for one in items[:-1]] == [[[0, 19]], [[20, 29]]]
    frames = [frame for one in items[:-1] for frame in one.frames.values()]
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 19, 20, 29]


# -- without a video


def cut(
    times: Iterator[float] | list[float], window: float, stride: float, end: float | None = None
):
    """Windows of frames at these times, all frames of each."""
    cutter = WindowCutter(lambda n: np.arange(n)[None], PrepareFrame(), window, stride)
    last = 0.0
    for last in times:
        yield from cutter.add(last, lambda: np.zeros((8, 8, 3), np.uint8), 1 << 20)
        yield cutter
    yield from cutter.finish(last + 0.04 if end is None else end)


def windows_of(times: list[float], window: float, stride: float, end: float | None = None):
    return [
        (one.start, round(one.end, 6), one.numbers.ravel().tolist())
        for one in cut(times, window, stride, end)
        if isinstance(one, WindowFrames)
    ]


def test_windows_with_gaps_between_them() -> None:
    times = [number / 10 for number in range(50)]
    found = windows_of(times, 0.5, 2.0, 5.0)
    assert found == [(0, 0.5, [*range(5)]), (2, 2.5, [*range(20, 25)]), (4, 4.5, [*range(40, 45)])]


def test_a_picture_that_stands_still_fills_the_windows_without_frames() -> None:
    found = windows_of([0.0, 0.5, 3.2], 1.0, 1.0, 3.4)
    assert found == [(0, 1, [0, 1]), (1, 2, [1]), (2, 3, [1]), (3, 3.4, [2])]


def test_what_is_held_does_not_grow_with_the_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_RAW_BYTES", 20 << 20)
    most = raw = count = 0
    for item in cut((number / 25 for number in range(20_000)), 2.0, 1.0):
        if isinstance(item, WindowCutter):
            most, raw = max(most, len(item._held)), max(raw, item._raw)
        else:
            count += 1
            assert item.first <= item.numbers.min() + 50
    assert most <= 51
    assert raw <= 20 << 20
    assert count == 799


def test_a_long_window_holds_some_of_its_frames() -> None:
    most = 0
    found = []
    cutter = WindowCutter(lambda n: np.array([[0, n // 2, n - 1]]), PrepareFrame(), 400.0, 400.0)
    for number in range(10_001):
        found += cutter.add(number / 25, lambda: np.zeros((8, 8, 3), np.uint8), 0)
        most = max(most, len(cutter._held))
    assert most <= 1024
    (only,) = found
    assert np.abs(only.numbers - [[0, 5000, 9999]]).max() <= 16


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (float("nan"), 1), (2, 0), (2, -1)])
def test_windows_of_no_length_are_refused(window: float, stride: float) -> None:
    with pytest.raises(UserError, match="seconds"):
        windows.check_window(window, stride)


def frame(stamp: float | None, step: float = 0.04) -> SimpleNamespace:
    return SimpleNamespace(time=stamp, duration=round(step * 1000), time_base=Fraction(1, 1000))


def test_time_goes_on_where_time_stamps_do_not() -> None:
    clock = Clock()
    stamps = [5 + 0.04 * n for n in range(100)] + [0.04 * n for n in range(100)]  # joined
    times = np.array([clock(frame(stamp)) for stamp in stamps])
    assert times[0] == 0
    assert (np.diff(times) >= 0).all()
    assert clock.end == pytest.approx(8, abs=0.1)
    stuck = Clock()
    assert [stuck(frame(1.0)) for _ in range(1000)][-1] == pytest.approx(40, abs=2)
    leap = Clock()
    assert [leap(frame(stamp)) for stamp in (0.0, 0.04, 95_443.7, 95_443.74)][-1] < 1
    without = Clock()
    assert [without(frame(None)) for _ in range(3)] == pytest.approx([0, 0.04, 0.08])
