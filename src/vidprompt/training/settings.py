"""Numbers of a training run, from params/trainer and its recipe: typed and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice

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
_SWITCHES = ("compile", "best_on_test", "tensorboard")
_WHOLE = {  # whole numbers: at least
    **dict.fromkeys(("batch_size", "micro_batches", "log_every", "save_every", "stride"), 1),
    **dict.fromkeys(("evaluate_every", "skip_non_finite", "workers"), 0),
}
_NUMBERS = {  # from, to
    "lr": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
    "gamma": (0.0, math.inf),
    "ema": (0.0, 1.0),
    "wise_ft": (0.0, 1.0),
}


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
    if not _is_number(seed, int) or seed < 0:
        raise UserError(f"seed={seed}: a whole number of at least 0")

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
        check_choice(f"trainer.{key}", str(trainer[key]), valid)
    for key in _SWITCHES:
        _must(isinstance(trainer[key], bool), trainer, key, "choose true or false")
    for key, least in _WHOLE.items():
        fine = _is_number(trainer[key], int) and trainer[key] >= least
        _must(fine, trainer, key, f"a whole number of at least {least}")
    for key, (low, high) in _NUMBERS.items():
        fine = _is_number(trainer[key], int, float) and low <= trainer[key] <= high
        what = f"a number from {low:g}" + (f" to {high:g}" if high < math.inf else "")
        _must(fine, trainer, key, what)
    _must(trainer["ema"] < 1, trainer, "ema", "1 would never leave the start; 0 is off")
    clip = trainer["clip_grad"]
    fine = clip is None or (_is_number(clip, int, float) and clip > 0)
    _must(fine, trainer, "clip_grad", "a number above 0, or null to leave gradients as they are")
    betas = trainer["betas"]
    fine = isinstance(betas, list) and len(betas) == 2
    fine = fine and all(_is_number(beta, int, float) and 0 <= beta < 1 for beta in betas)
    _must(fine, trainer, "betas", "two numbers from 0 to below 1")
    _must(isinstance(trainer["milestones"], list), trainer, "milestones", "a list of lengths")
    _must(isinstance(trainer["no_decay"], list), trainer, "no_decay", "a list of names")
    for name, scale in trainer["lr_scale"].items():
        if not (_is_number(scale, int, float) and scale >= 0):
            raise UserError(f"trainer.lr_scale.{name}={scale}: a number from 0")


def _is_number(value: Any, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and value == value


def _must(fine: bool, trainer: Mapping[str, Any], key: str, what: str) -> None:
    if not fine:
        raise UserError(f"trainer.{key}={trainer[key]}: {what}")


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
