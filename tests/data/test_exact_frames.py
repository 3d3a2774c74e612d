"""Every frame that is read is the one the ffmpeg program decodes, to the last bit."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from make_videos import COPIED, ENCODED, FRAMES, decode, is_packed, make

from vidprompt.data.decode.reader import read_frames
from vidprompt.data.frames.sampling import segment_frames
from vidprompt.data.manifest.health import Health
from vidprompt.data.probe.videos import probe_video

# What decord gives in random order is what a decode in order gives
EXACT = {
    *(
        "b_frames.mp4",
        "bt709.mp4",
        "closed_gop.mp4",
        "full_range.mp4",
        "motion_jpeg.avi",
        "mpeg4.avi",
    ),
    *(
        "odd_size.webm",
        "one_frame.mp4",
        "short.mp4",
        "starts_late.mp4",
        "variable_rate.mp4",
        "vp9.webm",
    ),
    *("rotated_90.mp4", "rotated_180.mp4", "rotated_270.mp4"),
}
# Where colour has to be interpolated, H.264 that does not say where its samples lie has them on the
# left, as the standard says; the program takes the middle unless it is told.
SCALE = {"ten_bit.mp4": "in_chroma_loc=left"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.mark.parametrize("name", [*ENCODED, *COPIED])
def test_frames_are_those_of_the_ffmpeg_program(folder: Path, name: str) -> None:
    path = make(folder, name)
    probe = probe_video(path, 1)
    assert probe.health is Health.OK
    reference = decode(path, probe.height, probe.width, SCALE.get(name, ""))
    assert probe.n_frames == len(reference)
    in_order = read_frames(path, range(probe.n_frames), exact=False)
    np.testing.assert_array_equal(in_order, reference)
    rng = np.random.default_rng(1)
    for _ in range(6):
        indices = rng.integers(0, probe.n_frames, size=8)  # unsorted, some repeated
        frames = read_frames(path, indices.tolist(), exact=probe.exact)
        np.testing.assert_array_equal(frames, reference[indices])
    # neighbours differ, so that a shift by one frame could not pass
    assert all((one != other).any() for one, other in pairwise(reference))
    assert probe.exact == (name in EXACT)


def test_a_format_that_decord_refuses_is_read_all_the_same(folder: Path) -> None:
    """Also when nobody probed it: `exact` is what random access promises, not a condition."""
    path = make(folder, "av1.webm")
    reference = decode(path, 96, 128)
    np.testing.assert_array_equal(read_frames(path, [30, 2], exact=True), reference[[30, 2]])


def test_headers_of_packed_streams_count_too_much(folder: Path) -> None:
    path = make(folder, "xvid_packed.avi")
    assert is_packed(path)
    assert not is_packed(make(folder, "mpeg4_b_frames.avi"))
    probe = probe_video(path, 1)
    assert probe.header_frames > probe.n_frames
    assert (probe.container, probe.codec) == ("avi", "mpeg4")


def test_frames_before_an_edit_lists_start_are_not_counted(folder: Path) -> None:
    probe = probe_video(make(folder, "edit_list.mp4"), 1)
    assert probe.header_frames > probe.n_frames == FRAMES - 8  # 0.3 s at 25 a second


@pytest.mark.parametrize(
    ("name", "rotation", "size"),
    [
        ("b_frames.mp4", 0, (128, 96)),
        ("rotated_90.mp4", 270, (96, 128)),  # ffmpeg's option turns counter-clockwise
        ("rotated_180.mp4", 180, (128, 96)),
        ("rotated_270.mp4", 90, (96, 128)),
        ("mirrored.mp4", 0, (128, 96)),
    ],
)
def test_rotation_is_degrees_clockwise(
    folder: Path, name: str, rotation: int, size: tuple[int, int]
) -> None:
    probe = probe_video(make(folder, name), 1)
    assert (probe.rotation, (probe.width, probe.height)) == (rotation, size)


def test_variable_rate_is_described_by_its_mean(folder: Path) -> None:
    probe = probe_video(make(folder, "variable_rate.mp4"), 1)
    assert probe.duration == pytest.approx(probe.n_frames / probe.fps, rel=0.05)
    assert probe.fps == pytest.approx(25 * 7 / 15, rel=0.05)  # 7 of 15 frames were kept


def test_a_short_video_gives_frames_repeatedly(folder: Path) -> None:
    path = make(folder, "short.mp4")
    positions = segment_frames(5, 8)
    assert positions.tolist() == [0, 0, 1, 1, 2, 3, 3, 4]  # as the released EZ-CLIP
    for exact in (True, False):
        frames = read_frames(path, positions.tolist(), exact=exact)
        np.testing.assert_array_equal(frames, decode(path, 96, 128)[positions])
