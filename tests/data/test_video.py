from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from make_videos import CODECS, decode_in_order, write_video
from PIL import Image

from vidprompt.data.decode.reader import read_frames
from vidprompt.data.manifest.health import HEALTH_SENTENCES, Health
from vidprompt.data.probe.result import Limits, ProbeResult
from vidprompt.data.probe.videos import probe_many, probe_progressively, probe_video
from vidprompt.system.errors import DataError


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {name: write_video(folder / name) for name in CODECS}


def cut(source: Path, target: Path, share: float) -> Path:
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def faststart(source: Path, target: Path) -> Path:
    """The same packets with the index in front, as files on the web have it."""
    options = {"movflags": "faststart"}
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                new.mux(packet)
    return target


@pytest.mark.parametrize("name", sorted(CODECS))
def test_frames_are_those_of_a_decode_in_order(videos: dict[str, Path], name: str) -> None:
    reference = decode_in_order(videos[name])
    probe = probe_video(videos[name], 8)
    assert (probe.health, probe.detail) == (Health.OK, "")
    assert (probe.n_frames, probe.width, probe.height) == (48, 128, 96)
    assert probe.fps == pytest.approx(25)
    assert probe.duration == pytest.approx(48 / 25, abs=0.01)
    assert probe.size == videos[name].stat().st_size
    rng = np.random.default_rng(1)
    for _ in range(8):
        indices = rng.integers(0, 48, size=7).tolist()  # unsorted, some repeated
        frames = read_frames(videos[name], indices, exact=probe.exact)
        assert frames.dtype == np.uint8
        np.testing.assert_array_equal(frames, reference[indices])


def test_random_access_is_trusted_only_where_it_is_right(videos: dict[str, Path]) -> None:
    exact = {name: probe_video(path, 8).exact for name, path in videos.items()}
    assert exact == {
        "h264.mp4": True,
        "open_gop.mp4": False,
        "mpeg4.avi": False,
        "vp9.webm": True,
    }


def test_random_access_that_is_right_by_luck_is_not_trusted(tmp_path: Path) -> None:
    """B-frames in an AVI: decord's last frames are right in most readings, not in all."""
    path = write_video(tmp_path / "one_group.avi", n=10, kind="mpeg4.avi")
    assert [probe_video(path, 8).exact for _ in range(10)] == [False] * 10


def test_codec_is_named_as_the_format_is(videos: dict[str, Path]) -> None:
    codecs = [probe_video(videos[name], 8).codec for name in ("h264.mp4", "mpeg4.avi", "vp9.webm")]
    assert codecs == ["h264", "mpeg4", "vp9"]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("index", [48, -1])
def test_index_out_of_range_names_file_and_index(
    videos: dict[str, Path], exact: bool, index: int
) -> None:
    with pytest.raises(DataError, match=rf"h264\.mp4: frame {index} is out of range"):
        read_frames(videos["h264.mp4"], [0, index], exact=exact)


@pytest.mark.parametrize(
    ("name", "content", "health"),
    [
        ("zero.mp4", b"", Health.EMPTY),
        ("text.avi", b"this is not a video\n" * 50, Health.NOT_A_VIDEO),
        ("noise.mp4", np.random.default_rng(0).bytes(30_000), Health.NOT_A_VIDEO),
        ("absent.mp4", None, Health.MISSING),
    ],
)
def test_broken_file_has_a_reason(
    tmp_path: Path, name: str, content: bytes | None, health: Health
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    probe = probe_video(path, 8)
    assert probe.health == health
    assert probe.detail
    assert (probe.n_frames, probe.width, probe.exact) == (0, 0, False)
    with pytest.raises(DataError, match=name):
        read_frames(path, [0])


@pytest.mark.parametrize("name", ["h264.mp4", "mpeg4.avi", "vp9.webm"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_cut_file_is_truncated(
    videos: dict[str, Path], tmp_path: Path, name: str, share: float
) -> None:
    probe = probe_video(cut(videos[name], tmp_path / name, share), 8)
    assert probe.health == Health.TRUNCATED
    assert "bytes are missing at its end" in probe.detail
    assert probe.n_frames == 0


def test_cut_mp4_with_its_index_in_front_is_truncated(
    videos: dict[str, Path], tmp_path: Path
) -> None:
    whole = faststart(videos["h264.mp4"], tmp_path / "whole.mp4")
    assert probe_video(whole, 8).health == Health.OK
    probe = probe_video(cut(whole, tmp_path / "cut.mp4", 0.7), 8)
    assert probe.health == Health.TRUNCATED
    assert "of about 48 frames" in probe.detail


def test_file_that_was_filled_with_zeros_is_truncated(
    videos: dict[str, Path], tmp_path: Path
) -> None:
    """A download that reserved its space first has the right length."""
    data = videos["mpeg4.avi"].read_bytes()
    path = tmp_path / "reserved.avi"
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    assert probe_video(path, 8).health == Health.TRUNCATED


def test_avi_without_its_closing_index_is_not_broken(
    videos: dict[str, Path], tmp_path: Path
) -> None:
    data = videos["mpeg4.avi"].read_bytes()
    path = tmp_path / "no_index.avi"
    path.write_bytes(data[: data.index(b"idx1")])
    probe = probe_video(path, 8)
    assert (probe.health, probe.n_frames) == (Health.OK, 48)
    np.testing.assert_array_equal(
        read_frames(path, [40, 3], exact=probe.exact),
        decode_in_order(videos["mpeg4.avi"])[[40, 3]],
    )


def test_title_that_is_not_utf8_does_not_matter(videos: dict[str, Path], tmp_path: Path) -> None:
    data = videos["mpeg4.avi"].read_bytes()
    assert b"Lavf" in data
    path = tmp_path / "latin1.avi"
    path.write_bytes(data.replace(b"Lavf", b"L\xe9vf"))
    assert probe_video(path, 8).health == Health.OK
    assert read_frames(path, [7], exact=False).shape == (1, 96, 128, 3)


def test_sound_alone_has_no_video_stream(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for start in range(0, 16000, 1024):
            samples = np.zeros((1, 1024), dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert probe_video(path, 8).health == Health.NO_VIDEO_STREAM


def test_an_image_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "picture.mp4"
    Image.new("RGB", (64, 64), "red").save(path, format="png")
    assert probe_video(path, 1).health == Health.NOT_A_VIDEO


def test_one_frame_is_too_few_but_not_broken(tmp_path: Path) -> None:
    path = write_video(tmp_path / "one.mp4", n=1, kind="h264.mp4")
    probe = probe_video(path, 8)
    assert probe.health == Health.TOO_FEW_FRAMES
    assert (probe.n_frames, probe.width, probe.height) == (1, 128, 96)
    assert "1 frame; 8 are needed" in probe.detail
    assert probe_video(path, 1).health == Health.OK
    assert read_frames(path, [0, 0, 0], exact=probe.exact).shape == (3, 96, 128, 3)


def test_rotated_video_is_read_upright(videos: dict[str, Path], tmp_path: Path) -> None:
    data = bytearray(videos["h264.mp4"].read_bytes())
    track = data.index(b"tkhd")
    matrix = track + 4 + 40  # version 0: the matrix follows 40 bytes
    turn = [(0, 1), (1, 0x10000), (3, -0x10000), (4, 0)]  # 90 degrees clockwise
    for cell, value in [(0, 0), *turn[1:]]:
        place = matrix + 4 * cell
        data[place : place + 4] = value.to_bytes(4, "big", signed=True)
    path = tmp_path / "turned.mp4"
    path.write_bytes(bytes(data))
    probe = probe_video(path, 8)
    assert (probe.health, probe.width, probe.height) == (Health.OK, 96, 128)
    expected = np.rot90(decode_in_order(videos["h264.mp4"])[[5]], -1, axes=(1, 2))
    np.testing.assert_array_equal(read_frames(path, [5], exact=False), expected)
    np.testing.assert_array_equal(read_frames(path, [5], exact=probe.exact), expected)


def tracklet(folder: Path, n: int = 5) -> Path:
    folder.mkdir()
    for number in range(n):
        color = (40 * number, 10, 200)
        Image.new("RGB", (32, 64), color).save(folder / f"{number:04d}.png")
    (folder / ".hidden.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_folder_of_images(tmp_path: Path) -> None:
    folder = tracklet(tmp_path / "person")
    probe = probe_video(folder, 4, "frames")
    assert (probe.health, probe.n_frames, probe.width, probe.height) == (Health.OK, 5, 32, 64)
    assert (probe.codec, probe.exact, probe.fps) == ("png", True, 0.0)
    frames = read_frames(folder, [3, 1, 3], kind="frames")
    assert frames.shape == (3, 64, 32, 3)
    assert frames[:, 0, 0, 0].tolist() == [120, 40, 120]
    with pytest.raises(DataError, match="person: frame 5 is out of range"):
        read_frames(folder, [5], kind="frames")
    assert probe_video(folder, 8, "frames").health == Health.TOO_FEW_FRAMES


def test_broken_folder_has_a_reason(tmp_path: Path) -> None:
    assert probe_video(tmp_path / "absent", 4, "frames").health == Health.MISSING
    (tmp_path / "bare").mkdir()
    assert probe_video(tmp_path / "bare", 4, "frames").health == Health.EMPTY
    hollow = tracklet(tmp_path / "hollow")
    (hollow / "0003.png").write_bytes(b"")
    probe = probe_video(hollow, 4, "frames")
    assert probe.health == Health.UNDECODABLE
    assert "0003.png" in probe.detail
    garbled = tracklet(tmp_path / "garbled")
    (garbled / "0000.png").write_bytes(b"garbage")
    assert probe_video(garbled, 4, "frames").health == Health.UNDECODABLE


def test_images_of_another_size_are_brought_to_the_first(tmp_path: Path) -> None:
    folder = tracklet(tmp_path / "mixed")
    Image.new("RGB", (50, 80)).save(folder / "0002.png")
    assert read_frames(folder, [2], kind="frames").shape == (1, 64, 32, 3)


def misbehave(path: Path, kind: str, max_pixels: int) -> Iterator[ProbeResult]:
    """A decoder with the faults that real ones have, chosen by the file's name."""
    if path.stem == "hangs":
        time.sleep(600)
    if path.stem == "segfaults":
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.stem == "raises":
        raise ValueError("surprise")
    for probe in probe_progressively(path, kind, max_pixels):
        yield probe
        if path.stem == "hangs_in_random_access":
            time.sleep(600)


def test_decoder_that_hangs_or_dies_costs_its_file_only(
    videos: dict[str, Path], tmp_path: Path
) -> None:
    names = ["good", "hangs", "segfaults", "raises", "hangs_in_random_access", "good_too"]
    data = videos["h264.mp4"].read_bytes()
    for name in names:
        (tmp_path / f"{name}.mp4").write_bytes(data)
    items = [(tmp_path / f"{name}.mp4", "video") for name in names]
    seen: list[tuple[int, int]] = []
    progress = lambda done, total: seen.append((done, total))  # noqa: E731
    probes = probe_many(items, 8, 2, Limits(timeout_s=4), progress=progress, function=misbehave)
    expected = [
        Health.OK,
        Health.TIMED_OUT,
        Health.CRASHED,
        Health.UNDECODABLE,
        Health.OK,
        Health.OK,
    ]
    assert [probe.health for probe in probes] == expected
    assert [probe.exact for probe in probes] == [True, False, False, False, False, True]
    assert "SIGSEGV" in probes[2].detail
    assert "surprise" in probes[3].detail
    assert probes[1].size == len(data)
    assert seen == [(done, 6) for done in range(1, 7)]


def test_probes_come_in_the_order_of_the_items(videos: dict[str, Path], tmp_path: Path) -> None:
    short = [write_video(tmp_path / f"{n}.mp4", n=n, kind="h264.mp4") for n in range(1, 7)]
    folder = tracklet(tmp_path / "person")
    items = [(path, "video") for path in (*short, tmp_path / "absent.mp4")] + [(folder, "frames")]
    probes = probe_many(items, 3, workers=2)
    assert [probe.n_frames for probe in probes] == [1, 2, 3, 4, 5, 6, 0, 5]
    assert [probe.health for probe in probes[:3]] == [Health.TOO_FEW_FRAMES] * 2 + [Health.OK]
    assert probe_many([], 3, workers=2) == []


def test_every_reason_has_its_sentence() -> None:
    assert set(HEALTH_SENTENCES) == set(Health)
    assert all(health.sentence.endswith(".") for health in Health)


def test_workers_do_not_load_torch() -> None:
    modules = "vidprompt.data.probe.videos, vidprompt.data.shards.cache_build"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
