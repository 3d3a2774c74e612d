"""AdamW or SGD with a learning rate and weight decay for each kind of parameter, and the rate's schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from vidprompt.system.errors import UserError
from vidprompt.training.settings import TrainerSettings

KINDS = ("weights", "biases", "norms", "prompts", "context", "scale")
NORM_BIASES = "norm_biases"  # in lr_scale: the biases among the norms
BACKBONE = (
    "backbone"  # in lr_scale: a factor beside the others'; in no_decay: all that is trained of CLIP
)
TOWERS = ("image_tower", "text_tower")


def parameter_kind(module: nn.Module, name: str) -> str:
    """The kind (one of KINDS) of parameter `name` of `module`.

    "context": learned text vectors; "scale": a scalar (the logit scale); "norms": of layer norms; "biases"
    and "weights" of other layers, and CLIP's own embeddings and projections where they are trained;
    "prompts": other parameters of no layer (visual prompts, embeddings of time).
    """
    owner = module.get_submodule(name.rpartition(".")[0])
    parameter = module.get_parameter(name)
    if parameter.ndim == 0:
        return "scale"
    if any(part in ("context", "persons") for part in name.split(".")[:-1]):
        return "context"
    if isinstance(owner, nn.LayerNorm):
        return "norms"
    if name.endswith("bias"):
        return "biases"
    backbone = "clip" in name.split(".")[:-1]
    return "weights" if name.endswith("weight") or backbone else "prompts"


def submodule_of(name: str) -> str:
    """Part of the model that a parameter is in: `model.vision_adapters.0.up.bias` → `vision_adapters`.

    The parts are the top-level modules, and `image_tower` and `text_tower` of CLIP.
    """
    part, _, rest = name.removeprefix("model.").partition(".")
    if part != "clip":
        return part
    return "image_tower" if rest.startswith("visual.") else "text_tower"


def build_optimizer(
    module: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float],
    eps: float = 1e-8,
    lr_scale: Mapping[str, float] | None = None,
    no_decay: Sequence[str] = ("biases", "norms", "prompts", "context", "scale"),
    optimizer: str = "adamw",
    momentum: float = 0.9,
) -> torch.optim.Optimizer:
    """The optimiser of the parameters that require gradients, a group for each learning rate and decay.

    Args:
        betas, eps: of AdamW; SGD has `momentum` instead, and its decay is added to the gradient (L2).
        lr_scale: factors of `lr` by kind (`parameter_kind`) or part (`submodule_of`), which comes first;
            `norm_biases` are the biases of the norms apart. What is trained of CLIP has the factor
            `backbone` too.
        no_decay: kinds and parts without weight decay; `backbone` is all of CLIP.
        optimizer: "adamw" or "sgd".

    Each group has its unscheduled rate as `base_lr`, and as `names` the kinds and modules that are in it.
    Raises UserError for a name that is neither a kind nor a module, or if nothing is trained.
    """
    scales = dict(lr_scale or {})
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    if not named:
        raise UserError(
            "nothing is trained: the method has no parameters of its own, and its train_backbone is none"
        )
    _check_names([*scales, *no_decay], {submodule_of(name) for name, _ in named})
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    names: dict[tuple[float, float], dict[str, None]] = {}
    for name, parameter in named:
        part, kind = submodule_of(name), parameter_kind(module, name)
        narrower = [NORM_BIASES] if kind == "norms" and name.endswith("bias") else []
        called = [part, *narrower, kind]
        scaled = next((one for one in called if one in scales), kind)
        rate = lr * scales.get(scaled, 1.0)
        if part in TOWERS:
            called.append(BACKBONE)
            rate *= scales.get(BACKBONE, 1.0)
            scaled = scaled if scaled == part else f"{BACKBONE} {scaled}"
        decay = 0.0 if set(called) & set(no_decay) else weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
        names.setdefault((rate, decay), {})[scaled] = None
    listed = [
        {
            "params": params,
            "lr": key[0],
            "base_lr": key[0],
            "weight_decay": key[1],
            "names": list(names[key]),
        }
        for key, params in groups.items()
    ]
    if optimizer == "sgd":
        return torch.optim.SGD(listed, lr=lr, momentum=momentum)
    return torch.optim.AdamW(listed, lr=lr, betas=betas, eps=eps)


def _check_names(names: Iterable[str], submodules: set[str]) -> None:
    kinds = (*KINDS, NORM_BIASES, BACKBONE)
    for name in names:
        if name not in kinds and name not in submodules:
            raise UserError(
                f"trainer.lr_scale and no_decay: {name!r} is no kind of parameter "
                f"({', '.join(kinds)}) and no part of this model ({', '.join(sorted(submodules))})"
            )


def lr_factor(settings: TrainerSettings, step: int) -> float:
    """Factor of the learning rates in step 0 … steps - 1, in [0, 1]: linear warm-up, then the schedule.

    The warm-up begins at 1 / warmup, or at `warmup_start`. cosine: half a cosine to `lr_end` (0).
    multistep: multiplied by gamma at each milestone. constant: 1. With
    `schedule_every` n > 1 the rate changes in steps 1, n, 2n, … of an epoch only, and the warm-up begins at 0
    instead of 1 / warmup. Source of that: EZ-CLIP's train.py (n = 10) and utils/lr_scheduler.py.
    """
    first = 1
    if settings.schedule_every > 1:
        first, step = 0, _last_change(settings, step)
    if step < settings.warmup:
        if (start := settings.warmup_start) is not None:
            return start + (1 - start) * step / settings.warmup
        return (step + first) / settings.warmup
    if settings.schedule == "cosine":
        done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return settings.lr_end + (1 - settings.lr_end) * cosine
    if settings.schedule == "multistep":
        return float(settings.gamma ** sum(step >= milestone for milestone in settings.milestones))
    return 1.0


def _last_change(settings: TrainerSettings, step: int) -> int:
    """The last step up to `step` in which `schedule_every` lets the rate change."""
    since = step % settings.epoch_steps
    every = settings.schedule_every
    return step - since + max(0, (since + 1) // every * every - 1)


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of every group to `factor` times its `base_lr`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Kind or module → the learning rate of its parameters in this step."""
    return {
        name: round(group["lr"], 12) for group in optimizer.param_groups for name in group["names"]
    }
