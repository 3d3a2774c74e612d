"""decord, decord2 and PyAV on the kinds of files that action datasets are made of: right, and how fast?

    python benchmarks/decoders.py                                   # decord and PyAV of this environment
    python benchmarks/decoders.py --decord2 /tmp/d2/bin/python      # and decord2, of another environment

decord and decord2 are imported by the same name, so the second needs an environment of its own:
`uv venv /tmp/d2; uv pip install --python /tmp/d2/bin/python decord2 av numpy pillow`. Videos of 10 seconds
(25 frames a second; one of 60) are encoded with the ffmpeg program from a test card. The truth is a decode
in order. For each reader: how many of 8 uniform frames, and of 40 batches of 8 random ones, are wrong;
milliseconds for the 8 uniform frames from a file not yet open (median of 9, one thread). Writes
`benchmarks/results/decoders.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks/results/decoders.json"
CLIP, BATCHES, TIMES = 8, 40, 9

_PLAIN = ("-pix_fmt", "yuv420p", "-frames:v", "250")  # unless the encoder's options say otherwise
_H264 = ("-c:v", "libx264", "-preset", "fast", "-pix_fmt", "yuv420p")
_X265 = ("-c:v", "libx265", "-preset", "fast", "-x265-params", "log-level=error:keyint=48")
VIDEOS: dict[str, tuple[str, tuple[str, ...]]] = {  # name → size, encoder
    "h264_256.mp4": ("256x256", (*_H264, "-g", "48")),
    "h264_256_60_s.mp4": ("256x256", (*_H264, "-g", "48", "-frames:v", "1500")),
    "h264_256_keyframe_each_half_s.mp4": ("256x256", (*_H264, "-g", "12")),
    "h264_320.mp4": ("320x240", (*_H264, "-g", "48")),
    "h264_256_keyframe_each_10_s.mp4": ("256x256", (*_H264, "-g", "250")),
    "h264_256_open_gop.mp4": (
        "256x256",
        (*_H264, "-x264-params", "open-gop=1:keyint=48:scenecut=0"),
    ),
    "h264_720p.mp4": ("1280x720", (*_H264, "-g", "250")),
    "h264_256_10_bit.mp4": ("256x256", (*_H264, "-g", "48", "-pix_fmt", "yuv420p10le")),
    "hevc_256.mp4": ("256x256", (*_X265, "-pix_fmt", "yuv420p")),
    "vp9_256.webm": (
        "256x256",
        ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "128"),
    ),
    "av1_256.mp4": ("256x256", ("-c:v", "libaom-av1", "-cpu-used", "8", "-g", "128")),
    "xvid_packed_320.avi": ("320x240", ("-c:v", "libxvid", "-bf", "2", "-g", "48", "-q:v", "4")),
    "xvid_320.avi": ("320x240", ("-c:v", "libxvid", "-g", "48", "-q:v", "4")),
    "mpeg4_b_frames_320.avi": ("320x240", ("-c:v", "mpeg4", "-bf", "2", "-g", "12", "-q:v", "4")),
}


def make_videos(folder: Path) -> None:
    import imageio_ffmpeg

    run = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y"]
    for name, (size, encoder) in VIDEOS.items():
        card = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25"]
        subprocess.run([*run, *card, *_PLAIN, *encoder, str(folder / name)], check=True)
    source = str(folder / "h264_320.mp4")
    for name, before in {
        "h264_320_rotated_90.mp4": ("-display_rotation", "90"),
        "h264_320_edit_list.mp4": ("-ss", "0.5"),
    }.items():
        command = [*run, *before, "-i", source, "-c", "copy", str(folder / name)]
        subprocess.run(command, check=True)


def measure(folder: Path) -> dict[str, Any]:
    """Of the decord that this environment has, and of a decode in order by PyAV."""
    from importlib.metadata import PackageNotFoundError, version

    import decord

    from vidprompt.data.decode.reader import read_frames
    from vidprompt.data.probe.videos import probe_video

    decord.logging.set_level(decord.logging.QUIET)
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        began = time.perf_counter()
        probe = probe_video(path, CLIP)
        probing = time.perf_counter() - began
        truth = read_frames(path, range(probe.n_frames), exact=False)
        uniform = ((2 * np.arange(CLIP) + 1) * probe.n_frames // (2 * CLIP)).tolist()
        rng = np.random.default_rng(0)
        draws = [np.unique(rng.integers(0, probe.n_frames, CLIP)).tolist() for _ in range(BATCHES)]

        def by_decord(indices: list[int], path: Path = path) -> Any:
            return decord.VideoReader(str(path), num_threads=1).get_batch(indices).asnumpy()

        def in_order(indices: list[int], path: Path = path) -> Any:
            return read_frames(path, indices, exact=False)

        row: dict[str, Any] = {"frames": probe.n_frames, "exact": probe.exact}
        row["probe_ms"] = round(1000 * probing, 1)
        row["in_order_ms"] = _ms(in_order, uniform)
        try:
            row["wrong_of_8_uniform"] = _wrong(by_decord(uniform), truth[uniform])
            row["wrong_of_random"] = sum(_wrong(by_decord(draw), truth[draw]) for draw in draws)
            row["random"] = sum(map(len, draws))
            row["random_access_ms"] = _ms(by_decord, uniform)
        except (decord.DECORDError, RuntimeError):
            row["refused"] = True
        found[path.name] = row
    versions = {}
    for name in ("decord", "decord2", "av"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"versions": versions, "videos": found}


def _wrong(frames: Any, truth: Any) -> int:
    if frames.shape != truth.shape:
        return len(truth)
    return int((frames != truth).any(axis=(1, 2, 3)).sum())


def _ms(read: Callable[[list[int]], Any], indices: list[int]) -> float:
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        read(indices)
        taken.append(time.perf_counter() - began)
    return round(1000 * median(taken), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--decord2", metavar="PYTHON", help="of an environment that has decord2")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure)))
        return
    from benchmarks.machine import provenance

    result: dict[str, Any] = {}
    pythons = {"decord": sys.executable, "decord2": arguments.decord2}
    with tempfile.TemporaryDirectory() as name:
        make_videos(Path(name))
        for reader, python in pythons.items():
            if python is None:
                continue
            command = [python, __file__, "--measure", name]
            environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            result[reader] = json.loads(done.stdout)
    OUT.write_text(json.dumps(result | provenance(), indent=1, sort_keys=True) + "\n")
    print(OUT.read_text("utf-8"))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
