"""Estimate the disk and time of a dataset's stages from a few videos decoded and clips trained here.

The estimates are for this machine with nothing else running. They distinguish an hour from a week and 10 GB
from 10 TB, no more.
"""

from __future__ import annotations

import configparser
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidprompt.config.compose import compose, protocols_of
from vidprompt.config.schema import Config, DatasetConfig, ReidConfig
from vidprompt.data.annotations import Annotation
from vidprompt.data.manifest.health import Health

SAMPLE = 6  # videos decoded
FEW_CLIPS, QUICK_S = 2, 1.0  # a step of these; of a whole batch where that takes less than a second


@dataclass(frozen=True)
class FrameCost:
    """Means for a video: seconds to probe and to cache, bytes in the cache.

    `videos` are those of the dataset, `sampled` those that were measured.
    """

    videos: int
    probe_s: float
    cache_s: float
    cached_bytes: float
    sampled: int

    @property
    def text(self) -> str:
        each = f"{self.cached_bytes / 1e3:,.0f} kB of frames a video"
        return f"{each}, measured on {self.sampled} of {self.videos:,}"


def measure_frames(
    config: Config, files: Sequence[tuple[Path, Annotation]], folder: Path
) -> FrameCost | None:
    """Probe and cache a few videos spread over the dataset; None when none of them is intact."""
    from vidprompt.data.probe.videos import probe_many
    from vidprompt.data.shards.cache_build import build_frame_cache
    from vidprompt.data.shards.plan import FrameRow, FrameSettings
    from vidprompt.pipeline.stages.manifest import limits

    chosen = [files[i] for i in sorted({len(files) * i // SAMPLE for i in range(SAMPLE)})]
    items = [(path, annotation.kind) for path, annotation in chosen]
    probing = _ItemTimer()
    probes = probe_many(items, config.dataset.min_frames, 1, limits(config.dataset), probing.tick)
    rows = [
        FrameRow(a.video_id, path.resolve(), a.kind, probe.n_frames, probe.exact, a.source)
        for (path, a), probe in zip(chosen, probes, strict=True)
        if probe.health is Health.OK
    ]
    if not rows:
        return None
    settings = dict(vars(config.frames))
    per_source = settings.pop("per_source")
    caching = _ItemTimer()
    built = build_frame_cache(rows, FrameSettings(**settings), per_source, folder, 1, caching.tick)
    return FrameCost(
        videos=len(files),
        probe_s=probing.mean(),
        cache_s=caching.mean(),
        cached_bytes=built["bytes"] / max(1, built["videos"]),
        sampled=len(rows),
    )


class _ItemTimer:
    """Mean seconds for an item, without the first, which starts a process and imports the decoder."""

    def __init__(self) -> None:
        self._ticks = [time.perf_counter()]

    def tick(self, _done: int, _total: int) -> None:
        self._ticks.append(time.perf_counter())

    def mean(self) -> float:
        ticks = self._ticks[1:] if len(self._ticks) > 2 else self._ticks
        return (ticks[-1] - ticks[0]) / max(1, len(ticks) - 1)


def disk_needed(frames: FrameCost) -> float:
    """Bytes for the frame cache; twice where DVC's cache holds a copy instead of a link."""
    dvc = configparser.ConfigParser()
    dvc.read([".dvc/config", ".dvc/config.local"])
    linked = dvc.get("cache", "type", fallback="copy").partition(",")[0] != "copy"
    return frames.videos * frames.cached_bytes * (1 if linked else 2)


def stage_times(
    config: Config,
    annotations: Sequence[Annotation],
    frames: FrameCost,
    runs: Sequence[str] | None = None,
) -> dict[str, float]:
    """Description of a stage's work → seconds.

    `runs`: the trainings of `config` alone, after which the test videos are encoded once each (once where
    there are none); None: what the dataset's pipeline trains.
    """
    from vidprompt.pipeline.matrix import read_pipeline, training_runs

    dataset, workers = config.dataset, max(1, config.workers)
    seconds = {
        "probing every video": frames.videos * frames.probe_s / workers,
        "caching frames": frames.videos * frames.cache_s / workers,
    }
    tested = sum(
        any(role not in ("", "train") for role in (a.split1, a.split2, a.split3))
        for a in annotations
    )
    if runs is not None:
        return seconds | _model_times(config, dict.fromkeys(runs, config), annotations, tested)
    protocols = protocols_of(config)
    every = training_runs(protocols, set(dataset.roles))
    for method in read_pipeline()["trained"]:
        chosen = [f"dataset={dataset.name}", f"method={method}"]
        by_run: dict[str, Config] = {}
        for protocol in protocols.present():
            numbers = compose([*chosen, f"protocol={protocol}"])
            by_run |= {run: numbers for run in every if run.startswith(protocol)}
        seconds |= _model_times(compose(chosen), by_run, annotations, tested)
    return seconds


def _model_times(
    config: Config, runs: Mapping[str, Config], annotations: Sequence[Annotation], tested: int
) -> dict[str, float]:
    """Seconds of a method's trainings (run → its configuration), and of encoding after each."""
    method = config.method.name
    forward, step = clip_seconds(config)
    seconds = {}
    if runs:
        clips = sum(_clips(numbers, run, annotations) for run, numbers in runs.items())
        seconds[f"{method}: {len(runs)} trainings of {clips:,} clips in all"] = clips * step
    each = " with each" if runs else ""
    seconds[f"{method}: encoding {tested:,} videos{each}"] = tested * max(1, len(runs)) * forward
    return seconds


def _clips(config: Config, run: str, annotations: Sequence[Annotation]) -> int:
    """How many clips a training run sees; `config` is of its dataset, method and protocol."""
    return training_clips(config, _training_videos(config.dataset, run, annotations))


def training_clips(config: Config, videos: int) -> int:
    """How many clips a training on so many videos sees."""
    from vidprompt.training.settings import in_steps

    batch = config.trainer.batch_size
    if isinstance(config.protocol, ReidConfig):
        batch = config.protocol.people_per_batch * config.protocol.tracklets_per_person
    clips = in_steps(config.trainer.length, "trainer.length", videos, batch) * batch
    if isinstance(config.protocol, ReidConfig) and (image := config.protocol.image_model):
        frames = in_steps(image.length, "protocol.image_model.length", videos, batch) * batch
        clips += frames // config.method.num_frames
    return clips


def _training_videos(dataset: DatasetConfig, run: str, annotations: Sequence[Annotation]) -> int:
    """How many videos a run's training list will have, from its name and the official lists."""
    split = re.search(r"split([123])$", run)
    role = f"split{split[1]}" if split else "split1"
    source = dataset.roles.get("reid" if run == "reid" else "recognition")
    listed = [a for a in annotations if a.source == source and getattr(a, role) == "train"]
    return videos_of_run(run, len(listed), len({a.label for a in listed}))


def videos_of_run(run: str, listed: int, classes: int) -> int:
    """How many of the `listed` training videos of all classes a run trains on, from its name."""
    half = (classes + 1) // 2 if run.startswith("base_to_novel") else classes  # the base classes
    shots = re.search(r"_(\d+)shot_", run)
    return half * int(shots[1]) if shots else listed * half // max(1, classes)


def clip_seconds(config: Config) -> tuple[float, float]:
    """Seconds a clip on this machine's device: encoded, and trained with. Weights are random."""
    import torch

    from vidprompt.models.backbones.loading import load_backbone
    from vidprompt.models.factory import configured_model

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone = load_backbone({**vars(config.backbone), "weights": None, "pretrained": None})
    model = configured_model(config, ["a", "b"], backbone).to(device)
    size = backbone.image_size
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    trainer = config.values["trainer"]  # its other numbers may be open, where nothing is trained
    half = trainer["precision"] not in ("no", "tf32") and device.type == "cuda"
    trains = any(parameter.requires_grad for parameter in model.parameters())

    def measured(clips: int) -> tuple[float, float]:
        video = torch.randn(clips, config.method.num_frames, 3, size, size, device=device)
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            with torch.no_grad():
                model.encode_video(video)
            wait()
            encoded = time.perf_counter()
            if trains:
                _, features = model.encode_video(video)
        if trains and features.requires_grad:  # not where only the text tower is trained
            features.square().mean().backward()
        wait()
        return encoded - began, time.perf_counter() - encoded

    measured(1)  # warms up
    clips = FEW_CLIPS
    forward, step = measured(clips)
    if step < QUICK_S:
        clips = int(trainer["batch_size"]) if trains else FEW_CLIPS
        forward, step = measured(clips)
    return forward / clips, step / clips


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `7.5 h`, `3.2 days`."""
    for limit, unit, length in ((90, "s", 1.0), (5400, "min", 60.0), (172_800, "h", 3600.0)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}" if unit != "h" else f"{seconds / length:.1f} h"
    return f"{seconds / 86_400:.1f} days"
