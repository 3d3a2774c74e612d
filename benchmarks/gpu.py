"""What a GPU says about this project, in parts of about a minute: results, speed, memory, loader, tests.

    bash benchmarks/gpu.sh                      # on a bare GPU machine, see there
    python benchmarks/gpu.py same train demo    # some parts; without names all, in the order below

same      losses and gradients of the same steps on the processor and on the GPU
train     a training step (ViT-B/16, 8 × 224, bf16, random weights): clips/s, share of peak, memory,
          kernels, synchronisations, and what single settings change
demo      the demo's models trained, encoded and evaluated on the GPU, beside the recorded CPU figures
use       encoding clips with EZ-CLIP on ViT-B/16 in each precision: clips/s, and how far features are from
          the processor's
backbones our frozen forward of each family beside the library's `encode_image`: time and peak memory
augmentation  a batch augmented on the GPU: time, synchronisations, how far pixels are from the processor's
data      how long steps wait for the loader: clips augmented on the GPU ("device"), crops alone ("crops"),
          and clips augmented by the loading processes ("workers")
compiled  the same steps with `trainer.compile`
tests     the tests of models, training and inference on the GPU machine

Every figure is a line of JSON as soon as it is there. All of them are in `$OUT/gpu.json` (default:
benchmarks/results/gpu.json) under the card's name; parts that were not run keep what the file has.
LIMIT_S (default 540) ends the run: a part that has not begun by then is left out. Settings
of the parts train and data alone: `ONLY="as it is,fp16_weights" METHOD=ez_clip`.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from accelerate import Accelerator
from benchmarks.machine import ROOT, provenance
from benchmarks.training_runs import METHODS, Precision, Setting
from PIL import Image
from torch.profiler import ProfilerActivity, profile
from torch.utils.data._utils.pin_memory import pin_memory

from vidprompt.data.clips.augmentation import Augmentation, training_view
from vidprompt.data.clips.batch_augmentation import augment_batch, collate_drawn, drawn_clip
from vidprompt.data.clips.batch_plan import ShuffledBatches
from vidprompt.data.clips.reading import normalise
from vidprompt.data.clips.shared_batches import stack
from vidprompt.data.clips.training import TrainingClips, batches
from vidprompt.data.shards.cache_build import build_frame_cache
from vidprompt.data.shards.plan import FrameRow, FrameSettings
from vidprompt.models.precision import computing_in
from vidprompt.training.engine import new_accelerator
from vidprompt.training.step import Batch, Stepper

BEGAN = time.monotonic()
LIMIT = float(os.environ.get("LIMIT_S", 540))
BATCH = int(os.environ.get("BATCH", 64))
VIT = os.environ.get("VIT", "vit")  # "demo" to try this file on a processor
CARD = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
OUT = Path(os.environ.get("OUT", ROOT / "benchmarks/results")) / "gpu.json"
PEAK = 800e12  # FLOP/s that a share is of: what a large bf16 product reaches on an H100
# FLOPs of a clip, and of a step's texts (400 classes; EZ-CLIP's texts count with its clips)
FLOPS = {"ez_clip": (0.565e12, 0.0), "vita_clip": (0.5427e12, 0.93e12)}
TOLERANCE = {"float32": 1e-3, "bf16": 5e-2}
CHOSEN = tuple(os.environ.get("METHOD", ",".join(METHODS)).split(","))
ONLY = tuple(filter(None, os.environ.get("ONLY", "").split(",")))
CHANCE = ("prompt_dropout", "stochastic_depth", "text_stochastic_depth")
ROWS: dict[str, list[dict[str, Any]]] = {}


def say(part: str, **figures: Any) -> None:
    """Print a figure, and keep it for the file."""
    ROWS.setdefault(part, []).append(figures)
    at = round(time.monotonic() - BEGAN)
    print(json.dumps({"part": part, "at_s": at, **figures}), flush=True)
    stored = json.loads(OUT.read_text("utf-8")) if OUT.is_file() else {}
    content = {**stored, CARD: {**stored.get(CARD, {}), **provenance(), **ROWS}}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")


def left() -> float:
    """Seconds of the limit that are left."""
    return LIMIT - (time.monotonic() - BEGAN)


def wait() -> None:
    """Until the GPU has done what it was given."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def clean() -> None:
    """Give the GPU's memory back."""
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def stepper(setting: Setting, device: str = DEVICE, chance: bool = True) -> tuple[Stepper, Batch]:
    """The engine's own step and a batch for it; without `chance` nothing is dropped at random."""
    config = setting.config()
    if not chance:
        never = {name: 0.0 for name in CHANCE if name in config.method.options}
        method = replace(config.method, options={**config.method.options, **never})
        config = replace(config, method=method)
    objective = setting.objective(config)
    accelerator = new_accelerator(setting.precision)
    here = property(lambda _: torch.device(device))
    with patch.object(Accelerator, "device", here):
        made = Stepper(objective, setting.settings(config), accelerator)
    size, frames = objective.model.backbone.image_size, objective.model.num_frames
    draw = torch.Generator().manual_seed(0)
    shape = (setting.batch, frames, 3, size, size)
    clips = torch.randint(256, shape, dtype=torch.uint8, generator=draw)
    labels = torch.arange(setting.batch) % setting.classes
    return made, (clips.pin_memory() if device == "cuda" else clips, labels)


# -- results --------------------------------------------------------------------------------------


def same() -> None:
    """Losses and gradients of the same steps on the processor and on the GPU."""
    for backbone, batch, steps in (("demo", 24, 4), (VIT, 2, 1)):
        for method in METHODS:
            setting = Setting(backbone, method, batch, classes=48)
            reference = numbers(setting, "cpu", steps)
            kinds: tuple[tuple[Precision, str], ...] = (("no", "float32"), ("bf16", "bf16"))
            for precision, name in kinds:
                seen = numbers(replace(setting, precision=precision), DEVICE, steps)
                off = {
                    key: max(abs(a[key] / b[key] - 1) for a, b in zip(seen, reference, strict=True))
                    for key in ("loss", "gradient")
                }
                fine = all(value <= TOLERANCE[name] for value in off.values())
                rounded = {key: float(f"{value:.2g}") for key, value in off.items()}
                say("same", backbone=backbone, method=method, on=name, fine=fine, **rounded)


def numbers(setting: Setting, device: str, steps: int) -> list[dict[str, float]]:
    """The log of some steps without chance."""
    made, data = stepper(setting, device, chance=False)
    return [made.step(i, data, False).numbers for i in range(steps)]


# -- a step ---------------------------------------------------------------------------------------


def train() -> None:
    """Speed and memory of a step as it is, and with single settings changed."""
    if DEVICE == "cuda":
        ceilings()
    changes: dict[str, Mapping[str, Any]] = {
        "as it is": {},
        "no cuDNN attention": {},
        "batch x 2": {"batch": 2 * BATCH},
        "recompute mlp": {"recompute": "mlp"},
        "recompute layer": {"recompute": "layer"},
        "4 micro-batches": {"micro_batches": 4},
        "fp16_weights": {"precision": "fp16_weights"},
        "float32": {"precision": "no"},
        "tf32": {"precision": "tf32"},
    }
    for name, options in changes.items():
        if ONLY and name not in ONLY:
            continue
        for method in CHOSEN:
            if left() < 20:
                return
            base = Setting(VIT, method, BATCH, steps=50, classes=400, precision="bf16")
            setting, counted = replace(base, **options), 4 if name in ("float32", "tf32") else 8
            attempt("train", name, method, partial(measured, setting, name, counted))


def measured(setting: Setting, name: str, counted: int) -> None:
    """Time a setting; "as it is" is profiled too."""
    with changed(name):
        made, data = stepper(setting)
        timed(name, made, data, setting.method, counted=counted)
        if name == "as it is":
            synchronisations(made, data, setting.method)
            profiled(made, data, setting.method)


@contextmanager
def changed(name: str) -> Iterator[None]:
    """Within, what a setting of that name changes that no key does."""
    torch.backends.cuda.enable_cudnn_sdp(name != "no cuDNN attention")
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)


def attempt(part: str, name: str, method: str, call: Callable[[], None]) -> None:
    """`call`, whose error is a line of the results."""
    try:
        call()
    except Exception as error:  # also out of memory: the next setting may fit
        traceback.print_exc()
        say(part, what=name, method=method, error=f"{type(error).__name__}: {str(error)[:200]}")
    clean()


def ceilings() -> None:
    """What the card does of a large product, and of a copy (bytes read and written)."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    source = torch.empty(2 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    product = seconds(lambda: a @ b)
    copy = seconds(lambda: target.copy_(source))
    rate = round(2 * 8192**3 / product / 1e12)
    say("ceilings", matmul_tflops=rate, copy_tb_s=round(2 * source.numel() / copy / 1e12, 2))


def seconds(call: Callable[[], Any], repeats: int = 10) -> float:
    """Mean of some calls after three others."""
    for _ in range(3):
        call()
    wait()
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    wait()
    return (time.perf_counter() - began) / repeats


def timed(
    name: str,
    made: Stepper,
    data: Batch,
    method: str,
    *,
    warm: int = 3,
    counted: int = 8,
    part: str = "train",
) -> None:
    """Median of some steps, each to its end."""
    first = time.perf_counter()
    for i in range(warm):
        made.step(i, data, False)
    wait()
    warmed, times = time.perf_counter() - first, []
    for i in range(counted):
        began = time.perf_counter()
        made.step(warm + i, data, False)
        wait()
        times.append(time.perf_counter() - began)
    spent, batch = statistics.median(times), len(data[1])
    clip, texts = FLOPS[method]
    say(
        part,
        what=name,
        method=method,
        batch=batch,
        clips_s=round(batch / spent, 1),
        step_ms=round(1e3 * spent, 1),
        worst_ms=round(1e3 * max(times), 1),
        warm_s=round(warmed, 1),
        of_peak=round((clip * batch + texts) / spent / PEAK, 3),
        peak_gb=round(torch.cuda.max_memory_allocated() / 1e9, 1) if DEVICE == "cuda" else None,
    )


def synchronisations(made: Stepper, data: Batch, method: str) -> None:
    """How often a step makes the processor wait for the GPU, and where."""
    if DEVICE != "cuda":
        return
    places = places_of_waits(lambda: made.step(98, data, False))
    say("synchronisations", method=method, count=sum(places.values()), places=places)


def places_of_waits(call: Callable[[], Any]) -> dict[str, int]:
    """Lines at which the processor waits for the GPU in `call`, and how often."""
    places: dict[str, int] = {}
    if DEVICE != "cuda":
        return places
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    torch.cuda.set_sync_debug_mode("default")
    for warning in seen:
        if "synchroniz" in str(warning.message):
            place = f"{'/'.join(Path(warning.filename).parts[-2:])}:{warning.lineno}"
            places[place] = places.get(place, 0) + 1
    return places


def profiled(made: Stepper, data: Batch, method: str) -> None:
    """Kernels of a step, the longest by name."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (DEVICE == "cuda")
    with profile(activities=activities) as seen:
        made.step(99, data, False)
        wait()
    kind = torch.autograd.DeviceType.CUDA
    rows = [event for event in seen.key_averages() if event.device_type == kind]
    longest = sorted(rows, key=lambda event: -event.self_device_time_total)[:24]
    say(
        "kernels",
        method=method,
        gpu_ms=round(sum(event.self_device_time_total for event in rows) / 1e3, 1),
        launches=sum(event.count for event in rows),
        longest=[
            [round(event.self_device_time_total / 1e3, 2), event.count, event.key[:120]]
            for event in longest
        ],
    )


def compiled() -> None:
    """The same steps as they are and compiled."""
    for method in CHOSEN:
        if left() < 60:
            return
        attempt("compiled", "compiled", method, partial(compiled_step, method))


def compiled_step(method: str) -> None:
    """Time steps before and after compilation, and count graphs."""
    dynamo = import_module("torch._dynamo")  # seconds, which each loading process would spend too
    dynamo.reset()
    dynamo.utils.counters.clear()
    setting = Setting(VIT, method, BATCH, steps=50, classes=400, precision="bf16")
    losses = []
    for name in ("eager", "compiled"):
        made, data = stepper(setting)
        if name == "compiled":
            made.objective.model.compile()
        losses.append(made.step(0, data, False).numbers["loss"])
        timed(name, made, data, method, counted=6, part="compiled")
        del made
        clean()
    stats = dynamo.utils.counters["stats"]["unique_graphs"]
    off = abs(losses[1] / losses[0] - 1)
    say("graphs", method=method, graphs=stats, loss_apart=float(f"{off:.2g}"))


# -- use ------------------------------------------------------------------------------------------


@torch.no_grad()
def use() -> None:
    """Clips/s of EZ-CLIP's encoder, and its features beside the processor's."""
    setting = Setting(VIT, "ez_clip", BATCH, steps=50, classes=400)
    model = setting.objective(setting.config()).model.eval().requires_grad_(False)
    size, frames = model.backbone.image_size, model.num_frames
    draw = torch.Generator().manual_seed(0)
    clips = torch.randint(256, (BATCH, frames, 3, size, size), dtype=torch.uint8, generator=draw)
    few, mean, std = clips[:4], model.backbone.mean, model.backbone.std
    reference = model.encode_video(normalise(few, mean, std, torch.device("cpu")))[1]
    model.to(DEVICE)
    held = clips.to(DEVICE)
    for name in ("no", "tf32", "bf16", "fp16"):

        def encode(of: torch.Tensor, precision: str = name) -> torch.Tensor:
            with computing_in(precision, torch.device(DEVICE)):
                video = normalise(of, mean, std, torch.device(DEVICE))
                return model.encode_video(video)[1].float()

        spent = seconds(lambda: encode(held), 5)
        cosine = torch.cosine_similarity(encode(few).cpu(), reference).min().item()
        name = "float32" if name == "no" else name
        say("use", on=name, clips_s=round(BATCH / spent, 1), least_cosine=round(cosine, 6))


def backbones() -> None:
    """Ratios of time, peak memory and features, ours beside the library's."""
    from benchmarks.backbones import NAMES, measure

    def measured_backbone(name: str) -> None:
        say("backbones", name=name, **measure(name, 64, 9, torch.device(DEVICE)))

    for name in NAMES:
        if left() < 20:
            return
        attempt("backbones", name, "frozen_clip", partial(measured_backbone, name))
        clean()


# -- data -----------------------------------------------------------------------------------------


def pictures(folder: Path, count: int = 16, frames: int = 32) -> Path:
    """A frame cache of textured pictures of 340 × 256 from folders of images: no video library needed."""
    rows, draw = [], np.random.default_rng(0)
    for video in range(count):
        path = folder / f"video-{video}"
        path.mkdir()
        noise = draw.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        coarse = Image.fromarray(noise).resize((460, 340), Image.Resampling.BICUBIC)
        whole = np.asarray(coarse) + draw.normal(0, 6, (340, 460, 1))
        for number in range(frames):
            seen = whole[number : number + 256, 2 * number : 2 * number + 340]
            seen = np.clip(seen + draw.normal(0, 3, (256, 340, 1)), 0, 255).astype(np.uint8)
            Image.fromarray(seen).save(path / f"{number:03d}.png", compress_level=1)
        rows.append(FrameRow(f"v/{video:03d}", path, "frames", frames, True, "v", 256, 340))
    workers = min(16, os.cpu_count() or 1)
    build_frame_cache(rows, FrameSettings(), {}, folder / "frames", workers=workers)
    return folder / "frames"


def data() -> None:
    """Steps that read from shards with a worker a core, augmented by these or on the GPU."""
    with tempfile.TemporaryDirectory(prefix="vidprompt-gpu-") as name:
        cache = pictures(Path(name))
        ids = [f"v/{n:03d}" for n in range(16)] * 64
        for what in ("device", "crops", "workers"):
            for method in CHOSEN:
                if left() < 35:
                    return
                if ONLY and what not in ONLY:
                    continue
                attempt("loader", what, method, partial(loading, cache, ids, method, what))


def augmentation() -> None:
    """Time, launches and synchronisations of a batch's augmentation on the GPU, and its pixels."""
    for method in CHOSEN:
        attempt("augmentation", "", method, partial(augmented, method))


def augmented(method: str) -> None:
    """A batch by the released recipe, beside the same clips on the processor."""
    setting = Setting(VIT, method, BATCH, classes=400)
    recipe = Augmentation(**vars(setting.config().trainer.augmentation))
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand((BATCH * 8, 3, 24, 32), generator=draw).mul_(255)
    sized = torch.nn.functional.interpolate(coarse, (256, 340), mode="bicubic")
    noisy = sized.add_(torch.randn(sized.shape, generator=draw).mul_(5)).clamp_(0, 255)
    clips = noisy.to(torch.uint8).unflatten(0, (BATCH, 8))
    drawn = [
        drawn_clip(one, n, 224, recipe, np.random.default_rng(n)) for n, one in enumerate(clips)
    ]
    batch, where = collate_drawn(recipe, drawn, stack), torch.device(DEVICE)
    if DEVICE == "cuda":
        batch = pin_memory(batch)

    def augment() -> torch.Tensor:
        return augment_batch(batch, 224, recipe, where)[0]

    spent = seconds(augment, 5)
    began = time.perf_counter()
    found = augment()
    issued = time.perf_counter() - began
    wait()
    few = found[:16].cpu()
    pairs = list(enumerate(clips[:16]))
    expected = [training_view(one, 224, recipe, np.random.default_rng(n)) for n, one in pairs]
    off = (few.int() - torch.stack(expected).int()).abs()
    say(
        "augmentation",
        method=method,
        ms=round(1e3 * spent, 2),
        processor_ms=round(1e3 * issued, 2),
        synchronisations=places_of_waits(augment),
        difference_mean=round(off.float().mean().item(), 5),
        difference_max=int(off.max()),
        above_1=round((off > 1).float().mean().item(), 6),
    )


def loading(cache: Path, ids: list[str], method: str, what: str) -> None:
    """Clips/s of steps fed by the loader, and the share of a step that waits for it."""
    setting = Setting(VIT, method, BATCH, steps=50, classes=400, precision="bf16")
    recipe = dict(vars(setting.config().trainer.augmentation))
    crops = {"scales": [1.0, 0.875, 0.75, 0.66], "flip": True}
    made, _ = stepper(setting)
    clips = TrainingClips(
        cache,
        ids,
        [n % 400 for n in range(len(ids))],
        num_frames=made.objective.model.num_frames,
        size=made.objective.model.backbone.image_size,
        augmentation=Augmentation(**(crops if what == "crops" else recipe)),
        drawn=what == "device",
    )
    workers = min(8, max(1, (os.cpu_count() or 2) - 1))  # 8: as released
    steps = workers + (8 if what == "workers" else 24)
    plan = ShuffledBatches(len(ids), BATCH, steps + 2, 1, 0)
    loader = batches(clips, plan, workers, torch.device(DEVICE))
    began, rows = time.perf_counter(), []
    for i in range(steps):
        asked = time.perf_counter()
        batch = next(loader)
        got = time.perf_counter()
        made.step(i, batch, False)
        wait()
        rows.append((got - asked, time.perf_counter() - asked))
        if time.perf_counter() - began > 40:
            break
    loader.close()
    counted = rows[len(rows) // 2 :]  # those made ahead while the workers began are left out
    whole = sum(both for _, both in counted)
    say(
        "loader",
        method=method,
        what=what,
        workers=workers,
        steps=len(rows),
        clips_s=round(BATCH * len(counted) / whole, 1),
        waiting=round(sum(waited for waited, _ in counted) / whole, 3),
        first_batch_s=round(rows[0][0], 1),
    )


# -- the demo and the tests -----------------------------------------------------------------------


def demo() -> None:
    """The demo's methods trained, encoded and evaluated; top-1 beside the CPU's."""
    if DEVICE == "cpu":
        return  # it would write over the project's own results
    for method, precision in (("ez_clip", "no"), ("vita_clip", "no"), ("ez_clip", "fp16_weights")):
        if left() < 45:
            return
        name = f"{method}, {precision}"
        attempt("demo", name, method, partial(demo_run, method, precision))


def demo_run(method: str, precision: str) -> None:
    """One supervised training with its figures."""
    metrics = ROOT / f"results/demo/{method}/supervised/metrics.json"
    kept = metrics.read_text("utf-8")
    spent = {}
    overrides = [f"method={method}", "dataset=demo", f"trainer.precision={precision}"]
    stages = (
        ("train", "split=supervised_split1"),
        ("features", "split=supervised_split1"),
        ("evaluate", "protocol=supervised"),
    )
    try:
        for stage, which in stages:
            began = time.perf_counter()
            command = [sys.executable, "-m", "vidprompt.cli", stage, *overrides, which]
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=max(30.0, left())
            )
            spent[stage] = round(time.perf_counter() - began, 1)
            if done.returncode:
                print((done.stdout + done.stderr)[-2500:], flush=True)
                say("demo", method=method, precision=precision, stage=stage, rc=done.returncode)
                return
        say(
            "demo",
            method=method,
            precision=precision,
            top1=top1(metrics.read_text("utf-8")),
            top1_on_cpu=top1(kept),
            seconds=spent,
        )
    finally:
        metrics.write_text(kept, "utf-8")


def top1(metrics: str) -> float:
    """The supervised top-1 of a metrics file."""
    value: float = json.loads(metrics)["summary"]["supervised"]["top1"]["value"]
    return value


def tests() -> None:
    """The tests of what runs on the GPU, as many at once as there are cores, at most 12."""
    processes = min(12, max(1, (os.cpu_count() or 2) - 2))
    folders = ["tests/models", "tests/training", "tests/inference"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-n", str(processes)]
    command += ["--dist", "loadfile", "-p", "no:cacheprovider", "--maxfail=60", *folders]
    began = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=left(), env=environment
        )
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        print((output if isinstance(output, str) else output.decode())[-3000:])
        say("tests", error=f"not done after {error.timeout:.0f} s")
        return
    (OUT.parent / "tests.txt").write_text(done.stdout + done.stderr, "utf-8")
    failed = [line[:160] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERR"))]
    last = done.stdout.strip().splitlines()[-1][:200] if done.stdout.strip() else done.stderr[-200:]
    say("tests", rc=done.returncode, s=round(time.perf_counter() - began), last=last, failed=failed)


PARTS = (same, train, use, backbones, demo, augmentation, data, compiled, tests)


def main(names: list[str]) -> None:
    """The named parts, or all."""
    parts = {part.__name__: part for part in PARTS}
    if unknown := [name for name in names if name not in parts]:
        raise SystemExit(f"no part {unknown[0]}: there are {', '.join(parts)}")
    say("card", gpu=CARD, torch=torch.__version__, cores=os.cpu_count())
    for name in names or parts:
        if left() < 20:
            say("left out", what=name)
            continue
        try:
            parts[name]()
        except Exception as error:  # the other parts have something to say
            traceback.print_exc()
            say(name, error=f"{type(error).__name__}: {str(error)[:300]}")
        clean()
    print(f"{(time.monotonic() - BEGAN) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
