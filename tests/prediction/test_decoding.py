"""Frames of a decode in order with their times, and the sentences for files that have none."""

from __future__ import annotations

import io
import os
import struct
import wave
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image
from tests.data.make_videos import decode_in_order, pictures, write_video

from vidprompt.data.shards.plan import FrameSettings
from vidprompt.prediction.decoding import Clock, PrepareFrame, decode_video
from vidprompt.system.errors import DataError

ASIS = PrepareFrame()


def ends(count: int) -> np.ndarray:
    """The first, the middle and the last frame, and the first again."""
    return np.array([[0, count // 2], [count - 1, 0]])


@pytest.mark.parametrize("name", ["open_gop.mp4", "mpeg4.avi", "vp9.webm"])
def test_frames_are_those_of_a_decode_in_order(name: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, 20)
    video = decode_video(path, ends, ASIS)
    assert (video.n_frames, video.numbers.tolist(), video.note) == (20, [0, 10, 19], "")
    np.testing.assert_array_equal(video.frames, decode_in_order(path)[[0, 10, 19]])
    np.testing.assert_allclose(video.times, np.array([0, 10, 19]) / 25, atol=2e-3)
    assert video.duration == pytest.approx(20 / 25, abs=5e-3)


def test_times_are_those_of_a_variable_rate(tmp_path: Path) -> None:
    shown = [0, 1, 2, 12, 40, 41]  # in units of 1/25 s
    with av.open(str(tmp_path / "phone.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for time, picture in zip(shown, pictures(len(shown), 48, 64), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = time
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = decode_video(tmp_path / "phone.mp4", np.arange, ASIS)
    np.testing.assert_allclose(25 * video.times, shown, atol=0.05)
    assert video.duration > video.times[-1]


def test_a_clock_without_time_stamps_runs_by_the_rate_and_never_back() -> None:
    def frame(time: float | None, duration: int = 0) -> SimpleNamespace:
        return SimpleNamespace(time=time, duration=duration, time_base=1 / 25)

    clock = Clock()
    assert [clock(frame(None, 1)) for _ in range(3)] == pytest.approx([0, 0.04, 0.08])
    assert clock.end == pytest.approx(0.12)
    clock = Clock()
    assert [clock(frame(time)) for time in (3.0, 3.5, 3.2)] == pytest.approx([0, 0.5, 0.5])


def test_a_count_of_packets_that_is_wrong_costs_a_second_decode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "h264.mp4", 20)
    expected = decode_video(path, ends, ASIS)
    monkeypatch.setattr("vidprompt.prediction.decoding._count_packets", lambda *_: 26)
    video = decode_video(path, ends, ASIS)
    assert (video.n_frames, video.numbers.tolist()) == (20, [0, 10, 19])
    np.testing.assert_array_equal(video.frames, expected.frames)
    monkeypatch.setattr("vidprompt.prediction.decoding._count_packets", lambda *_: 0)
    np.testing.assert_array_equal(decode_video(path, ends, ASIS).frames, expected.frames)


def test_a_cut_file_gives_its_frames_with_a_note(tmp_path: Path) -> None:
    path = write_video(tmp_path / "mpeg4.avi", 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    video = decode_video(path, ends, ASIS)
    assert 10 < video.n_frames < 40
    assert video.numbers[-1] == video.n_frames - 1


def test_a_folder_of_images_is_a_video_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    shades = {"10.png": 200, "2.png": 100, "1.jpg": 0}
    for name, shade in shades.items():
        Image.new("RGB", (40, 30), (shade,) * 3).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    video = decode_video(tmp_path, np.arange, PrepareFrame(short_side=15))
    assert video.frames.shape == (3, 15, 20, 3)
    assert video.frames[:, 0, 0, 0].tolist() == [0, 100, 200]
    assert (video.n_frames, video.duration) == (3, 3 / 25)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: there is no image in this folder"):
        decode_video(tmp_path / "empty", np.arange, ASIS)


def test_frames_are_prepared_as_they_are_stored() -> None:
    frame = pictures(1, 60, 80)[0]
    stored = PrepareFrame(FrameSettings(short_side=30, quality=40))(frame)
    assert stored.shape == (30, 40, 3)
    buffer = io.BytesIO()
    small = Image.fromarray(frame).resize((40, 30), Image.Resampling.BICUBIC)
    small.save(buffer, "JPEG", quality=40)
    assert np.abs(stored.astype(int) - np.asarray(small)).mean() < 12
    assert not np.array_equal(stored, np.asarray(small))  # what JPEG loses is lost
    assert PrepareFrame()(frame) is frame
    bilinear = PrepareFrame(short_side=30, interpolation="bilinear")(frame)
    expected = Image.fromarray(frame).resize((40, 30), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(bilinear, np.asarray(expected))


def broken(name: str, folder: Path) -> Path:
    """A file that is no video, by what it is."""
    path = folder / name
    match name:
        case "empty.mp4":
            path.touch()
        case "text.mp4":
            path.write_text("<html>404 Not Found</html>" * 20)
        case "list.m3u8":
            path.write_text("#EXTM3U\n#EXTINF:2,\nhttp://example.org/a.ts\n#EXT-X-ENDLIST\n")
        case "noise.mkv":
            path.write_bytes(np.random.default_rng(0).bytes(5000))
        case "picture.png":
            Image.new("RGB", (20, 20)).save(path)
        case "sound.wav":
            with wave.open(str(path), "wb") as sound:
                sound.setnchannels(1)
                sound.setsampwidth(2)
                sound.setframerate(8000)
                sound.writeframes(struct.pack("<800h", *range(800)))
        case "header.mp4":
            whole = write_video(folder / "h264.mp4", 12).read_bytes()
            path.write_bytes(whole[:600])
        case "pipe.mp4":
            os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.mp4", "no such file or folder"),
        ("empty.mp4", r"it is empty \(0 bytes\)"),
        ("pipe.mp4", "it is a pipe or a device, not a file"),
        ("text.mp4", "it cannot be read as a video|it is no video"),
        ("list.m3u8", "it cannot be read as a video|it is no video"),
        ("noise.mkv", "it cannot be read as a video|no frame of it can be decoded"),
        ("picture.png", "it is no video, its content is"),
        ("sound.wav", r"it has no video stream \(wav\)"),
        ("header.mp4", "it cannot be read as a video|no frame of it can be decoded"),
    ],
)
def test_a_file_without_frames_says_why(name: str, message: str, tmp_path: Path) -> None:
    path = broken(name, tmp_path)
    with pytest.raises(DataError, match=message) as error:
        decode_video(path, np.arange, ASIS)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_pictures_over_the_limit_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "h264.mp4", 4, 96, 128)
    with pytest.raises(DataError, match="128 × 96, more than the limit of 12,000 pixels"):
        decode_video(path, np.arange, ASIS, max_pixels=12_000)
    assert decode_video(path, np.arange, ASIS, max_pixels=96 * 128).n_frames == 4
