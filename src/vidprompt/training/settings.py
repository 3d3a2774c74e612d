"""The numbers of one training run: `TrainerConfig` with lengths in steps, for its list of videos."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from vidprompt.config.schema import Length, TrainerConfig
from vidprompt.system.errors import UserError

MAX_LR = 1e6  # far above any use; an optimiser's step of 1e37 overflows float32
_LENGTH = re.compile(r"(\d+(?:\.\d+)?) *(steps?|epochs?)?")


@dataclass(frozen=True)
class TrainerSettings:
    """Numbers of one run; lengths are in steps. See params/trainer/demo.yaml for what each does."""

    steps: int
    warmup: int
    schedule: str
    milestones: tuple[int, ...]
    gamma: float
    batch_size: int  # of a step, over all processes and micro-batches
    micro_batches: int
    lr: float
    lr_scale: dict[str, float]
    weight_decay: float
    no_decay: tuple[str, ...]
    betas: tuple[float, float]
    clip_grad: float | None
    precision: str
    ema: float
    wise_ft: float
    select: str
    evaluate_every: int
    skip_non_finite: int
    log_every: int
    save_every: int
    tensorboard: bool
    seed: int
    optimizer: str = "adamw"
    momentum: float = 0.9
    eps: float = 1e-8
    warmup_start: float | None = None
    lr_end: float = 0.0
    schedule_every: int = 1
    epoch_steps: int = 1  # whole batches of an epoch, for `schedule_every`


def trainer_settings(
    trainer: TrainerConfig, *, videos: int, batch_size: int, seed: int, by_steps: bool = True
) -> TrainerSettings:
    """The settings of a run over `videos` videos, `batch_size` of them a step.

    Without `by_steps`, as for a method that is fitted at once, there are no steps whatever the length. Raises
    UserError for a length without a number, a run without a step, or a learning rate that float32 cannot
    take.
    """

    def steps(value: Length, name: str) -> int:
        return in_steps(value, f"trainer.{name}", videos, batch_size)

    total = steps(trainer.length, "length") if by_steps else 0
    if by_steps and total < 1:
        raise UserError(f"trainer.length={trainer.length}: a run has at least one step")
    if max(trainer.lr, *(trainer.lr * scale for scale in trainer.lr_scale.values()), 0.0) > MAX_LR:
        raise UserError(f"trainer.lr={trainer.lr:g} is too large: at most {MAX_LR:g}")
    return TrainerSettings(
        steps=total,
        warmup=steps(trainer.warmup, "warmup"),
        schedule=trainer.schedule,
        milestones=tuple(steps(one, "milestones") for one in trainer.milestones),
        gamma=trainer.gamma,
        batch_size=batch_size,
        micro_batches=trainer.micro_batches,
        lr=trainer.lr,
        lr_scale=dict(trainer.lr_scale),
        weight_decay=trainer.weight_decay,
        no_decay=trainer.no_decay,
        betas=trainer.betas,
        eps=trainer.eps,
        clip_grad=trainer.clip_grad,
        precision=trainer.precision,
        ema=trainer.ema,
        wise_ft=trainer.wise_ft,
        select=trainer.select,
        evaluate_every=_evaluation_steps(trainer, steps, total),
        skip_non_finite=trainer.skip_non_finite,
        log_every=trainer.log_every,
        save_every=trainer.save_every,
        tensorboard=trainer.tensorboard,
        seed=seed,
        optimizer=trainer.optimizer,
        momentum=trainer.momentum,
        warmup_start=trainer.warmup_start,
        lr_end=trainer.lr_end,
        schedule_every=trainer.schedule_every,
        epoch_steps=max(1, videos // batch_size),
    )


def _evaluation_steps(
    trainer: TrainerConfig, steps: Callable[[Length, str], int], total: int
) -> int:
    """Steps between evaluations; 0 is each epoch with `best_on_test`, as EZ-CLIP does, else ten times."""
    given = steps(trainer.evaluate_every, "evaluate_every")
    if given or trainer.evaluate_every not in (0, "0"):
        return max(1, given)
    return max(
        1, steps("1 epoch", "evaluate_every") if trainer.best_on_test else math.ceil(total / 10)
    )


def in_steps(value: Length, name: str, videos: int, batch_size: int) -> int:
    """`400`, `400 steps` or `1.5 epochs` of `videos` videos, in steps of `batch_size`."""
    match = _LENGTH.fullmatch(str(value).strip())
    if match is None:
        raise UserError(f"{name}={value}: write a number of steps, or e.g. `5 epochs`")
    number = float(match[1])
    if (match[2] or "").startswith("epoch"):
        return math.ceil(number * videos / max(1, batch_size))
    if not number.is_integer():
        raise UserError(f"{name}={value}: steps are whole; only epochs may have parts")
    return int(number)
