"""Numbers of a training run, from params/trainer and its recipe: typed and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidprompt.errors import UserError

_LENGTH = re.compile(r"(\d+(?:\.\d+)?) *(steps?|epochs?)?")
PRECISIONS = ("no", "bf16", "fp16")
SCHEDULES = ("cosine", "multistep", "constant")
SELECTIONS = ("last", "best")
_CHOICES = {
    "precision": PRECISIONS,
    "schedule": SCHEDULES,
    "select": SELECTIONS,
    "order": ("random", "streaming"),
    "decode": ("workers", "device"),
    "dtype": ("float16", "bfloat16", "float32"),
}
_SHARES = ("ema", "wise_ft")
_COUNTS = ("batch_size", "micro_batches", "log_every", "save_every")


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


def trainer_settings(
    trainer: Mapping[str, Any], *, videos: int, batch_size: int, seed: int
) -> TrainerSettings:
    """The settings of a run over `videos` videos, `batch_size` of them a step.

    Raises UserError for a length without a number, an unknown choice, or a number out of its range.
    """
    check_trainer(trainer)

    def steps(value: Any, name: str) -> int:
        return in_steps(value, f"trainer.{name}", videos, batch_size)

    total = steps(trainer["length"], "length")
    if total < 1:
        raise UserError(f"trainer.length={trainer['length']}: a run has at least one step")
    return TrainerSettings(
        steps=total,
        warmup=steps(trainer["warmup"], "warmup"),
        milestones=tuple(steps(one, "milestones") for one in trainer["milestones"]),
        batch_size=batch_size,
        lr_scale={str(k): float(v) for k, v in trainer["lr_scale"].items()},
        no_decay=tuple(trainer["no_decay"]),
        betas=(float(trainer["betas"][0]), float(trainer["betas"][1])),
        evaluate_every=int(trainer["evaluate_every"]) or max(1, math.ceil(total / 10)),
        seed=seed,
        **{
            key: trainer[key]
            for key in (
                "schedule", "gamma", "micro_batches", "lr", "weight_decay", "clip_grad",
                "precision", "ema", "wise_ft", "select", "skip_non_finite", "log_every",
                "save_every", "tensorboard",
            )
        },
    )  # fmt: skip


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Raises UserError for what no run can be trained with."""
    for key, valid in _CHOICES.items():
        if str(trainer[key]) not in valid:
            raise UserError(f"trainer.{key}={trainer[key]}: choose {_either(valid)}")
    for key in _COUNTS:
        if not isinstance(trainer[key], int) or trainer[key] < 1:
            raise UserError(f"trainer.{key}={trainer[key]}: a whole number of at least 1")
    for key in _SHARES:
        if not 0 <= float(trainer[key]) <= 1:
            raise UserError(f"trainer.{key}={trainer[key]}: a share from 0 to 1")
    if float(trainer["ema"]) == 1:
        raise UserError("trainer.ema=1 would never leave the start: choose less than 1 (0 = off)")


def in_steps(value: Any, name: str, videos: int, batch_size: int) -> int:
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


def _either(valid: Sequence[str]) -> str:
    return f"{', '.join(valid[:-1])} or {valid[-1]}"
