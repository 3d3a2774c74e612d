"""The training loop: one for all methods and protocols."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator

from vidprompt.data.loading import normalise
from vidprompt.errors import UserError
from vidprompt.progress import Progress
from vidprompt.training.objectives import Objective
from vidprompt.training.optimisation import build_optimizer, cosine_with_warmup


@dataclass(frozen=True)
class TrainerSettings:
    """Numbers of a training run; see params/trainer/."""

    steps: int
    batch_size: int
    lr: float
    prompt_lr_scale: float
    weight_decay: float
    betas: tuple[float, float]
    warmup: int
    clip_grad: float | None
    precision: str  # "no", "bf16" or "fp16"
    log_every: int
    workers: int


@dataclass
class TrainingLog:
    """What was seen: one row every `log_every` steps, terms averaged since the row before."""

    rows: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


def train(
    objective: Objective,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    settings: TrainerSettings,
    progress: Progress,
) -> TrainingLog:
    """Run `settings.steps` steps over uint8 batches (B, T, 3, H, W), labels (B,).

    Raises UserError on a non-finite loss, naming the step.
    """
    accelerator = Accelerator(mixed_precision=settings.precision)
    optimizer = build_optimizer(
        objective,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        betas=settings.betas,
        prompt_lr_scale=settings.prompt_lr_scale,
    )
    schedule = cosine_with_warmup(optimizer, steps=settings.steps, warmup=settings.warmup)
    backbone = objective.model.backbone
    wrapped, prepared = accelerator.prepare(objective, optimizer)
    wrapped.train()
    parameters = [p for p in objective.parameters() if p.requires_grad]
    log, began = TrainingLog(), time.monotonic()
    sums: dict[str, float] = {}
    for step, (clips, labels) in enumerate(batches, 1):
        video = normalise(clips, backbone.mean, backbone.std, accelerator.device)
        with accelerator.autocast():
            terms = wrapped(video, labels.to(accelerator.device))
        if not torch.isfinite(terms["loss"]):
            raise UserError(f"the loss is {terms['loss'].item()} at step {step}: try a smaller lr")
        accelerator.backward(terms["loss"])
        if settings.clip_grad:
            accelerator.clip_grad_norm_(parameters, settings.clip_grad)
        lr = optimizer.param_groups[0]["lr"]
        prepared.step()
        schedule.step()
        prepared.zero_grad()
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        progress.advance(1, loss=terms["loss"].item())
        if step % settings.log_every == 0 or step == settings.steps:
            count = (step - 1) % settings.log_every + 1
            means = {name: round(total / count, 6) for name, total in sums.items()}
            log.rows.append({"step": step, **means, "lr": lr})
            sums = {}
    log.seconds = time.monotonic() - began
    objective.eval()
    return log
