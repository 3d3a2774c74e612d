"""Disk and GPU time of a row whose dataset is not here, from official counts and from measured rates.

The figures tell 10 GB from 1 TB and an hour from a week, no more. With the dataset at hand they are measured
on this machine instead (`pipeline.estimate`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidprompt.config.schema import BackboneTraining, Config, DatasetConfig
from vidprompt.pipeline.doctor import Finding, State
from vidprompt.pipeline.estimate import duration, training_clips, videos_of_run
from vidprompt.reproduce.backbones.catalogue import figures

BYTES_A_FRAME = 28e3  # 256 pixels high, JPEG quality 90: benchmarks/results/video.json
ALL_FRAMES = 100  # frames of a video, where the cache holds all of them
# clips/s of a training step of ViT-B/16 with 8 frames at 224 in half precision on one H100: gpu.json
TRAINED_CLIPS_S = 400.0
ENCODED_CLIPS_S = 1200.0  # without the backward pass
VIT_B_16_GFLOPS = 35.1  # of a frame, as in models/backbones/figures.tsv
# of the official lists, where the copies that people have hold fewer, so that no count is expected
VIDEOS = {"kinetics400": 260_000, "kinetics600": 30_000}
TRAINING_VIDEOS = {"kinetics400": 240_000}


def expected_cost(config: Config, runs: Sequence[str]) -> Iterator[Finding]:
    """Findings about disk and GPU time; none for a dataset of which no counts are known."""
    videos = _videos(config.dataset)
    if not videos:
        return
    frames = config.frames.frames or ALL_FRAMES
    needed = videos * frames * BYTES_A_FRAME * (config.frames.short_side / 256) ** 2
    free = shutil.disk_usage(Path.cwd()).free
    yield Finding(
        "disk",
        State.OK if needed < free else State.NOTE,
        f"about {needed / 1e9:,.0f} GB of frames for {videos:,} videos, estimated, beside the videos; "
        f"{free / 1e9:,.0f} GB free",
    )
    scale, whole = _work_of_a_clip(config), _backward_work(config)
    trained = (_training_videos(config.dataset, run) for run in runs)
    clips = sum(training_clips(config, count) for count in trained)
    tested = _tested(config.dataset, videos) * max(1, len(runs))
    seconds = scale * (whole * clips / TRAINED_CLIPS_S + tested / ENCODED_CLIPS_S)
    number = "1 training" if len(runs) == 1 else f"{len(runs)} trainings"
    trainings = f"{number} of {clips:,} clips in all" if runs else "no training"
    yield Finding(
        "GPU time",
        State.OK,
        f"about {duration(seconds)} on one H100 in half precision, estimated: {trainings}, "
        f"{tested:,} videos encoded",
    )


def _videos(dataset: DatasetConfig) -> int:
    expected = dataset.validation.expected
    counted = sum(count for key, count in expected.items() if key.startswith("videos."))
    return counted or VIDEOS.get(dataset.name, 0)


def _tested(dataset: DatasetConfig, videos: int) -> int:
    """Videos of the test lists of one split."""
    tests: dict[str, int] = {}
    for key, count in dataset.validation.expected.items():
        if match := re.fullmatch(r"tests\.(.+?)\d*\.(\w+)", key):
            name = f"{match[1]}.{match[2]}"
            tests[name] = max(count, tests.get(name, 0))
    return sum(tests.values()) or videos


def _training_videos(dataset: DatasetConfig, run: str) -> int:
    """How many videos a run trains on, from the counts of the official lists."""
    expected = dataset.validation.expected
    classes = sum(count for key, count in expected.items() if key.startswith("classes."))
    listed = expected.get(f"train.{run}") or expected.get("train.supervised_split1")
    listed = listed or TRAINING_VIDEOS.get(dataset.name) or _videos(dataset)
    return videos_of_run(run, listed, classes)


def _backward_work(config: Config) -> float:
    """A step's work, as a multiple of one with a frozen image tower: three products a weight, not two."""
    training = BackboneTraining.of(config.method.options)
    return 1.5 if training.trains_image and training.train_backbone != "last_n" else 1.0


def _work_of_a_clip(config: Config) -> float:
    """FLOPs of a clip's vision tower, as a multiple of ViT-B/16's with 8 frames at 224."""
    import open_clip

    known = open_clip.get_model_config(config.backbone.name) or {}
    tower = known.get("vision_cfg", {})
    size = config.backbone.image_size or tower.get("image_size", 224)
    usual = {"layers": 12, "width": 768, "patch_size": 16}
    counted = figures().get((config.backbone.name, str(config.backbone.pretrained)))
    if counted and "timm_model_name" in tower:  # its layers are timm's to know
        gflops = float(counted.gflops) * (size / int(counted.pixels)) ** 2
        return config.method.num_frames * gflops / (8 * VIT_B_16_GFLOPS)
    return config.method.num_frames * _flops({**usual, **tower}, size) / (8 * _flops(usual, 224))


def _flops(tower: Mapping[str, Any], size: int) -> float:
    tokens, width = (size // int(tower["patch_size"])) ** 2 + 1, int(tower["width"])
    return float(int(tower["layers"]) * tokens * (12 * width**2 + 2 * tokens * width))
