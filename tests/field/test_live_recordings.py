"""Recordings written to a pipe: a header without a length is no damage, a piece that is cut is."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

from vidprompt.data.manifest.health import Health
from vidprompt.data.probe.container import check_container
from vidprompt.data.probe.videos import probe_video

FRAMES = 20
MPEG4 = ("-c:v", "mpeg4", "-q:v", "4")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "10")
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-b:v", "1M")
FRAGMENTS = ("-movflags", "frag_keyframe+empty_moov")
SOUND = ("-c:a", "mp2")
# name → how it is encoded
WRITTEN = {
    "a.avi": (*MPEG4, "-f", "avi"),
    "sound.avi": (*MPEG4, *SOUND, "-f", "avi"),
    "a.mp4": (*H264, *FRAGMENTS, "-f", "mp4"),
    "a.mkv": (*H264, "-f", "matroska"),
    "sound.mkv": (*H264, *SOUND, "-f", "matroska"),
    "endless_clusters.mkv": (*H264, "-live", "1", "-f", "matroska"),
    "a.webm": (*VP8, "-f", "webm"),
    "a.ts": (*H264, "-f", "mpegts"),
    "a.m2ts": (*H264, "-mpegts_m2ts_mode", "1", "-f", "mpegts"),
    "a.flv": (*H264, "-f", "flv"),
    "a.wmv": ("-c:v", "wmv2", "-f", "asf"),
    "a.ogv": ("-c:v", "libtheora", "-f", "ogg"),
    "a.gif": ("-c:v", "gif", "-f", "gif"),
}
# These show no cut of a file that was written to a pipe: an ASF of a recording has packets of any number
UNSEEN_WHEN_LIVE = ("a.wmv",)


def write(path: Path, live: bool) -> Path:
    """Encode a test card (and a tone) to a pipe, as a recorder does, or to the file itself."""
    picture = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25")
    tone = ("-f", "lavfi", "-i", "sine", "-shortest") if path.name.startswith("sound") else ()
    out = "-" if live else str(path)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *picture, *tone]
    command += ["-frames:v", str(FRAMES), *WRITTEN[path.name], out]
    done = subprocess.run(command, capture_output=True, check=True)
    if live:
        path.write_bytes(done.stdout)
    return path


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    end = int(len(data) * share)
    while min(end % 188, end % 192) < 8:  # not between two packets of MPEG-TS
        end += 1
    path.write_bytes(data[:end])
    return path


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("name", WRITTEN)
def test_whole_is_ok_and_cut_is_truncated(tmp_path: Path, name: str, live: bool) -> None:
    path = write(tmp_path / name, live)
    assert check_container(path).missing == 0
    probe = probe_video(path, 1)
    assert (probe.health, probe.n_frames, probe.detail) == (Health.OK, FRAMES, "")
    assert probe.header_frames in (0, FRAMES) or name == "a.mp4"
    assert probe.fps == pytest.approx(25, rel=0.02)
    if live and name in UNSEEN_WHEN_LIVE:
        return
    probe = probe_video(cut(path, 0.6), 1)
    assert (probe.health, probe.n_frames) == (Health.TRUNCATED, 0)
    assert "missing" in probe.detail


def test_the_reason_says_what_to_do_with_a_recording_that_was_stopped(tmp_path: Path) -> None:
    probe = probe_video(cut(write(tmp_path / "a.mkv", live=True), 0.6), 1)
    assert "its header does not say how many there were" in probe.detail
    assert "ffmpeg -i FILE -c copy NEW" in probe.detail


@pytest.mark.parametrize("unknown", [0, 2**30, 2**31 - 1, 2**32 - 1])
def test_an_avi_with_a_count_that_is_none(tmp_path: Path, unknown: int) -> None:
    """Also where the rest of the header is complete."""
    path = write(tmp_path / "a.avi", live=False)
    data = bytearray(path.read_bytes())
    at = data.index(b"strh") + 8 + 32
    data[at : at + 4] = struct.pack("<I", unknown)
    path.write_bytes(data)
    probe = probe_video(path, 1)
    assert (probe.health, probe.n_frames, probe.header_frames) == (Health.OK, FRAMES, 0)
    assert probe_video(cut(path, 0.6), 1).health is Health.TRUNCATED


@pytest.mark.parametrize("unknown", [0, 2**31 - 1, 2**32 - 1])
def test_an_avi_whose_lists_have_no_length(tmp_path: Path, unknown: int) -> None:
    path = write(tmp_path / "a.avi", live=False)
    data = bytearray(path.read_bytes())
    for at in (4, data.index(b"movi") - 4, data.index(b"strh") + 8 + 32):
        data[at : at + 4] = struct.pack("<I", unknown)
    path.write_bytes(data)
    probe = probe_video(path, 1)
    assert (probe.health, probe.n_frames, probe.detail) == (Health.OK, FRAMES, "")
    path.write_bytes(data[: data.index(b"idx1") + 30])  # all pictures, and half of the index
    assert probe_video(path, 1).health is Health.OK
    assert probe_video(cut(path, 0.6), 1).health is Health.TRUNCATED


@pytest.mark.parametrize("seconds", [0.0, float("nan"), 1e12])
def test_a_matroska_duration_that_is_none(tmp_path: Path, seconds: float) -> None:
    path = write(tmp_path / "a.mkv", live=False)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3
    data[at : at + 8] = struct.pack(">d", seconds)
    path.write_bytes(data)
    assert probe_video(path, 1).health is Health.OK
    assert probe_video(cut(path, 0.6), 1).health is Health.TRUNCATED


def test_a_gif_without_its_last_byte_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gif", live=True)
    path.write_bytes(path.read_bytes()[:-1])
    assert probe_video(path, 1).health is Health.OK


def test_bytes_behind_the_end_of_a_container_do_not_matter(tmp_path: Path) -> None:
    for name in ("a.avi", "a.mkv", "a.flv", "a.ogv", "a.gif"):
        path = write(tmp_path / name, live=True)
        path.write_bytes(path.read_bytes() + bytes(1000))
        assert check_container(path).missing == 0, name
