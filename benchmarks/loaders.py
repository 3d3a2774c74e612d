"""Training clips a second from our frame cache, beside what people use otherwise.

    pip install webdataset litdata torchcodec     # what does not run here is left out, and said
    python benchmarks/loaders.py --data FOLDER    # about 9 minutes on two cores, the first time 12
    python benchmarks/loaders.py --quick          # a try; writes no file

Makes videos of 10 seconds at 1920 × 1080 and caches 32 frames of each at a short side of 256, as JPEG. Every
loader gives the same clips (of equal videos in equal order, compared before anything is timed): batches of 8
clips of 8 frames, in EZ-CLIP's crops and flips at 224, augmented by the same function with the same random
numbers and decoded by the same library, torchvision's.

ours          TrainingClips of the frame cache: eight frames of a tar shard
webdataset    tar files of whole videos: all 32 frames are read, eight of them decoded
litdata       its chunks of whole videos, likewise
JPEG files    a file a frame
torchcodec    the video itself, decoded each time by one thread, at the cache's size

Each loader runs in a process of its own, which is ended with all that it started after LIMIT_S seconds. They
take turns within a round, with one and two loading processes; files are in the system's cache. Rates are
medians over rounds, ratios medians of the rounds' own ratios. "floor" is no loader: one process that decodes
the eight JPEG files of a clip, crops and resizes them, and nothing else.

Writes `benchmarks/results/loaders.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # of every loading process

import av
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import resize

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance

from vidprompt.data.clips.augmentation import Augmentation, training_view
from vidprompt.data.clips.batch_plan import BatchPlan
from vidprompt.data.clips.reading import decode_frames, stack_frames
from vidprompt.data.clips.training import TrainingClips, batches
from vidprompt.data.frames.cache import FrameCache
from vidprompt.data.frames.sampling import clip_rng, training_frames
from vidprompt.data.shards.cache_build import build_frame_cache
from vidprompt.data.shards.plan import FrameRow, FrameSettings
from vidprompt.files.atomic import write_json

OUT = ROOT / "benchmarks/results/loaders.json"
RATE, SECONDS, HEIGHT, WIDTH = 25, 10, 1080, 1920
T, SIZE, BATCH = 8, 224, 8
AUGMENTATION = Augmentation(scales=[1.0, 0.875, 0.75, 0.66], flip=True)
PARTS = 4  # tar files of webdataset, so that two processes share them
LIT_EPOCHS = (
    16  # copies of the videos in litdata's chunks: its processes would often wait at an epoch's end
)
PACKAGES = ("torch", "torchvision", "webdataset", "litdata", "torchcodec")
AIM = 1.5  # times the best other's rate
WARM_UP_S = 1.5  # batches that were loaded ahead are taken meanwhile
LIMIT_S = 90.0  # of a child
FLOOR = "floor"
Clips = Iterator[torch.Tensor]  # batches (BATCH, T, 3, SIZE, SIZE), uint8


@dataclass(frozen=True)
class Videos:
    """The videos, in a folder that has them in all forms; all of equal length and size."""

    folder: Path
    ids: list[str]
    source_frames: np.ndarray = field(repr=False)  # numbers of the cached ones
    size: tuple[int, int]  # height and width in the cache

    @classmethod
    def of(cls, folder: Path) -> Videos:
        """Those that `make_videos` made."""
        cache = FrameCache(folder / "frames")
        ids = [cache.video_id(row) for row in range(len(cache))]
        return cls(folder, ids, cache.source_frames(ids[0]), cache.size(ids[0]))

    def draw(self, index: int, epoch: int) -> tuple[np.ndarray, np.random.Generator]:
        """Numbers of a clip's frames, and the random generator of its augmentation, as `TrainingClips`."""
        rng = clip_rng(0, epoch, self.ids[index])
        n = SECONDS * RATE
        return training_frames("segment", n, T, 1, rng, cached=self.source_frames), rng

    def positions(self, numbers: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.source_frames, numbers)

    def from_jpegs(self, index: int, epoch: int, read: Callable[[int], bytes]) -> torch.Tensor:
        """A clip; `read` gives the JPEG file at a position of the video's cached frames."""
        numbers, rng = self.draw(index, epoch)
        encoded = [read(int(position)) for position in self.positions(numbers)]
        return training_view(stack_frames(decode_frames(encoded)), SIZE, AUGMENTATION, rng)


# -- the data -------------------------------------------------------------------------------------


def make_videos(folder: Path, count: int) -> None:
    """Write textured pictures that pan, as H.264, and cache them."""
    rows = []
    for number in range(count):
        path = folder / f"{number}.mp4"
        write_video(path, np.random.default_rng(number))
        name = f"v/{number:03d}"
        rows.append(FrameRow(name, path, "video", SECONDS * RATE, True, "v", HEIGHT, WIDTH))
    build_frame_cache(rows, FrameSettings(), {}, folder / "frames", workers=1)


def write_video(path: Path, rng: np.random.Generator) -> None:
    coarse = Image.fromarray(rng.integers(0, 255, (34, 60, 3), dtype=np.uint8))
    whole = coarse.resize((WIDTH + 160, HEIGHT), Image.Resampling.BICUBIC)
    noise = rng.normal(0, 4, (HEIGHT, WIDTH + 160, 1))
    scene = np.clip(np.asarray(whole) + noise, 0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in range(SECONDS * RATE):
            left = 160 * frame // (SECONDS * RATE)
            picture = np.ascontiguousarray(scene[:, left : left + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def all_frames(videos: Videos, index: int) -> list[bytes]:
    """The JPEG files of a video's cached frames."""
    return FrameCache(videos.folder / "frames").read_encoded(
        videos.ids[index], range(len(videos.source_frames))
    )


def lit_sample(videos: Videos, index: int) -> dict[str, Any]:
    frames = enumerate(all_frames(videos, index))
    return {"index": index, **{str(position): data for position, data in frames}}


# -- the loaders: videos, loading processes → batches without end ---------------------------------


class InOrder(BatchPlan):
    """Batches of the videos in order, epoch after epoch."""

    def __init__(self, videos: int) -> None:
        super().__init__(steps=1_000_000)
        self.videos = videos

    def batch(self, step: int) -> list[tuple[int, int]]:
        return [divmod(step * BATCH + place, self.videos) for place in range(BATCH)]


class OneByOne(Dataset[torch.Tensor]):
    """A dataset whose item (epoch, index) is read by a function."""

    def __init__(self, read: Callable[[int, int], torch.Tensor]) -> None:
        self.read = read

    def __getitem__(self, item: tuple[int, int]) -> torch.Tensor:
        epoch, index = item
        return self.read(index, epoch)


def ours(videos: Videos, workers: int) -> Clips:
    count = len(videos.ids)
    clips = TrainingClips(
        videos.folder / "frames", videos.ids, [0] * count, num_frames=T, size=SIZE,
        augmentation=AUGMENTATION,
    )  # fmt: skip
    with closing(batches(clips, InOrder(count), workers)) as loaded:
        for batch, _ in loaded:
            yield batch


def one_by_one(videos: Videos, workers: int, read: Callable[[int, int], torch.Tensor]) -> Clips:
    plan: Any = InOrder(len(videos.ids))
    yield from DataLoader(OneByOne(read), batch_sampler=plan, num_workers=workers)


def jpeg_files(videos: Videos, workers: int) -> Clips:
    folder = videos.folder / "files"
    for index in range(0 if folder.exists() else len(videos.ids)):
        (folder / str(index)).mkdir(parents=True)
        for position, data in enumerate(all_frames(videos, index)):
            (folder / str(index) / f"{position:05d}.jpg").write_bytes(data)
    return one_by_one(videos, workers, partial(_clip_of_files, videos))


def _clip_of_files(videos: Videos, index: int, epoch: int) -> torch.Tensor:
    folder = videos.folder / "files" / str(index)
    read = lambda position: (folder / f"{position:05d}.jpg").read_bytes()  # noqa: E731
    return videos.from_jpegs(index, epoch, read)


def torchcodec(videos: Videos, workers: int) -> Clips:
    return one_by_one(videos, workers, partial(_clip_of_video, videos))


def _clip_of_video(videos: Videos, index: int, epoch: int) -> torch.Tensor:
    from torchcodec.decoders import VideoDecoder

    numbers, rng = videos.draw(index, epoch)
    decoder = VideoDecoder(videos.folder / f"{index}.mp4", num_ffmpeg_threads=1)
    frames = decoder.get_frames_at(indices=numbers.tolist()).data
    return training_view(resize(frames, list(videos.size)), SIZE, AUGMENTATION, rng)


def webdataset(videos: Videos, workers: int) -> Clips:
    import webdataset as wds

    folder, count = videos.folder / "webdataset", len(videos.ids)
    if not folder.exists():
        folder.mkdir()
        for part in range(PARTS):
            with wds.TarWriter(str(folder / f"{part}.tar")) as writer:
                for index in range(part * count // PARTS, (part + 1) * count // PARTS):
                    frames = enumerate(all_frames(videos, index))
                    named = {f"{position:05d}.jpg": data for position, data in frames}
                    writer.write({"__key__": f"{index:03d}", **named})
    parts = [str(folder / f"{part}.tar") for part in range(PARTS)]
    samples = wds.WebDataset(parts, shardshuffle=False, nodesplitter=None).repeat()
    samples = samples.map(partial(_clip_of_sample, videos))
    yield from DataLoader(samples, batch_size=BATCH, num_workers=workers)


def _clip_of_sample(videos: Videos, sample: dict[str, Any]) -> torch.Tensor:
    index = int(sample["__key__"])
    return videos.from_jpegs(index, 0, lambda position: sample[f"{position:05d}.jpg"])


def litdata(videos: Videos, workers: int) -> Clips:
    from litdata import StreamingDataLoader, StreamingDataset, optimize

    folder = videos.folder / "litdata"
    if not folder.exists():
        indices = list(range(len(videos.ids))) * LIT_EPOCHS
        optimize(
            partial(lit_sample, videos), indices, str(folder), chunk_bytes="16MB", num_workers=1
        )

    data = StreamingDataset(
        str(folder), shuffle=False, transform=partial(_clip_of_lit_sample, videos)
    )
    loader = StreamingDataLoader(
        data, batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0
    )
    while True:
        yield from loader


def _clip_of_lit_sample(videos: Videos, sample: dict[str, Any]) -> torch.Tensor:
    return videos.from_jpegs(sample["index"], 0, lambda position: sample[str(position)])


LOADERS: dict[str, Callable[[Videos, int], Clips]] = {
    "ours": ours,
    "webdataset": webdataset,
    "litdata": litdata,
    "JPEG files": jpeg_files,
    "torchcodec": torchcodec,
}


# -- in a process of its own ----------------------------------------------------------------------


def clips_per_second(loaded: Clips, workers: int, seconds: float) -> float:
    """Of the batches after those that were loaded ahead, for at least so long.

    Processes deliver in turn: as many batches of each are counted.
    """
    turns, began, counting, counted = max(1, workers), time.perf_counter(), False, 0
    for number, _ in enumerate(loaded, 1):
        now = time.perf_counter()
        counted += counting
        if number % turns:
            continue
        if counting and counted >= 2 * turns and now - began >= seconds:
            return counted * BATCH / (now - began)
        if not counting and now - began >= WARM_UP_S:
            counting, began = True, now
    raise RuntimeError("the loader ended")


def floor(videos: Videos, seconds: float) -> float:
    """Clips a second of one process that decodes, crops and resizes the same frames, already in memory."""
    numbers, rng = videos.draw(0, 0)
    frames = all_frames(videos, 0)
    encoded = [frames[position] for position in videos.positions(numbers)]
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        training_view(decode_frames(encoded), SIZE, AUGMENTATION, rng)
        count += 1
    return count / (time.perf_counter() - began)


def child(name: str, folder: Path, workers: int, seconds: float) -> None:
    """Print a loader's rate, or with `seconds` 0 save its first batch; then end, whatever still runs."""
    torch.set_num_threads(1)
    videos = Videos.of(folder)
    if name == FLOOR:
        print(floor(videos, seconds), flush=True)
    elif seconds:
        print(clips_per_second(LOADERS[name](videos, workers), workers, seconds), flush=True)
    else:
        np.save(first_batch(folder, name), next(LOADERS[name](videos, 0)).numpy())
    os._exit(0)  # loaders whose generators are left in the middle wait for their workers


def first_batch(folder: Path, name: str) -> Path:
    return folder / f"first batch of {name}.npy"


def run_child(name: str, folder: Path, workers: int, seconds: float) -> str:
    """What a child prints. Raises RuntimeError with its last message, or that it did not end in time."""
    command = [sys.executable, str(Path(__file__).resolve()), "--data", str(folder)]
    command += ["--child", name, str(workers), str(seconds)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no end after {LIMIT_S} seconds") from error
    finally:
        with suppress(ProcessLookupError):  # the loading processes that it left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise RuntimeError(errors.strip().splitlines()[-1])
    return output


# -- the measurement ------------------------------------------------------------------------------


def compare_clips(folder: Path) -> dict[str, float]:
    """The mean difference of each loader's first batch from ours, of 255; of those that run here."""
    first: dict[str, np.ndarray] = {}
    for name in LOADERS:
        try:
            run_child(name, folder, 0, 0)
        except RuntimeError as error:
            print(f"{name} does not run here: {error}")
            continue
        first[name] = np.load(first_batch(folder, name)).astype(np.float32)
    return {
        name: round(float(np.abs(batch - first["ours"]).mean()), 3) for name, batch in first.items()
    }


def main() -> None:
    """Make the data, compare, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, help="keep the videos here, or take them from here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, workers, seconds = arguments.child
        child(name, arguments.data, int(workers), float(seconds))
    with tempfile.TemporaryDirectory(prefix="vidprompt-") as temporary:
        folder = arguments.data or Path(temporary)
        count, seconds = (8, 1.0) if arguments.quick else (32, 4.0)
        if not (folder / "frames/frames.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            make_videos(folder, count)
        result = measure(folder, 1 if arguments.quick else arguments.rounds, seconds)
    print(json.dumps(result, indent=1, ensure_ascii=False))
    if not arguments.quick:
        write_json(OUT, provenance() | result)


def measure(folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Compare, and measure in turns."""
    apart = compare_clips(folder)
    print(f"mean differences of the first batch: {json.dumps(apart)}", flush=True)
    rates: dict[int, dict[str, list[float]]] = {1: {}, 2: {}}
    floors = []
    for number in range(rounds):
        floors.append(float(run_child(FLOOR, folder, 0, seconds)))
        for workers, by_loader in rates.items():
            for name in apart:
                rate = float(run_child(name, folder, workers, seconds))
                by_loader.setdefault(name, []).append(rate)
                print(f"round {number + 1}, {workers}, {name}: {rate:.1f}", flush=True)
    videos = Videos.of(folder)
    figures = {str(workers): summary(by_loader) for workers, by_loader in rates.items()}
    return {
        "clips": f"{len(videos.ids)} videos, batches of {BATCH}, {T} frames at {SIZE}, cached {videos.size}",
        "mean difference from ours, of 255": apart,
        "by loading processes": figures,
        "floor, clips/s of one process": round(median(floors), 1),
        "rounds": rounds,
        "missed": [
            f"{workers} processes: ours / the best other {one['ours / the best other']} < {AIM}"
            for workers, one in figures.items()
            if one["ours / the best other"] < AIM
        ],
        "versions": {
            name: version(name) for name in PACKAGES if name in apart or name not in LOADERS
        },
    }


def summary(by_loader: dict[str, list[float]]) -> dict[str, Any]:
    """Medians over rounds, and ours over others of each round."""
    ours = by_loader["ours"]
    others = {name: rates for name, rates in by_loader.items() if name != "ours"}
    best = [max(rates) for rates in zip(*others.values(), strict=True)]
    return {
        "clips/s": {name: round(median(rates), 1) for name, rates in by_loader.items()},
        "ours / another": {name: _ratio(ours, rates) for name, rates in others.items()},
        "ours / the best other": _ratio(ours, best),
    }


def _ratio(rates: list[float], others: list[float]) -> float:
    return round(median(a / b for a, b in zip(rates, others, strict=True)), 2)


if __name__ == "__main__":
    main()
