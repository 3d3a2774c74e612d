"""Video intake: decoding, building the frame cache, and what training reads from it.

    python benchmarks/video.py             # about 5 minutes on two cores
    python benchmarks/video.py --quick     # a try; writes no file

Makes its videos: 10 seconds, 340 × 256, 25 frames a second, a textured scene that pans and trembles, as
H.264 (x264's defaults: a key frame every 250 frames), H.264 with a key frame every 12, MPEG-4 AVI with
B-frames and VP9. Everything is measured in one process on one core (torch and the decoders with one
thread), files in the system's cache, and compared as ratios within this run; of times the median over
rounds in which the variants take turns. Writes `benchmarks/results/video.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance

from vidprompt.data.clips.augmentation import Augmentation, training_view
from vidprompt.data.clips.reading import to_clip
from vidprompt.data.clips.training import TrainingClips
from vidprompt.data.decode.reader import read_frames
from vidprompt.data.frames.cache import INDEX, PARAMETERS, FrameCache
from vidprompt.data.frames.sampling import clip_rng, segment_frames, training_frames
from vidprompt.data.probe.videos import probe_video
from vidprompt.data.shards.cache_build import build_frame_cache, index_writer
from vidprompt.data.shards.plan import FrameRow, FrameSettings

OUT = ROOT / "benchmarks/results/video.json"
SECONDS, RATE, HEIGHT, WIDTH, T = 10, 25, 256, 340, 8
AUGMENTATION = Augmentation(scales=[1.0, 0.875, 0.75, 0.66], flip=True)  # as both methods crop
CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("mp4", "libx264", {"preset": "veryfast"}),
    "h264 gop 12": ("mp4", "libx264", {"preset": "veryfast", "g": "12"}),
    "mpeg4 avi": ("avi", "mpeg4", {"g": "12", "bf": "2", "qscale": "4"}),
    "vp9": ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
}
LIMITS = {  # at least
    "shards / decoding the video each time": 8.0,
    "shards / a file a frame": 1.0,
    "JPEG library alone / whole loader": 0.6,
}


def scene(seed: int) -> np.ndarray:
    """A smooth random texture with grain, larger than the picture: uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
    large = Image.fromarray(coarse).resize((WIDTH + 160, HEIGHT + 120), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 5, (HEIGHT + 120, WIDTH + 160, 1))
    return np.clip(np.asarray(large) + grain, 0, 255).astype(np.uint8)


def write_video(path: Path, codec: str, options: dict[str, str], seed: int) -> None:
    whole = scene(seed)
    rng = np.random.default_rng(seed)
    sensor = rng.normal(0, 3, (8, HEIGHT, WIDTH, 1)).round().astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(SECONDS * RATE):
            x, y = number * 150 // (SECONDS * RATE), int(50 + 40 * np.sin(number / 20))
            x, y = x + int(rng.integers(3)), y + int(rng.integers(3))
            noise = sensor[number % len(sensor)]
            picture = np.clip(whole[y : y + HEIGHT, x : x + WIDTH] + noise, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def median_times(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each, the variants taking turns."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, call in variants.items():
            began = time.perf_counter()
            call()
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def decoding(folder: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds for 8 evenly spaced frames, as `read_frames` takes them."""
    paths, exact = {}, {}
    for name, (suffix, codec, options) in CODECS.items():
        paths[name] = folder / f"{name.replace(' ', '_')}.{suffix}"
        write_video(paths[name], codec, options, 0)
        exact[name] = probe_video(paths[name], T).exact
    wanted = segment_frames(SECONDS * RATE, T).tolist()
    variants: dict[str, Callable[[], object]] = {}
    for name, path in paths.items():
        for way in {exact[name], False}:
            label = f"{name}, {'random access' if way else 'in order'}"
            variants[label] = partial(read_frames, path, wanted, exact=way)
    times = median_times(variants, rounds)
    return {name: round(1000 * seconds, 1) for name, seconds in sorted(times.items())}


def building(rows: list[FrameRow], folder: Path) -> dict[str, Any]:
    """Videos cached a second by one worker process."""
    settings = FrameSettings()
    began = time.perf_counter()
    summary = build_frame_cache(rows, settings, {}, folder / "frames", workers=1)
    seconds = time.perf_counter() - began
    source = sum(row.path.stat().st_size for row in rows)
    return {
        "videos a second and core": round(len(rows) / seconds, 2),
        "kB a video": round(summary["bytes"] / len(rows) / 1000),
        "kB a source video": round(source / len(rows) / 1000),
        "frames a video": settings.frames,
    }


def loading(rows: list[FrameRow], folder: Path, rounds: int) -> dict[str, Any]:
    """Training clips a second on one core: from shards, from videos, from a file a frame."""
    ids = [row.video_id for row in rows]
    clips = TrainingClips(
        folder / "frames", ids, [0] * len(ids), num_frames=T, size=224, augmentation=AUGMENTATION
    )
    single = folder / "single"
    files = 0
    for number, row in enumerate(rows):
        (single / str(number)).mkdir(parents=True)
        frames = clips.cache.read_encoded(row.video_id, range(clips.cache.num_frames(row.video_id)))
        for place, data in enumerate(frames):
            (single / str(number) / f"{place:05d}.jpg").write_bytes(data)
            files += 1
    epoch = iter(range(1_000_000))

    def from_shards() -> None:
        e = next(epoch)
        for index in range(len(ids)):
            clips[(e, index)]

    def from_videos() -> None:
        e = next(epoch)
        for row in rows:
            rng = clip_rng(0, e, row.video_id)
            positions = training_frames("segment", row.n_frames, T, 1, rng)
            clip = to_clip(read_frames(row.path, positions.tolist(), exact=row.exact))
            training_view(clip, 224, AUGMENTATION, rng)

    def from_files() -> None:
        e = next(epoch)
        for index, video in enumerate(ids):
            rng = clip_rng(0, e, video)
            frames = []
            for position in training_frames("segment", 32, T, 1, rng):
                with Image.open(single / str(index) / f"{position:05d}.jpg") as image:
                    frames.append(np.asarray(image.convert("RGB")))
            training_view(to_clip(np.stack(frames)), 224, AUGMENTATION, rng)

    encoded = []
    for index, video in enumerate(ids):
        rng = clip_rng(0, 0, video)
        positions = np.unique(training_frames("segment", 32, T, 1, rng))
        encoded += clips.cache.read_encoded(index, positions)

    tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in encoded]

    def library_alone() -> None:
        for tensor in tensors:
            decode_jpeg(tensor, mode=ImageReadMode.RGB)

    variants = {
        "shards": from_shards, "videos": from_videos, "a file a frame": from_files,
        "JPEG library alone": library_alone,
    }  # fmt: skip
    times = median_times(variants, rounds)
    rate = {name: round(len(ids) / seconds, 1) for name, seconds in times.items()}
    return {
        "clips a second and core": rate,
        "shards / decoding the video each time": round(times["videos"] / times["shards"], 2),
        "shards / a file a frame": round(times["a file a frame"] / times["shards"], 2),
        "JPEG library alone / whole loader": round(
            times["JPEG library alone"] / times["shards"], 2
        ),
        "files": {"shards": len(list((folder / "frames").iterdir())), "a file a frame": files},
    }


# -- an index of many rows ----------------------------------------------------------------------


def blown_up(source: Path, folder: Path, count: int) -> float:
    """A cache with `count` rows that share the frames of a small one; seconds to write its index."""
    folder.mkdir()
    for path in source.glob("shard-*.tar"):
        os.link(path, folder / path.name)
    shard = json.loads(next(source.glob("shard-*.json")).read_text("utf-8"))
    rows = shard["rows"]
    began = time.perf_counter()
    with index_writer(folder / INDEX) as write:
        for start in range(0, count, 500):
            numbers = range(start, min(count, start + 500))
            write([rows[n % len(rows)] | {"video_id": f"v{n:09d}"} for n in numbers])
    seconds = time.perf_counter() - began
    (folder / PARAMETERS).write_text((source / PARAMETERS).read_text("utf-8"))
    return seconds


def one_worker(folder: Path, count: int) -> dict[str, Any]:
    """In a process of its own, as a loader's worker: memory, and time to open and to read."""
    began = time.perf_counter()
    cache = FrameCache(folder)
    opened = time.perf_counter() - began
    names = [f"v{n:09d}" for n in range(count)]
    began = time.perf_counter()
    clips = TrainingClips(
        folder, names, [0] * count, num_frames=T, size=224, augmentation=AUGMENTATION
    )
    listed = time.perf_counter() - began
    del names, cache
    order = np.random.default_rng(0).integers(count, size=400)
    for index in order[:20]:
        clips[(0, int(index))]
    began = time.perf_counter()
    for index in order:
        clips[(1, int(index))]
    clip_ms = (time.perf_counter() - began) / len(order) * 1000
    status = dict(
        line.split(":", 1)
        for line in Path("/proc/self/status").read_text("utf-8").splitlines()
        if ":" in line
    )
    memory = {
        name: int(status[key].split()[0]) / 1000
        for name, key in (("all", "VmRSS"), ("own", "RssAnon"))
    }
    return {
        "ms to open": round(1000 * opened, 1),
        "µs to look a name up": round(1e6 * listed / count, 2),
        "ms a clip": round(clip_ms, 2),
        "MB of memory": {name: round(value) for name, value in memory.items()},
    }


def scaling(source: Path, folder: Path, counts: list[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for count in counts:
        seconds = blown_up(source, folder / str(count), count)
        command = [sys.executable, __file__, "--worker", str(folder / str(count)), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[f"{count:,} rows"] = json.loads(done.stdout) | {
            "µs a row to write the index": round(1e6 * seconds / count, 1)
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.worker:
        print(json.dumps(one_worker(Path(arguments.worker[0]), int(arguments.worker[1]))))
        return
    videos, rounds = (6, 2) if arguments.quick else (24, 5)
    counts = [1_000, 10_000] if arguments.quick else [1_000, 10_000, 100_000, 240_000]
    with tempfile.TemporaryDirectory(prefix="vidprompt-") as name:
        folder = Path(name)
        figures: dict[str, Any] = {"ms for 8 frames": decoding(folder, rounds)}
        rows = []
        for number in range(videos):
            path = folder / f"video-{number}.mp4"
            write_video(path, *CODECS["h264"][1:], number)
            probe = probe_video(path, T)
            rows.append(
                FrameRow(
                    f"v/{number:03d}",
                    path,
                    "video",
                    probe.n_frames,
                    probe.exact,
                    "v",
                    HEIGHT,
                    WIDTH,
                )
            )
        figures["cache"] = building(rows, folder)
        figures["loader"] = loading(rows, folder, rounds)
        figures["index"] = scaling(folder / "frames", folder, counts)
    missed = [name for name, least in LIMITS.items() if figures["loader"][name] < least]
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    print("missed: " + (", ".join(missed) or "nothing"))
    if not arguments.quick:
        setting = f"{videos} videos of {SECONDS} s, {WIDTH} × {HEIGHT}, {RATE} frames/s; {T} frames a clip"
        result = provenance() | figures | {"limits": LIMITS, "missed": missed, "setting": setting}
        text = json.dumps(result, indent=1, sort_keys=True, ensure_ascii=False)
        OUT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
