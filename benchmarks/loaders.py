"""Training clips a second from our frame cache, beside what people use otherwise.

    pip install webdataset litdata torchcodec     # what does not run here is left out, and said
    python benchmarks/loaders.py                  # about 5 minutes on two cores
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

Loaders take turns within a round, with one and two loading processes; files are in the system's cache. Rates
are medians over rounds, ratios medians of the rounds' own ratios. The floor is the JPEG library alone on the
eight frames of each clip. Writes `benchmarks/results/loaders.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import islice
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
from vidprompt.data.clips.reading import decode_jpegs, to_clip
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
PACKAGES = ("torch", "torchvision", "webdataset", "litdata", "torchcodec")
AIM = 1.5  # times the best other's rate
Clips = Iterator[torch.Tensor]  # batches (BATCH, T, 3, SIZE, SIZE), uint8


@dataclass(frozen=True)
class Videos:
    """The videos, in a folder that has them in all forms; all of equal length and size."""

    folder: Path
    ids: list[str]
    source_frames: np.ndarray = field(repr=False)  # numbers of the cached ones
    size: tuple[int, int]  # height and width in the cache

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
        return training_view(to_clip(decode_jpegs(encoded)), SIZE, AUGMENTATION, rng)


# -- the data -------------------------------------------------------------------------------------


def make_videos(folder: Path, count: int) -> Videos:
    """Write textured pictures that pan, as H.264, and cache them."""
    rows = []
    for number in range(count):
        path = folder / f"{number}.mp4"
        write_video(path, np.random.default_rng(number))
        name = f"v/{number:03d}"
        rows.append(FrameRow(name, path, "video", SECONDS * RATE, True, "v", HEIGHT, WIDTH))
    build_frame_cache(rows, FrameSettings(), {}, folder / "frames", workers=1)
    cache = FrameCache(folder / "frames")
    ids = [row.video_id for row in rows]
    return Videos(folder, ids, cache.source_frames(ids[0]), cache.size(ids[0]))


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
        indices = list(range(len(videos.ids)))
        optimize(
            partial(lit_sample, videos), indices, str(folder), chunk_bytes="16MB", num_workers=1
        )

    data = StreamingDataset(
        str(folder), shuffle=False, transform=partial(_clip_of_lit_sample, videos)
    )
    while True:
        yield from StreamingDataLoader(data, batch_size=BATCH, num_workers=workers)


def _clip_of_lit_sample(videos: Videos, sample: dict[str, Any]) -> torch.Tensor:
    return videos.from_jpegs(sample["index"], 0, lambda position: sample[str(position)])


LOADERS: dict[str, Callable[[Videos, int], Clips]] = {
    "ours": ours,
    "webdataset": webdataset,
    "litdata": litdata,
    "JPEG files": jpeg_files,
    "torchcodec": torchcodec,
}


# -- the measurement ------------------------------------------------------------------------------


def clips_per_second(loaded: Iterable[torch.Tensor], seconds: float) -> float:
    """Of a loader that runs already, for at least so long."""
    iterator = iter(loaded)
    for _ in islice(iterator, 4):  # what was loaded ahead while processes started
        pass
    began, count = time.perf_counter(), 0
    for batch in iterator:
        count += len(batch)
        if (taken := time.perf_counter() - began) >= seconds:
            break
    return count / taken


def jpeg_library(videos: Videos, seconds: float) -> float:
    """Clips a second if decoding their JPEG files were all."""
    numbers, _ = videos.draw(0, 0)
    encoded = [all_frames(videos, 0)[position] for position in videos.positions(numbers)]
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        decode_jpegs(encoded)
        count += 1
    return count / (time.perf_counter() - began)


def compare_clips(videos: Videos, names: Iterable[str]) -> dict[str, float]:
    """The mean difference of each loader's first batch from ours, of 255; of those that run here."""
    first: dict[str, torch.Tensor] = {}
    for name in names:
        try:
            first[name] = next(LOADERS[name](videos, 0)).float()
        except (ImportError, OSError, RuntimeError) as error:
            print(f"{name} does not run here: {str(error).strip().splitlines()[0]}")
    return {
        name: round(float((batch - first["ours"]).abs().mean()), 3) for name, batch in first.items()
    }


def main() -> None:
    """Make the data, compare, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    count, rounds, seconds = (8, 1, 1.0) if quick else (32, 5, 4.0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="vidprompt-") as folder:
        videos = make_videos(Path(folder), count)
        apart = compare_clips(videos, LOADERS)
        print(f"mean differences of the first batch: {json.dumps(apart)}", flush=True)
        rates: dict[str, dict[str, list[float]]] = {}
        floor = []
        for _ in range(rounds):
            floor.append(jpeg_library(videos, seconds))
            for workers in (1, 2):
                for name in apart:
                    rate = clips_per_second(LOADERS[name](videos, workers), seconds)
                    rates.setdefault(str(workers), {}).setdefault(name, []).append(rate)
    figures = {workers: summary(by_loader) for workers, by_loader in rates.items()}
    floor_rate = round(median(floor), 1)
    result = {
        "clips": f"{count} videos, batches of {BATCH}, {T} frames at {SIZE}, cached {videos.size}",
        "mean difference from ours, of 255": apart,
        "by loading processes": figures,
        "JPEG library alone, clips/s": floor_rate,
        "missed": [
            f"{workers} processes: ours / the best other {one['ours / the best other']} < {AIM}"
            for workers, one in figures.items()
            if one["ours / the best other"] < AIM
        ],
        "versions": {
            name: version(name) for name in PACKAGES if name in apart or name not in LOADERS
        },
    }
    print(json.dumps(result, indent=1, ensure_ascii=False))
    if not quick:
        write_json(OUT, provenance() | result)


def summary(by_loader: dict[str, list[float]]) -> dict[str, Any]:
    """Medians over rounds, and ours over the best other of each round."""
    others = [rates for name, rates in by_loader.items() if name != "ours"]
    ratios = [rate / max(other[i] for other in others) for i, rate in enumerate(by_loader["ours"])]
    rates = {name: round(median(values), 1) for name, values in by_loader.items()}
    return {"clips/s": rates, "ours / the best other": round(median(ratios), 2)}


if __name__ == "__main__":
    main()
