"""Weights that are float16 after every step, against the published round trip."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.models.small import small_backbone
from tests.reference.published_models import half_round_trip
from tests.training.small_run import SETTINGS, batch, objective, run, values

from vidprompt.data.clips.reading import normalise
from vidprompt.training.half_weights import half_parameters
from vidprompt.training.objectives import Objective

PLAIN = {"clip_grad": None, "warmup": 0, "schedule": "constant", "weight_decay": 0.2}


def reference(steps: int, lr: float) -> Objective:
    """EZ-CLIP's loop: backward, AdamW in float32, weights to float16."""
    chosen = objective("contrastive_motion").train()
    half_round_trip(chosen.model)
    trained = [p for p in chosen.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, betas=SETTINGS.betas, weight_decay=0.2)
    backbone = chosen.model.backbone
    for step in range(steps):
        clips, labels = batch(step, SETTINGS.batch_size)
        chosen.generator = torch.Generator()
        chosen.prompts = replace(chosen.prompts, templates=("a {}",))
        video = normalise(clips, backbone.mean, backbone.std, torch.device("cpu"))
        chosen(video, labels)["loss"].backward()
        optimizer.step()
        half_round_trip(chosen.model)
        optimizer.zero_grad()
    return chosen


def trained(folder: Path, lr: float, **changes: object) -> Objective:
    chosen = objective("contrastive_motion")
    chosen.prompts = replace(chosen.prompts, templates=("a {}",))
    half_round_trip(chosen.model.clip)  # as the train stage does with its own backbone
    run(folder, chosen, lr=lr, precision="fp16_weights", **{**PLAIN, **changes})
    return chosen


@pytest.mark.usefixtures("on_the_cpu")  # in float32 as the reference; a GPU computes in float16
def test_steps_are_those_of_the_published_round_trip(tmp_path: Path) -> None:
    found, expected = values(trained(tmp_path, 1e-3)), values(reference(SETTINGS.steps, 1e-3))
    for name, value in found.items():
        assert torch.allclose(value, expected[name], rtol=2e-3, atol=1e-6), name
        halves = value.half().float()
        assert torch.equal(value, halves) is ("prompts" not in name), name


def test_most_entries_do_not_move_by_a_full_step_of_the_papers_low_rate(tmp_path: Path) -> None:
    start = values(objective("contrastive_motion"))
    shares = {}
    for precision in ("no", "fp16_weights"):
        chosen = objective("contrastive_motion")
        run(
            tmp_path / precision, chosen, lr=5e-6, precision=precision, steps=1,
            **PLAIN | {"weight_decay": 0.0},
        )  # fmt: skip
        for name, value in values(chosen).items():
            before = start[name]
            if precision == "fp16_weights" and "prompts" not in name:
                before = before.half().float()
            shares[precision, name] = (value == before).float().mean().item()
    name = "model.vision_adapters.0.up.weight"  # starts at zero, where float16 is fine enough
    assert shares["fp16_weights", name] < 0.01
    moved = objective("contrastive_motion")
    with torch.no_grad():
        moved.model.vision_adapters[0].up.weight.add_(0.05)  # now its first layer gets a gradient
    before = moved.model.vision_adapters[0].down.weight.detach().half().float()
    run(tmp_path / "moved", moved, lr=5e-6, precision="fp16_weights", steps=1, **PLAIN)
    unmoved = (values(moved)["model.vision_adapters.0.down.weight"] == before).float().mean().item()
    assert 0.5 < unmoved < 1
    assert shares["no", "model.temporal_prompts"] < 0.1
    assert shares["fp16_weights", "model.temporal_prompts"] < 0.1


@pytest.mark.parametrize("dies_at", [3, 5])
def test_a_resumed_run_has_the_same_bytes(dies_at: int, tmp_path: Path) -> None:
    whole = values(trained(tmp_path / "whole", 1e-3))
    with pytest.raises(ConnectionError):
        trained(tmp_path / "cut", 1e-3, dies_at=dies_at)
    again = values(trained(tmp_path / "cut", 1e-3))
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_what_is_kept_in_float16_is_named() -> None:
    clip = small_backbone().clip
    kept = {id(p) for p in half_parameters(clip)}
    named = {name: id(p) in kept for name, p in clip.named_parameters()}
    for name in (
        "visual.conv1.weight", "visual.proj", "text_projection",
        "visual.transformer.resblocks.0.attn.in_proj_weight",
        "visual.transformer.resblocks.0.attn.in_proj_bias",
        "transformer.resblocks.1.attn.out_proj.bias", "transformer.resblocks.0.mlp.c_fc.weight",
    ):  # fmt: skip
        assert named[name], name
    for name in (
        "visual.class_embedding", "visual.positional_embedding", "visual.ln_pre.weight",
        "token_embedding.weight", "positional_embedding", "ln_final.bias", "logit_scale",
    ):  # fmt: skip
        assert not named[name], name
