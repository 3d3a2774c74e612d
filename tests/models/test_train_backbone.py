"""EZ-CLIP with a trained backbone, without adapters, and without temporal prompts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.small import metadata_of, small_backbone
from tests.models.test_prompt_types import assert_all_trained

from vidprompt.models import create_model
from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.checkpoint import load_checkpoint, save_checkpoint
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.pipeline.parameter_table import parameter_table
from vidprompt.system.errors import UserError
from vidprompt.training.optimizer import build_optimizer, parameter_kind

FRAMES = 2
WHOLE = {"train_backbone": "both", "adapter_ratio": 0}


def build(backbone: Backbone | None = None, **options: Any) -> VideoCLIP:
    torch.manual_seed(0)
    return create_model(
        "ez_clip", backbone or small_backbone(), num_frames=FRAMES, **options
    ).eval()


def clips(size: int = 3) -> torch.Tensor:
    return torch.randn(size, FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def trained(model: VideoCLIP) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def step(model: VideoCLIP) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    text = model.encode_classes(["a", "b"])[:, 0]
    (model.encode_video(clips())[1].square().mean() + text.square().mean()).backward()
    optimizer.step()


@pytest.mark.parametrize("towers", ["none", "vision", "both"])
def test_exactly_the_chosen_towers_are_trained_and_every_weight_of_them_gets_a_gradient(
    towers: str,
) -> None:
    model = build(train_backbone=towers, stochastic_depth=0.0, prompt_dropout=0.0)
    own = {name for name in trained(model) if name.startswith("clip.")}
    every = {f"clip.{name}" for name, _ in model.clip.named_parameters()} - {"clip.logit_scale"}
    vision = {name for name in every if name.startswith("clip.visual.")}
    assert own == {"none": set(), "vision": vision, "both": every}[towers]
    assert_all_trained(model, FRAMES, "contrastive_motion")


def test_models_that_share_a_backbone_do_not_see_the_training_of_one() -> None:
    backbone = small_backbone()
    before = {name: value.clone() for name, value in backbone.clip.state_dict().items()}
    first, second = build(backbone, **WHOLE), build(backbone, **WHOLE)
    frozen = build(backbone)
    expected = second.encode_video(clips())[1]
    step(first)
    assert not torch.allclose(first.encode_video(clips())[1], expected, atol=1e-4)
    assert torch.equal(second.encode_video(clips())[1], expected)
    assert all(torch.equal(before[name], v) for name, v in backbone.clip.state_dict().items())
    assert frozen.clip is backbone.clip
    assert not any(p.requires_grad for p in backbone.clip.parameters())


def test_a_checkpoint_has_the_trained_backbone_and_names_the_one_it_started_from(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.safetensors"
    model = build(**WHOLE)
    step(model)
    metadata = metadata_of(model)
    assert metadata.backbone_checksum == small_backbone().identity()
    save_checkpoint(path, model, metadata, torch.float32)
    back = load_checkpoint(path, small_backbone())[0].eval()
    assert torch.equal(back.encode_video(clips())[1], model.encode_video(clips())[1])
    assert torch.equal(back.encode_classes(["a"]), model.encode_classes(["a"]))


def test_without_adapters_and_prompts_it_is_the_frozen_model() -> None:
    model = build(adapter_ratio=0, temporal_prompts=False, stochastic_depth=0.0)
    assert not trained(model)
    frozen = create_model("frozen_clip", small_backbone(), num_frames=FRAMES).eval()
    found, expected = (one.encode_video(clips())[0] for one in (model, frozen))
    assert torch.allclose(found, expected, atol=1e-6)
    assert model.text_is_fixed
    for options, fixed in (
        ({"train_backbone": "both"}, False),
        ({"train_backbone": "vision"}, True),
        ({"stochastic_depth": 0.1}, False),
        ({"stochastic_depth": 0.1, "text_stochastic_depth": 0.0}, True),
    ):
        chosen = {"stochastic_depth": 0.0, "adapter_ratio": 0} | options
        assert build(**chosen).text_is_fixed is fixed, options


def test_without_temporal_prompts_frames_are_encoded_apart() -> None:
    model = build(temporal_prompts=False)
    assert "temporal_prompts" not in model.state_dict()
    maps: list = []
    frames = model.encode_video(clips(), maps)[0]
    assert [seen["space"].shape[-1] for seen in maps] == [5, 5]  # 4 patches and the class
    backwards = model.encode_video(clips().flip(1))[0]
    assert torch.allclose(frames.flip(1), backwards, atol=1e-6)
    assert np.allclose(model.explain(clips()).temporal.sum(1), 1, atol=1e-5)


def test_the_parts_and_rates_of_a_trained_backbone_go_by_its_towers() -> None:
    model = build(train_backbone="vision")
    parts = {part.name: (part.trained, part.frozen) for part in parameter_table(model)}
    weights = sum(p.numel() for p in model.clip.visual.parameters())
    assert parts["CLIP image tower"] == (weights, 0)
    assert parts["CLIP text tower"][0] == 0
    optimizer = build_optimizer(
        model, lr=1.0, weight_decay=0.1, betas=(0.9, 0.98),
        lr_scale={"image_tower": 0.1, "prompts": 3.0}, no_decay=["biases"],
    )  # fmt: skip
    by_id = {
        id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]
    }
    found = {name: by_id[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    assert found["clip.visual.class_embedding"] == found["clip.visual.proj"] == (0.1, 0.1)
    assert found["clip.visual.transformer.resblocks.0.attn.in_proj_bias"] == (0.1, 0.0)
    assert found["temporal_prompts"] == (3.0, 0.1)
    assert parameter_kind(model, "clip.visual.ln_pre.bias") == "norms"
    with pytest.raises(UserError, match="train_backbone=all: .*none, vision, both"):
        build(train_backbone="all")
    with pytest.raises(UserError, match="adapter_ratio is -1"):
        build(adapter_ratio=-1)
