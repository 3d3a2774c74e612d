"""A small training run for tests: a tiny CLIP, and clips made from the step's number.

As a program it writes its step log as JSON; several processes of it train together.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tests.models.small import small_backbone

from vidprompt.models import create_model
from vidprompt.models.text.prompts import PromptSet
from vidprompt.system.progress import Progress
from vidprompt.training.engine import BatchSource, TrainingLog, Validation, new_accelerator, train
from vidprompt.training.objectives import Objective, ReIdentification, create_objective
from vidprompt.training.processes import Processes
from vidprompt.training.settings import TrainerSettings
from vidprompt.training.snapshots import Snapshots

CLASSES = ["Yoga", "Archery", "Diving", "Rowing"]
SETTINGS = TrainerSettings(
    steps=6, warmup=2, schedule="cosine", milestones=(), gamma=0.1, batch_size=4, micro_batches=1,
    lr=1e-2, lr_scale={}, weight_decay=0.05, no_decay=(), betas=(0.9, 0.98), clip_grad=1.0,
    precision="no", ema=0.0, wise_ft=1.0, select="last", evaluate_every=2, skip_non_finite=0,
    log_every=2, save_every=2, tensorboard=False, seed=3,
)  # fmt: skip


class Measure:
    """A validator whose measure is made by a function."""

    def __init__(self, measure: Callable[[], float]) -> None:
        self.evaluate = measure


def objective(name: str = "contrastive_motion", dropout: float = 0.0) -> Objective:
    torch.manual_seed(0)
    if name == "identity":
        off = {"prompt_dropout": 0.0, "stochastic_depth": 0.0}
        model = create_model("ez_clip", small_backbone(), num_frames=2, **off)
        return ReIdentification(model, CLASSES, context_length=2, margin=0.3, triplet_weight=1.0)
    if name == "fine_tuned":
        model = create_model("vifi_clip", small_backbone(), num_frames=2)
        return create_objective("cross_entropy", model, CLASSES, PromptSet(("a {}",)), {})
    method = "vita_clip" if name == "cross_entropy" else "ez_clip"
    drops = {"prompt_dropout": dropout, "stochastic_depth": 0.0} if method == "ez_clip" else {}
    context = {"context": "shared"} if method == "vita_clip" else {}
    model = create_model(method, small_backbone(), num_frames=2, **drops, **context)
    weight = {"motion_weight": 1.0} if method == "ez_clip" else {}
    return create_objective(name, model, CLASSES, PromptSet(("a {}", "the {}")), weight)


def batch(step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    clips = torch.randint(256, (size, 2, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return clips, torch.arange(size) % 3 if size > 3 else torch.arange(size)


def source(
    settings: TrainerSettings, processes: Processes, dies_at: int | None = None
) -> BatchSource:
    """Batches made from the step's number; `dies_at`: the step at which the process is killed."""

    def batches(start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for step in range(start, settings.steps):
            if step == dies_at:
                raise ConnectionError("killed")
            clips, labels = batch(step, settings.batch_size)
            share = processes.local_slice(settings.batch_size)
            yield clips[share], labels[share]

    return BatchSource(
        batches, lambda step: [f"video {step}-{i}" for i in range(settings.batch_size)]
    )


def run(
    folder: Path,
    chosen: Objective,
    *,
    dies_at: int | None = None,
    validation: Validation | None = None,
    messages: list[str] | None = None,
    fingerprint: dict[str, Any] | None = None,
    data: BatchSource | None = None,
    keep_last: bool = False,
    **changes: Any,
) -> TrainingLog:
    settings = replace(SETTINGS, **changes)
    accelerator = new_accelerator(settings.precision)
    notify = (messages if messages is not None else []).append
    with Progress("test", settings.steps, quiet=True) as progress:
        return train(
            chosen,
            data or source(settings, Processes(accelerator), dies_at),
            settings,
            accelerator=accelerator,
            snapshots=Snapshots(folder, fingerprint or {"run": 1}, notify),
            log_folder=folder,
            progress=progress,
            validation=validation,
            keep_last=keep_last,
        )


def values(chosen: Objective) -> dict[str, torch.Tensor]:
    """Copies on the CPU of what is trained."""
    return {n: p.detach().cpu().clone() for n, p in chosen.named_parameters() if p.requires_grad}


def record(folder: Path, name: str, **changes: Any) -> dict[str, Any]:
    """Train; the lines of the step log, and the sum of each parameter."""
    chosen = objective(name)
    run(folder, chosen, **changes)
    lines = (folder / "steps.jsonl").read_text("utf-8").splitlines()
    sums = {n: float(p.double().sum()) for n, p in values(chosen).items()}
    return {"steps": [json.loads(line) for line in lines], "sums": sums}


def main() -> None:
    """`FOLDER {NAME: CHANGES}`: record each; at the very end, whether there is still a process group."""
    folder = Path(sys.argv[1])
    ended = folder / f"group_{os.environ.get('RANK', 0)}.json"
    atexit.register(lambda: ended.write_text(json.dumps(dist.is_initialized())))
    for name, changes in json.loads(sys.argv[2]).items():
        found = record(folder / name, name, **changes)
        if new_accelerator("no").is_main_process:
            (folder / f"{name}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
