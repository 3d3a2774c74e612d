"""Optimiser and learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import nn


def build_optimizer(
    module: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float],
    prompt_lr_scale: float = 1.0,
) -> torch.optim.AdamW:
    """AdamW over what is trained; no decay on vectors, norms, prompts and the logit scale.

    A matrix named "…weight" decays; everything else (biases, norms, prompts, contexts) does not.
    Prompts, embeddings and contexts (bare parameters, not of a layer) learn at lr · prompt_lr_scale.
    """
    matrices, vectors, prompts = [], [], []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim >= 2 and name.endswith("weight"):
            matrices.append(parameter)
        elif parameter.ndim >= 2:
            prompts.append(parameter)
        else:
            vectors.append(parameter)
    groups = [
        {"params": matrices, "lr": lr, "weight_decay": weight_decay},
        {"params": vectors, "lr": lr, "weight_decay": 0.0},
        {"params": prompts, "lr": lr * prompt_lr_scale, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas)


def cosine_with_warmup(
    optimizer: torch.optim.Optimizer, *, steps: int, warmup: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up, then half a cosine to zero, by step."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
