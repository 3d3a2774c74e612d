"""Losses against hand-written versions."""

import math

import numpy as np
import torch

from vidprompt.training.objectives import batch_hard_triplet, in_batch_kl, motion_loss
from vidprompt.training.optimisation import build_optimizer, cosine_with_warmup


def test_in_batch_kl_equals_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    video, text = (torch.randn(4, 8, generator=generator) for _ in range(2))
    labels, scale = torch.tensor([0, 1, 0, 2]), torch.tensor(7.0)
    v, t = (x / x.norm(dim=1, keepdim=True) for x in (video, text))
    total = 0.0
    for logits in (scale * v @ t.T, scale * t @ v.T):
        for i in range(4):
            y = np.array([10.0 * (labels[i] == labels[j]) for j in range(4)])
            target = np.exp(y) / np.exp(y).sum()
            p = torch.softmax(logits[i], 0).numpy()
            total += float((target * (np.log(target) - np.log(p))).sum()) / 4 / 2
    found = sum(in_batch_kl(video, text, labels, scale)).item() / 2
    assert math.isclose(found, total, rel_tol=1e-5)


def test_motion_loss_by_hand() -> None:
    # one video, T = 3, E = 1: differences (1, 2, 1)/2 → mean 2/3; unbiased variance of 0, 1, 2 = 1
    frames = torch.tensor([[[0.0], [1.0], [2.0]]])
    assert math.isclose(motion_loss(frames).item(), 1 / (2 / 3 + 1 + 1), rel_tol=1e-6)
    assert motion_loss(torch.ones(2, 4, 3)).item() == 1.0


def test_batch_hard_triplet_picks_the_hardest() -> None:
    angles = torch.tensor([0.0, 0.6, 1.0, 1.5])
    features = torch.stack([angles.cos(), angles.sin()], 1)
    labels = torch.tensor([0, 0, 1, 1])

    def distance(i: int, j: int) -> float:
        return 2 * math.sin(abs(float(angles[i] - angles[j])) / 2)

    expected = 0.0
    for i in range(4):
        positive = max(distance(i, j) for j in range(4) if labels[i] == labels[j])
        negative = min(distance(i, j) for j in range(4) if labels[i] != labels[j])
        expected += max(0.0, positive - negative + 0.3) / 4
    assert math.isclose(batch_hard_triplet(features, labels, 0.3).item(), expected, rel_tol=1e-4)


def test_optimizer_decays_matrices_only_and_scales_prompts() -> None:
    module = torch.nn.Module()
    module.layer = torch.nn.Linear(3, 2)
    module.prompts = torch.nn.Parameter(torch.zeros(4, 3))
    optimizer = build_optimizer(
        module, lr=1.0, weight_decay=0.1, betas=(0.9, 0.98), prompt_lr_scale=5.0
    )
    by_shape = {
        tuple(g["params"][0].shape): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups
    }
    assert by_shape == {(2, 3): (1.0, 0.1), (2,): (1.0, 0.0), (4, 3): (5.0, 0.0)}


def test_schedule_warms_up_and_ends_at_zero() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = cosine_with_warmup(optimizer, steps=10, warmup=4)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert optimizer.param_groups[0]["lr"] < 1e-9
