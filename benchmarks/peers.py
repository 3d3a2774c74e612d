"""What people use otherwise, beside this project: training loops, what a kill costs, evaluation.

    pip install lightning transformers torchmetrics
    python benchmarks/peers.py                  # about 5 minutes on two cores
    python benchmarks/peers.py --parts kill     # one part alone; writes no file

training    a step of EZ-CLIP on the demo's backbone with the demo's recipe (24 clips of 8 frames at 48), the
            same batches from memory, the same objective, optimiser and schedule, by a plain loop of PyTorch,
            this engine, Lightning and the HF Trainer. Seconds are the median over rounds in which they take
            turns, each in a process of its own; memory is what training adds to a process. Each logs as
            it does by default; no checkpoints.
kill        40 steps in epochs of 16, a checkpoint every 10, SIGKILL in step 26, and the same command again,
            as each documents resuming. `repeated`: steps that were computed twice. `equal`: whether the
            trained values are, byte for byte, those of a run that was not killed; else by how much they
            differ.
evaluation  top-1, top-5, mean accuracy of the classes and calibration error (15 bins) of 20,000 videos and
            600 classes, from scores in memory, by `vidprompt.metrics` and torchmetrics.

Encoding beside open_clip's own `encode_image`: benchmarks/backbones.py.
Writes `benchmarks/results/peers.json`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.engine import resident_gb
from benchmarks.machine import ROOT, provenance
from benchmarks.training_runs import Clock, Setting, in_memory, trained, watched

from vidprompt.data.clips.batch_plan import ShuffledBatches
from vidprompt.data.clips.reading import normalise
from vidprompt.metrics.calibration import reliability
from vidprompt.metrics.classification import true_ranks
from vidprompt.system.progress import Progress
from vidprompt.training.engine import BatchSource, new_accelerator, train
from vidprompt.training.objectives import Objective
from vidprompt.training.optimizer import build_optimizer, lr_factor
from vidprompt.training.settings import TrainerSettings
from vidprompt.training.snapshots import Snapshots
from vidprompt.training.step import Batch

OUT = ROOT / "benchmarks/results/peers.json"
STEPS, WARM_UP, ROUNDS = 40, 5, 3
EPOCH, SAVE_EVERY, KILLED_IN = 16, 10, 26  # of the part "kill"
PACKAGES = ("lightning", "transformers", "torchmetrics", "torch")
VIDEOS, CLASSES = 20_000, 600


class Wrapped(nn.Module):
    """An objective as a module from a batch to its loss, which tells of each step of a training."""

    def __init__(self, objective: Objective, on_step: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.objective, self.on_step = objective, on_step
        objective.generator = None  # PyTorch's own, whose state others restore

    def forward(self, clips: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        self.on_step()
        model = self.objective.model
        video = normalise(clips, model.backbone.mean, model.backbone.std, clips.device)
        video, labels = self.objective.prepare(video, labels)
        terms = self.objective.loss_terms(*model.encode_video(video), labels)
        return {"loss": terms["loss"]}

    def optimizer(self, settings: TrainerSettings) -> torch.optim.Optimizer:
        return build_optimizer(
            self.objective,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            betas=settings.betas,
            lr_scale=settings.lr_scale,
            no_decay=settings.no_decay,
        )

    def schedule(
        self, optimizer: torch.optim.Optimizer, settings: TrainerSettings
    ) -> torch.optim.lr_scheduler.LambdaLR:
        last = settings.steps - 1
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: lr_factor(settings, min(step, last))
        )


# -- the ways to train ----------------------------------------------------------------------------


def plain(wrapped: Wrapped, data: DataLoader[Any], settings: TrainerSettings, _: Path) -> None:
    optimizer = wrapped.optimizer(settings)
    schedule = wrapped.schedule(optimizer, settings)
    parameters = [p for p in wrapped.parameters() if p.requires_grad]
    longest = settings.clip_grad or float("inf")
    wrapped.train()
    done = 0
    while done < settings.steps:
        for clips, labels in data:
            loss = wrapped(clips, labels)["loss"]
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, longest)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            done += 1
            if done == settings.steps:
                return


def lightning(
    wrapped: Wrapped, data: DataLoader[Any], settings: TrainerSettings, folder: Path
) -> None:
    import lightning as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.wrapped = wrapped

        def training_step(self, batch: Batch, _: int) -> torch.Tensor:
            loss = self.wrapped(*batch)["loss"]
            self.log("loss", loss, prog_bar=True)
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = wrapped.optimizer(settings)
            schedule = wrapped.schedule(optimizer, settings)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    saving = settings.save_every < settings.steps
    callbacks: list[pl.Callback] = [
        ModelCheckpoint(folder, every_n_train_steps=settings.save_every, save_last=True)
    ]
    last = folder / "last.ckpt"
    pl.seed_everything(settings.seed)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=settings.steps,
        gradient_clip_val=settings.clip_grad,
        enable_checkpointing=saving,
        callbacks=callbacks if saving else [],
        default_root_dir=folder,
        enable_model_summary=False,
    )
    trainer.fit(Module(), data, ckpt_path=str(last) if last.is_file() else None)


def hf_trainer(
    wrapped: Wrapped, data: DataLoader[Any], settings: TrainerSettings, folder: Path
) -> None:
    # which looks for a `datasets`, and benchmarks/ has another one
    sys.path[:] = [place for place in sys.path if Path(place) != Path(__file__).parent]
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=settings.steps,
        per_device_train_batch_size=data.batch_size or 1,
        max_grad_norm=settings.clip_grad or 0.0,
        save_strategy="steps" if settings.save_every < settings.steps else "no",
        save_steps=settings.save_every,
        seed=settings.seed,
        report_to=[],
        use_cpu=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )

    def collate(items: list[Batch]) -> dict[str, torch.Tensor]:
        if data.batch_size is None:  # an item is a batch
            clips, labels = items[0]
        else:
            clips, labels = (torch.stack(side) for side in zip(*items, strict=True))
        return {"clips": clips, "labels": labels}

    optimizer = wrapped.optimizer(settings)
    schedule = wrapped.schedule(optimizer, settings)
    trainer = Trainer(
        model=wrapped,
        args=arguments,
        train_dataset=data.dataset,
        data_collator=collate,
        optimizers=(optimizer, schedule),
    )
    trainer.train(resume_from_checkpoint=any(folder.glob("checkpoint-*")) or None)


WAYS = {"plain loop": plain, "Lightning": lightning, "HF Trainer": hf_trainer}
OURS = "vidprompt"


# -- a step ---------------------------------------------------------------------------------------


class InMemory(Dataset[Batch]):
    """Batches (or items) in memory, as often as they are wanted."""

    def __init__(self, made: list[Batch], count: int) -> None:
        self.made, self.count = made, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Batch:
        return self.made[number % len(self.made)]


def step_of(way: str) -> dict[str, float]:
    """Median milliseconds of a step, and the memory that training takes."""
    setting = Setting(steps=STEPS, save_every=10 * STEPS)
    config = setting.config()
    settings, objective = setting.settings(config), setting.objective(config)
    source, clock = in_memory(setting, settings, objective), Clock()
    batches = [batch for batch, _ in zip(source.batches(0), range(4), strict=False)]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the maximum begins anew
    before = resident_gb("VmRSS")
    if way == OURS:
        trained(objective, watched(source, clock), settings)
        times = [step["whole"] for step in clock.steps()]
    else:
        began: list[float] = []
        wrapped = Wrapped(objective, lambda: began.append(time.perf_counter()))
        data: DataLoader[Any] = DataLoader(InMemory(batches, STEPS), batch_size=None)
        with tempfile.TemporaryDirectory(prefix="vidprompt-") as name:
            WAYS[way](wrapped, data, settings, Path(name))
        times = [end - start for start, end in pairwise(began)]
    memory = resident_gb("VmHWM") - before
    return {"ms": 1000 * median(times[WARM_UP:]), "gb": memory}


def training() -> dict[str, Any]:
    """Milliseconds a step, ratios to the plain loop, and memory."""
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(ROUNDS):
        for way in (OURS, *WAYS):
            found.setdefault(way, []).append(child("step", way))
    ms = {way: [one["ms"] for one in ones] for way, ones in found.items()}
    base = ms["plain loop"]
    return {
        way: {
            "ms a step": round(median(times), 2),
            "times the plain loop": round(
                median(a / b for a, b in zip(times, base, strict=True)), 3
            ),
            "memory gb": round(median(one["gb"] for one in found[way]), 3),
        }
        for way, times in ms.items()
    }


# -- a kill ---------------------------------------------------------------------------------------


def kill_of(way: str, folder: Path, killed_in: int) -> dict[str, Any]:
    """Train, or go on; each step is noted before it is computed. The values at the end are in the folder."""
    setting = Setting(batch=8, steps=STEPS, save_every=SAVE_EVERY)
    config = setting.config()
    settings, objective = setting.settings(config), setting.objective(config)
    items = EPOCH * setting.batch
    draw = torch.Generator().manual_seed(1)
    size, frames = objective.model.backbone.image_size, objective.model.num_frames
    clips = torch.randint(256, (items, frames, 3, size, size), generator=draw, dtype=torch.uint8)
    labels = torch.randint(setting.classes, (items,), generator=draw)
    count = 0

    def note() -> None:
        nonlocal count
        count += 1
        with (folder / "steps").open("a") as file:
            file.write(".")
        if count == killed_in:
            os.kill(os.getpid(), signal.SIGKILL)

    if way == OURS:
        plan = ShuffledBatches(items, setting.batch, STEPS, settings.seed)

        def batches(start: int) -> Generator[Batch, None, None]:
            for step in range(start, STEPS):
                note()
                rows = [row for _, row in plan.batch(step)]
                yield clips[rows], labels[rows]

        with Progress("benchmark", STEPS, unit="steps", quiet=True) as progress:
            train(
                objective,
                BatchSource(batches, lambda step: [f"noise {step}"]),
                settings,
                accelerator=new_accelerator("no"),
                snapshots=Snapshots(folder / "snapshots", {}, lambda _: None),
                log_folder=folder,
                progress=progress,
            )
    else:
        torch.manual_seed(settings.seed)
        pairs = list(zip(clips, labels, strict=True))
        data: DataLoader[Any] = DataLoader(
            InMemory(pairs, items), batch_size=setting.batch, shuffle=True
        )
        WAYS[way](Wrapped(objective, note), data, settings, folder / "checkpoints")
    values = [p.detach().flatten() for p in objective.parameters() if p.requires_grad]
    torch.save(torch.cat(values), folder / "values.pt")
    return {}


def kill() -> dict[str, Any]:
    """Steps computed twice, and how far the values at the end are from those of an unbroken run."""
    found = {}
    for way in (OURS, "Lightning", "HF Trainer"):
        with tempfile.TemporaryDirectory(prefix="vidprompt-") as name:
            whole, broken = Path(name) / "whole", Path(name) / "broken"
            for folder in (whole, broken):
                (folder / "checkpoints").mkdir(parents=True)
            child("kill", way, whole, 0)
            child("kill", way, broken, KILLED_IN, expected=-signal.SIGKILL)
            child("kill", way, broken, 0)
            a, b = (torch.load(f / "values.pt", weights_only=True) for f in (whole, broken))
            steps = len((broken / "steps").read_text())
            found[way] = {
                "repeated": steps - STEPS,
                "equal": bool(torch.equal(a, b)),
                "largest difference": float(f"{(a - b).abs().max().item():.2g}"),
            }
    return found


# -- evaluation -----------------------------------------------------------------------------------


def evaluation() -> dict[str, Any]:
    """Seconds of both in turns, and whether they agree."""
    from torchmetrics import MetricCollection
    from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

    draw = np.random.default_rng(0)
    labels = draw.integers(CLASSES, size=VIDEOS)
    logits = draw.normal(size=(VIDEOS, CLASSES)).astype(np.float32)
    logits[np.arange(VIDEOS), labels] += 3
    scores = torch.from_numpy(logits).softmax(1)
    truth, array = torch.from_numpy(labels), scores.numpy()

    def ours() -> list[float]:
        ranks = true_ranks(array, labels)[0]
        hits = ranks == 0
        by_class = np.bincount(labels, hits, CLASSES) / np.bincount(labels, minlength=CLASSES)
        error = reliability(array.max(1), hits).error
        return [hits.mean(), (ranks < 5).mean(), by_class.mean(), error]

    def theirs() -> list[float]:
        metrics = MetricCollection(
            {
                "1": MulticlassAccuracy(CLASSES, average="micro"),
                "5": MulticlassAccuracy(CLASSES, top_k=5, average="micro"),
                "class": MulticlassAccuracy(CLASSES, average="macro"),
                "calibration": MulticlassCalibrationError(CLASSES, n_bins=15),
            }
        )
        for rows in torch.arange(VIDEOS).split(1000):
            metrics.update(scores[rows], truth[rows])
        values = metrics.compute()
        return [float(values[name]) for name in ("1", "5", "class", "calibration")]

    times: dict[str, list[float]] = {OURS: [], "torchmetrics": []}
    for number in range(ROUNDS + 1):
        for way, call in ((OURS, ours), ("torchmetrics", theirs)):
            began = time.perf_counter()
            call()
            if number:
                times[way].append(time.perf_counter() - began)
    apart = max(abs(a - b) for a, b in zip(ours(), theirs(), strict=True))
    ratio = median(a / b for a, b in zip(times[OURS], times["torchmetrics"], strict=True))
    return {
        "s": {way: round(median(ones), 3) for way, ones in times.items()},
        "vidprompt / torchmetrics": round(ratio, 3),
        "largest difference": float(f"{apart:.1e}"),
    }


# -- all ------------------------------------------------------------------------------------------


def child(part: str, *arguments: Any, expected: int = 0) -> dict[str, float]:
    """What a part says in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", part, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != expected:
        raise SystemExit(f"{command}: {done.returncode}\n{done.stderr[-3000:]}")
    last = done.stdout.splitlines()[-1] if done.stdout and not expected else "{}"
    found: dict[str, float] = json.loads(last)
    return found


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "training": training,
    "kill": kill,
    "evaluation": evaluation,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.chdir(ROOT)
    if arguments.child:
        part, way, *rest = arguments.child
        said = step_of(way) if part == "step" else kill_of(way, Path(rest[0]), int(rest[1]))
        print(f"\n{json.dumps(said)}")
        return
    found: dict[str, Any] = {}
    for name in arguments.parts:
        found[name] = PARTS[name]()
        print(json.dumps({name: found[name]}, indent=1), flush=True)
    if len(arguments.parts) == len(PARTS):
        versions = {name: version(name) for name in PACKAGES}
        result = provenance() | found | {"versions": versions}
        OUT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
