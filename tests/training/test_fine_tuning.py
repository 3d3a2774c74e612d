"""Trainings of the backbone: resumed exactly, mixed with the start, rates of its own, float16 weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.small import small_backbone
from tests.training.small_run import CLASSES, run, values
from tests.training.test_engine import equal

from vidprompt.models import create_model
from vidprompt.models.layers.low_rank import FACTORS
from vidprompt.models.text.prompts import PromptSet
from vidprompt.system.errors import UserError
from vidprompt.training import processes
from vidprompt.training.objectives import Objective, create_objective
from vidprompt.training.optimizer import build_optimizer, learning_rates

CHOICES = ["lora", *(pytest.param(one, marks=pytest.mark.slow) for one in ("last_n", "all"))]


def fine_tuned(choice: str, method: str = "vifi_clip", **options: Any) -> Objective:
    torch.manual_seed(0)
    chosen = {"train_backbone": choice, "trained_blocks": 1, "lora_rank": 2} | options
    model = create_model(method, small_backbone(), num_frames=2, **chosen)
    return create_objective("cross_entropy", model, CLASSES, PromptSet(("a {}", "the {}")), {})


@torch.no_grad()
def features(objective: Objective) -> torch.Tensor:
    model = objective.model.eval().cpu()  # also what was trained on a GPU
    video = torch.randn(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    return torch.cat([model.encode_video(video)[1], model.encode_classes(CLASSES)[:, 0]])


@pytest.mark.parametrize("choice", CHOICES)
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path: Path, choice: str) -> None:
    chances = {"ema": 0.9, "micro_batches": 2, "wise_ft": 0.5}
    whole, again = fine_tuned(choice), fine_tuned(choice)
    expected = run(tmp_path / "whole", whole, **chances)
    with pytest.raises(ConnectionError):
        run(tmp_path / "killed", fine_tuned(choice), dies_at=3, **chances)
    assert run(tmp_path / "killed", again, **chances).rows == expected.rows
    assert equal(values(again), values(whole))
    assert torch.equal(features(again), features(whole))


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_micro_batches_give_the_gradient_of_the_whole_batch(tmp_path: Path, choice: str) -> None:
    losses = []
    for parts in (1, 2):
        chosen = fine_tuned(choice, "ez_clip", stochastic_depth=0.0, prompt_dropout=0.0)
        log = run(tmp_path / str(parts), chosen, micro_batches=parts, log_every=1)
        losses.append([row["loss"] for row in log.rows])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.parametrize("choice", CHOICES)
def test_wise_ft_mixes_the_trained_weights_with_those_of_the_start(
    tmp_path: Path, choice: str
) -> None:
    by_share = {}
    for share in (0.0, 0.5, 1.0):
        by_share[share] = fine_tuned(choice)
        run(tmp_path / str(share), by_share[share], wise_ft=share)
    start = fine_tuned(choice)
    assert torch.equal(features(by_share[0.0]), features(start))
    assert not torch.allclose(features(by_share[1.0]), features(start), atol=1e-4)
    for one in (start, *by_share.values()):
        one.model.merge_lora()  # what is mixed are the weights, whatever is trained for them
    weights = [dict(one.model.clip.named_parameters()) for one in (start, *by_share.values())]
    for name, value in weights[0].items():
        middle = (value + weights[3][name]) / 2
        assert torch.allclose(weights[2][name], middle, atol=1e-6), name


def test_the_backbone_has_a_factor_of_its_own_beside_the_others() -> None:
    chosen = fine_tuned("all", "ez_clip")
    scales = {"weights": 2.0, "text_tower": 5.0, "backbone": 0.1, "prompts": 3.0}
    optimizer = build_optimizer(
        chosen, lr=1.0, weight_decay=0.5, betas=(0.9, 0.9), lr_scale=scales, no_decay=["backbone"]
    )
    by_id = {
        id(p): (pytest.approx(g["lr"]), g["weight_decay"])
        for g in optimizer.param_groups
        for p in g["params"]
    }
    found = {n: by_id[id(p)] for n, p in chosen.named_parameters() if p.requires_grad}
    assert found["model.vision_adapters.0.up.weight"] == (2.0, 0.5)
    assert found["model.temporal_prompts"] == (3.0, 0.5)
    assert found["model.clip.visual.proj"] == (0.2, 0.0)
    assert found["model.clip.visual.ln_post.weight"] == (0.1, 0.0)
    assert found["model.clip.ln_final.weight"] == (0.5, 0.0)
    rates = learning_rates(optimizer)
    assert (rates["weights"], rates["backbone weights"], rates["text_tower"]) == (2.0, 0.2, 0.5)
    lora = fine_tuned("lora")
    groups = build_optimizer(lora, lr=1.0, weight_decay=0.0, betas=(0.9, 0.9)).param_groups
    assert sum(len(group["params"]) for group in groups) == len(values(lora))
    with pytest.raises(UserError, match="nothing is trained"):
        build_optimizer(fine_tuned("none"), lr=1.0, weight_decay=0.0, betas=(0.9, 0.9))


@pytest.mark.parametrize("choice", CHOICES)
def test_float16_weights_are_those_of_the_backbone_too(tmp_path: Path, choice: str) -> None:
    chosen = fine_tuned(choice)
    run(tmp_path, chosen, precision="fp16_weights")
    halves = {name: torch.equal(v, v.half().float()) for name, v in values(chosen).items()}
    kept = ("weight", "bias", "_proj", "projection", "visual.proj", *FACTORS)
    for name, half in halves.items():
        layer = name.rpartition(".")[0]
        norm = "ln_" in layer or "token_embedding" in layer
        assert half is (name.endswith(kept) and not norm), name


def test_many_gradients_are_averaged_in_several_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (3, 4, 5, 6, 1)]
    assert len(processes._in_groups(parameters)) == 1
    monkeypatch.setattr(processes, "AT_ONCE", 7)
    groups = processes._in_groups(parameters)
    assert [[p.numel() for p in group] for group in groups] == [[3, 4], [5, 6], [1]]
