"""Training on a GPU from shards of JPEG frames: clips/s, waiting for data, utilisation, memory.

    python benchmarks/engine.py --device cuda           # about 6 minutes on a GPU with 8 processor cores
    python benchmarks/engine.py --device cuda --quick   # a try, on a CPU too; writes no file

Both methods as released on Kinetics-400 in bf16: ViT-B/16 with random weights, 8 frames at 224, 400
classes, 64 clips a step, 8 workers. A few rendered videos are cached as the frames stage does (32
frames, short side 256, quality 90); an index of 2,048 rows shares their frames, so the shards are in
the system's cache, as they are in the second epoch on a machine with memory for them. Each method
twice: with crops and mirroring alone, and with the whole augmentation of its recipe.

Waiting for data is `data_s` of the step log, as a share of the time from one asking for a batch to the
next, after the workers have started. Utilisation is what nvidia-smi says five times a second.
Writes `benchmarks/results/engine_gpu.json`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from benchmarks.machine import ROOT, provenance
from benchmarks.training_runs import METHODS, Clock, Setting, trained, watched
from benchmarks.video import CODECS, HEIGHT, WIDTH, T, blown_up, write_video

from vidprompt.data.clips.augmentation import Augmentation
from vidprompt.data.clips.batch_plan import ShuffledBatches
from vidprompt.data.clips.training import TrainingClips, batches
from vidprompt.data.probe.videos import probe_video
from vidprompt.data.shards.cache_build import build_frame_cache
from vidprompt.data.shards.plan import FrameRow, FrameSettings
from vidprompt.training.engine import BatchSource, new_accelerator

OUT = ROOT / "benchmarks/results/engine_gpu.json"
LIMITS = {"share waiting for data": 0.03}  # at most
COMMAND = "nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits -lms 200 -i 0"
CROPS = {"scales": [1.0, 0.875, 0.75, 0.66], "flip": True}


@dataclass(frozen=True)
class Size:
    """How much is done."""

    setting: Setting
    warm_up: int
    workers: int
    videos: int
    rows: int


FULL = Size(Setting("vit", batch=64, steps=151, classes=400, precision="bf16"), 30, 8, 16, 2048)
QUICK = Size(Setting("demo", batch=4, steps=7, precision="bf16"), 2, 1, 2, 32)


def rendered(folder: Path, number: int) -> FrameRow:
    """A video of ten seconds, as the manifest has it."""
    path = folder / f"video-{number}.mp4"
    write_video(path, *CODECS["h264"][1:], number)
    probe = probe_video(path, T)
    name = f"v/{number:03d}"
    return FrameRow(name, path, "video", probe.n_frames, probe.exact, "v", HEIGHT, WIDTH)


def shards(folder: Path, size: Size) -> Path:
    """A frame cache of `size.rows` rows."""
    with ProcessPoolExecutor(size.workers, get_context("spawn")) as pool:
        rows = list(pool.map(rendered, [folder] * size.videos, range(size.videos)))
    build_frame_cache(rows, FrameSettings(), {}, folder / "few", workers=size.workers)
    blown_up(folder / "few", folder / "many", size.rows)
    return folder / "many"


@contextmanager
def utilisation() -> Iterator[list[tuple[float, float]]]:
    """Within, (moment, percent) of the first GPU as nvidia-smi says; nothing where it is not there."""
    seen: list[tuple[float, float]] = []
    if shutil.which("nvidia-smi") is None:
        yield seen
        return
    process = subprocess.Popen(COMMAND.split(), stdout=subprocess.PIPE, text=True)

    def read() -> None:
        for line in process.stdout or ():
            if line.strip().isdigit():
                seen.append((time.perf_counter(), float(line)))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield seen
    finally:
        process.terminate()
        process.wait()
        reader.join()


def run(cache: Path, size: Size, method: str, whole_recipe: bool) -> dict[str, Any]:
    """One training; its figures after the warm-up."""
    setting, clock = replace(size.setting, method=method), Clock()
    config = setting.config()
    settings, objective = setting.settings(config), setting.objective(config)
    recipe, mirror = dict(vars(config.trainer.augmentation)), config.dataset.mirror
    recipe |= {"flip": recipe["flip"] and mirror}
    clips = TrainingClips(
        cache,
        [f"v{number:09d}" for number in range(size.rows)],
        [number % setting.classes for number in range(size.rows)],
        num_frames=objective.model.num_frames,
        size=objective.model.backbone.image_size,
        augmentation=Augmentation(**(recipe if whole_recipe else CROPS)),
    )
    device = new_accelerator(settings.precision).device
    cuda = device.type == "cuda"

    def planned(start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        plan = ShuffledBatches(size.rows, setting.batch, settings.steps, settings.seed, start)
        return batches(clips, plan, size.workers, device)

    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with utilisation() as seen:
        log = trained(objective, watched(BatchSource(planned, lambda _: []), clock), settings)
    whole = sum(step["whole"] for step in clock.steps()[size.warm_up :])
    counted = log[size.warm_up : -1]  # the last step's end is not seen
    between = clock.began[size.warm_up], clock.began[-1]
    busy = [percent for moment, percent in seen if between[0] <= moment <= between[1]]
    return {
        "steps": len(counted),
        "clips/s": round(setting.batch * len(counted) / whole, 1),
        "share waiting for data": round(sum(line["data_s"] for line in counted) / whole, 4),
        "utilisation": round(sum(busy) / len(busy) / 100, 3) if busy else None,
        "peak_gb": round(log[-1]["memory_gb"], 2) if cuda else None,
        "loss": [log[0]["loss"], log[-1]["loss"]],
    }


def main(quick: bool) -> None:
    """All trainings; the results file unless `quick`."""
    if not (quick or torch.cuda.is_available()):
        raise SystemExit("there is no GPU here: --quick tries the same with tiny sizes on the CPU")
    size = QUICK if quick else FULL
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="vidprompt-") as name:
        cache = shards(Path(name), size)
        for method in METHODS:
            for augmentation in ("crops", "whole recipe"):
                row = run(cache, size, method, augmentation == "whole recipe")
                rows[f"{method}, {augmentation}"] = row
                print(json.dumps({f"{method}, {augmentation}": row}), flush=True)
    figure, limit = next(iter(LIMITS.items()))
    missed = [f"{figure}: {name}" for name, row in rows.items() if row[figure] > limit]
    print("missed: " + (", ".join(missed) or "nothing"))
    if not quick:
        setting = (
            f"ViT-B/16, random weights, bf16, {size.setting.batch} clips of 8 frames at 224, "
            f"{size.setting.classes} classes, {size.workers} workers, {size.rows:,} rows"
        )
        gpu = torch.cuda.get_device_name()
        result = provenance() | {"rows": rows, "gpu": gpu, "limits": LIMITS}
        result |= {"missed": missed, "setting": setting}
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
