"""Folders of frames as programs write them: unpadded numbers, gaps, every n-th frame, other suffixes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidprompt.data.decode.reader import read_frames
from vidprompt.data.manifest.health import Health
from vidprompt.data.probe.videos import probe_video
from vidprompt.files.natural_order import natural_key, numbering_faults


def write(folder: Path, names: list[str]) -> Path:
    """Images whose brightness is 10 times their place in the list."""
    folder.mkdir()
    for place, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((48, 64, 3), 10 * place, np.uint8)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    "names",
    [
        [f"{i}.png" for i in range(1, 13)],
        [f"Frame {i}.PNG" if i % 2 else f"frame {i}.png" for i in range(12)],
        [f"cam2_{i}_left.png" for i in range(0, 60, 5)],
        ["shot.png", *(f"shot ({i}).png" for i in range(2, 13))],
        [f"{i:04d}.tif" for i in range(12)],
    ],
)
def test_frames_are_read_as_they_are_numbered(tmp_path: Path, names: list[str]) -> None:
    folder = write(tmp_path / "v", names)
    frames = read_frames(folder, range(12), "frames")
    assert frames[:, 0, 0, 0].tolist() == [10 * place for place in range(12)]
    probe = probe_video(folder, 4, "frames")
    assert (probe.health, probe.detail, probe.n_frames) == (Health.OK, "", 12)


def test_gaps_and_repeats_are_reported(tmp_path: Path) -> None:
    folder = write(tmp_path / "v", ["1.png", "2.png", "3.png", "9.png", "9.bmp", "10.png"])
    probe = probe_video(folder, 4, "frames")
    assert probe.health is Health.OK
    assert probe.detail == (
        "5 images are missing in the numbers 1 to 10: 4–8. 1 image repeats a number: 9.png."
    )


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["1.jpg"], ""),
        (["0.jpg", "5.jpg", "10.jpg", "20.jpg"], "1 image is missing in the numbers 0 to 20: 15."),
        (["a.jpg", "b.jpg"], ""),
        (["1_1.jpg", "2_9.jpg"], ""),  # which number counts is not known
    ],
)
def test_only_one_running_number_is_judged(names: list[str], fault: str) -> None:
    assert numbering_faults(names) == fault


def test_the_order_does_not_depend_on_the_folders() -> None:
    names = ["10.jpg", "01.jpg", "1.jpg", "1.png", "a1.jpg", "A2.jpg", "²3.jpg", "x" + "9" * 250]
    order = sorted(names, key=natural_key)
    names.reverse()
    assert sorted(names, key=natural_key) == order
