"""Groups of parameters, learning rates by step, and the settings of a run."""

from dataclasses import replace
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests.models.small import small_backbone
from tests.training.small_run import SETTINGS, objective

from vidprompt.config.build import build
from vidprompt.config.compose import compose
from vidprompt.config.schema import TrainerConfig
from vidprompt.models import create_model
from vidprompt.system.errors import UserError
from vidprompt.training.optimizer import build_optimizer, lr_factor, parameter_kind, set_lr
from vidprompt.training.settings import in_steps, trainer_settings

ROOT = Path(__file__).parents[2]


def trainer(**changes: Any) -> dict[str, Any]:
    content = yaml.safe_load((ROOT / "params/trainer/demo.yaml").read_text("utf-8"))
    del content["by_protocol"]
    return content | {"length": 40, "lr": 1e-3, "batch_size": 8} | changes


def settings(**changes: Any) -> Any:
    chosen = build(TrainerConfig, trainer(**changes), "trainer")
    return trainer_settings(chosen, videos=100, batch_size=chosen.batch_size, seed=1)


def test_every_kind_of_parameter_is_told_apart() -> None:
    model = create_model("vita_clip", small_backbone(), num_frames=2, context="shared")
    found = {n: parameter_kind(model, n) for n, p in model.named_parameters() if p.requires_grad}
    assert found["log_scale"] == "scale"
    assert found["time_embedding"] == found["global_prompts"] == "prompts"
    assert found["summaries.0.norm.weight"] == found["summaries.0.norm.bias"] == "norms"
    assert found["summaries.0.attention.in_proj_weight"] == "weights"
    assert found["summaries.0.attention.in_proj_bias"] == "biases"
    assert {kind for name, kind in found.items() if name.startswith("context.")} == {"context"}
    persons = objective("identity")
    assert parameter_kind(persons, "persons.vectors") == "context"


def test_rates_and_decay_go_by_kind_and_a_part_of_the_model_comes_first() -> None:
    chosen = objective()
    optimizer = build_optimizer(
        chosen,
        lr=1.0,
        weight_decay=0.1,
        betas=(0.9, 0.98),
        lr_scale={"weights": 2.0, "prompts": 5.0, "text_adapters": 0.5},
        no_decay=["biases", "vision_adapters"],
    )
    by_id = {
        id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]
    }
    found = {n: by_id[id(p)] for n, p in chosen.named_parameters() if p.requires_grad}
    assert found["model.temporal_prompts"] == (5.0, 0.1)
    assert found["model.vision_adapters.0.down.weight"] == (2.0, 0.0)
    assert found["model.text_adapters.0.down.weight"] == (0.5, 0.1)
    assert found["model.text_adapters.0.down.bias"] == (0.5, 0.0)
    assert found["model.vision_adapters.1.up.bias"] == (1.0, 0.0)
    with pytest.raises(
        UserError, match=r"'adapters' is no kind of parameter \(weights, .*vision_ad"
    ):
        build_optimizer(chosen, lr=1.0, weight_decay=0, betas=(0.9, 0.9), lr_scale={"adapters": 1})
    set_lr(optimizer, 0.5)
    assert {g["lr"] for g in optimizer.param_groups} == {2.5, 1.0, 0.25, 0.5}


def test_biases_of_norms_can_have_a_rate_of_their_own() -> None:
    model = create_model("ez_clip", small_backbone(), num_frames=2, train_backbone="all")
    scales = {"biases": 2.0, "norm_biases": 2.0}
    optimizer = build_optimizer(
        model, lr=1.0, weight_decay=0.1, betas=(0.9, 0.9), lr_scale=scales, no_decay=["norm_biases"]
    )
    by_id = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            bias, norm = name.endswith("bias"), parameter_kind(model, name) == "norms"
            group = by_id[id(parameter)]
            assert group["lr"] == (2.0 if bias else 1.0), name
            assert group["weight_decay"] == (0.0 if bias and norm else 0.1), name


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_sgd_is_the_sum_of_decayed_gradients(momentum: float) -> None:
    layer = torch.nn.Linear(3, 2).double()
    optimizer = build_optimizer(
        layer, lr=0.1, weight_decay=0.05, betas=(0.9, 0.9), lr_scale={"biases": 2.0}, no_decay=[],
        optimizer="sgd", momentum=momentum,
    )  # fmt: skip
    assert type(optimizer) is torch.optim.SGD
    values = [p.detach().clone() for p in (layer.weight, layer.bias)]
    velocity = [torch.zeros_like(v) for v in values]
    generator = torch.Generator().manual_seed(0)
    for factor in (0.5, 1.0, 0.25):
        set_lr(optimizer, factor)
        for k, (parameter, rate) in enumerate(((layer.weight, 0.1), (layer.bias, 0.2))):
            gradient = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.grad = gradient
            velocity[k] = momentum * velocity[k] + gradient + 0.05 * values[k]
            values[k] = values[k] - factor * rate * velocity[k]
        optimizer.step()
    assert torch.allclose(layer.weight, values[0], atol=1e-12)
    assert torch.allclose(layer.bias, values[1], atol=1e-12)


def test_a_frozen_model_has_nothing_to_train() -> None:
    module = torch.nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(UserError, match="nothing is trained"):
        build_optimizer(module, lr=1.0, weight_decay=0.0, betas=(0.9, 0.98))


def test_a_part_of_the_model_may_be_given_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    scales = compose(["trainer.lr_scale.vision_adapters=0.5", "trainer.lr_scale.biases=2"]).trainer
    assert (scales.lr_scale["vision_adapters"], scales.lr_scale["biases"]) == (0.5, 2)


def test_schedules_by_step() -> None:
    cosine = replace(SETTINGS, steps=10, warmup=4)
    factors = [lr_factor(cosine, step) for step in range(10)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert factors[7] == pytest.approx(0.5)
    several = replace(cosine, schedule="multistep", milestones=(6, 8), gamma=0.1)
    assert [lr_factor(several, step) for step in (5, 6, 7, 8)] == pytest.approx([1, 0.1, 0.1, 0.01])
    assert lr_factor(replace(cosine, schedule="constant"), 9) == 1.0


def test_a_warm_up_begins_at_a_factor_and_a_cosine_ends_at_one() -> None:
    chosen = settings(length=60, warmup=20, warmup_start=0.01, lr_end=0.1)
    factors = [lr_factor(chosen, step) for step in range(60)]
    assert factors[0] == 0.01
    assert np.diff(factors[:21]) == pytest.approx([0.99 / 20] * 20)
    assert factors[20] == 1.0
    assert factors[40] == pytest.approx((1 + 0.1) / 2)
    assert lr_factor(chosen, 60) == pytest.approx(0.1)
    assert [lr_factor(settings(length=60, warmup=20), step) for step in (0, 60)] == [1 / 20, 0.0]


def test_the_rate_moves_every_tenth_step_as_in_ez_clips_train_py() -> None:
    epochs, warmup, size = 4, 1, 25
    factors, position = [], 0.0
    for epoch in range(epochs):
        for k in range(size):
            if k == 0 or (k + 1) % 10 == 0:  # lr_scheduler.step(epoch + kkk / len(train_loader))
                position = epoch + k / size
            done = (position - warmup) / (epochs - warmup)
            factors.append(position / warmup if position < warmup else (1 + cos(pi * done)) / 2)
    ours = settings(length=epochs * size, warmup=warmup * size, schedule_every=10, batch_size=4)
    assert ours.epoch_steps == size
    assert [lr_factor(ours, step) for step in range(ours.steps)] == pytest.approx(factors)
    assert lr_factor(replace(ours, schedule_every=1), 0) == 1 / size


def test_lengths_are_steps_or_epochs() -> None:
    assert in_steps("40", "length", 100, 8) == in_steps("40 steps", "length", 100, 8) == 40
    assert in_steps("3 epochs", "length", 100, 8) == 38
    assert in_steps("0.5 epochs", "length", 100, 8) == 7
    found = settings(length="2 epochs", warmup="1 epoch", milestones=["1.5 epochs"])
    assert (found.steps, found.warmup, found.milestones) == (25, 13, (19,))
    for wrong in ("many", "1.5", "-3", "3 epoch s"):
        with pytest.raises(UserError, match="trainer.length"):
            settings(length=wrong)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"schedule": "cosin"},
            "trainer.schedule=cosin: did you mean cosine\\? valid: cosine, multistep, constant",
        ),
        (
            {"optimizer": "sdg"},
            "trainer.optimizer=sdg: did you mean sgd\\? valid: adamw, sgd",
        ),
        ({"momentum": 1.0}, "trainer.momentum=1.0: a number from 0 to below 1"),
        ({"warmup_start": 2}, "trainer.warmup_start=2: a number from 0 to 1, or null"),
        ({"dtype": "half"}, "valid: float16, bfloat16, float32"),
        ({"precision": "fp8"}, "valid: no, tf32, bf16, fp16"),
        ({"select": "test"}, "valid: last, best"),
        ({"ema": 1.5}, "a number from 0 to 1"),
        ({"ema": 1.0}, "would never leave the start"),
        ({"micro_batches": 0}, "at least 1"),
        ({"workers": -1}, "at least 0"),
        ({"skip_non_finite": "many"}, "a whole number"),
        ({"lr": "abc"}, "trainer.lr=abc: a number from 0"),
        ({"lr": float("nan")}, "trainer.lr=nan"),
        ({"clip_grad": 0}, "a number above 0, or null"),
        ({"betas": [0.9]}, "two numbers"),
        ({"lr_scale": {"prompts": "much"}}, r"trainer.lr_scale.prompts=much"),
        ({"tensorboard": "maybe"}, "choose true or false"),
        ({"length": 0}, "at least one step"),
    ],
)
def test_numbers_that_cannot_be_are_sentences(change: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        settings(**change)


def test_evaluations_are_counted_in_steps_or_epochs() -> None:
    # 100 videos, 8 a step: an epoch is 13 steps
    assert settings(length="10 epochs").evaluate_every == 13
    assert settings(length=40).evaluate_every == 4
    assert settings(length=40, best_on_test=True).evaluate_every == 13
    assert settings(length=40, best_on_test=True, evaluate_every=5).evaluate_every == 5
    assert settings(length=40, evaluate_every="0.5 epochs").evaluate_every == 7
    with pytest.raises(UserError, match="evaluate_every=often"):
        settings(evaluate_every="often")
