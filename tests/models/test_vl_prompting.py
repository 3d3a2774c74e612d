"""Prompts in the layers of both towers against a plain computation, from CLIP and from a first training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tests.models.small import metadata_of, small_backbone
from tests.models.test_train_backbone import NAMES, clips, step, trained
from tests.reference import added_methods as plain

from vidprompt.models import create_model
from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.checkpoint import load_checkpoint, save_checkpoint
from vidprompt.models.methods.video_clip import RECOMPUTE, VideoCLIP
from vidprompt.models.starting_values import changed_tensors, start_from
from vidprompt.models.text.prompts import PromptSet
from vidprompt.system.errors import UserError
from vidprompt.training.objectives import create_objective

FRAMES, LAYERS = 2, 4
DEPTHS = [(1, 1), (2, 2), (3, 1), (4, None), (None, 2)]


def build(backbone: Backbone | None = None, **options: Any) -> VideoCLIP:
    torch.manual_seed(0)
    chosen = {"vision_prompts": 3, "context_length": 2, "prompt_std": 0.5, **options}
    return create_model(
        "vl_prompting", backbone or small_backbone(layers=LAYERS), num_frames=FRAMES, **chosen
    ).eval()


@pytest.mark.parametrize(("vision", "text"), DEPTHS)
def test_features_are_those_of_prompts_as_tokens(vision: int | None, text: int | None) -> None:
    model = build(vision_depth=vision, text_depth=text)
    clip, tokenizer = model.clip, model.backbone.tokenizer
    with torch.no_grad():
        frames = model.encode_video(clips())[0].flatten(0, 1)
        expected = plain.images(clip, clips().flatten(0, 1), model.vision_prompts)
        assert torch.allclose(frames, expected, atol=1e-5)
        tokens = tokenizer([f"X X {name}." for name in ("star growing", "star shrinking")])
        embedded = clip.token_embedding(tokens)
        embedded[:, 1:3] = model.context.vectors
        expected = plain.texts(clip, embedded, tokens.argmax(-1), model.text_prompts)
        found = model.encode_classes(NAMES)[:, 0]
        assert torch.allclose(found, expected, atol=1e-5)
        # another text has no context, and so no prompts
        assert torch.allclose(
            model.encode_texts(["a star"]), clip.encode_text(tokenizer(["a star"])), atol=1e-5
        )


def test_exactly_the_prompts_are_trained_and_the_backbone_is_not() -> None:
    backbone = small_backbone(layers=LAYERS)
    before = {name: value.clone() for name, value in backbone.clip.state_dict().items()}
    model = build(backbone, vision_depth=3).train()
    assert model.clip is backbone.clip
    assert trained(model) == {"vision_prompts", "text_prompts", "context.vectors"}
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == (
        3 * 3 * 64 + 2 * 2 * 32  # the text tower has 2 layers
    )
    objective = create_objective("cross_entropy", model, NAMES, PromptSet(), {})
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.02)
    losses = []
    for _ in range(12):
        loss = objective(clips(), torch.tensor([0, 1, 1]))["loss"]
        loss.backward()
        for name, parameter in model.named_parameters():
            reached = parameter.grad is not None and bool(parameter.grad.any())
            assert reached is (name in trained(model)), name
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(before[name], v) for name, v in backbone.clip.state_dict().items())


def test_recomputed_layers_give_the_same_gradients() -> None:
    gradients = []
    for what in RECOMPUTE:
        model = build(vision_depth=2).train()
        model.recompute = what
        model.encode_video(clips())[1].sin().sum().backward()
        gradients.append(model.vision_prompts.grad)
    for other in gradients[1:]:
        assert torch.allclose(gradients[0], other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("vision", [2, None])
def test_an_explanation_is_a_distribution(vision: int | None) -> None:
    found = build(vision_depth=vision).explain(clips(), "a")
    assert np.allclose(found.temporal.sum(1), 1, atol=1e-4)


def test_prompts_can_be_left_out_of_either_tower() -> None:
    frozen = create_model("frozen_clip", small_backbone(layers=LAYERS), num_frames=FRAMES).eval()
    without = build(vision_prompts=0)
    assert torch.equal(without.encode_video(clips())[0], frozen.encode_video(clips())[0])
    plain_text = build(context="none")
    assert trained(plain_text) == {"vision_prompts"}
    assert torch.allclose(plain_text.encode_classes(NAMES), frozen.encode_classes(NAMES))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["ViT-B-16-SigLIP", "PE-Core-B-16", "MobileCLIP-B"])
@pytest.mark.parametrize("depth", [1, None])
def test_other_families_take_prompts_at_any_depth(family: str, depth: int | None) -> None:
    from tests.models.families import small_family

    backbone = small_family(family)
    model = build(backbone, vision_depth=depth, text_depth=depth)
    size = backbone.image_size
    video = torch.randn(2, FRAMES, 3, size, size)
    assert model.encode_video(video)[1].shape == (2, model.feature_width)
    assert model.encode_classes(["a", "b"]).isfinite().all()
    model.encode_video(video)[1].sin().sum().backward()
    assert model.vision_prompts.grad.flatten(1).any(1).all()


def first_stage(backbone: Backbone) -> VideoCLIP:
    torch.manual_seed(0)
    model = create_model("vifi_clip", backbone, num_frames=FRAMES).eval()
    step(model, 2)
    return model


def test_the_second_stage_has_the_first_ones_clip_frozen_and_in_its_checkpoint(
    tmp_path: Path,
) -> None:
    backbone = small_backbone(layers=LAYERS)
    first = first_stage(backbone)
    changed = changed_tensors(first, backbone)
    model = build(first.backbone)
    assert start_from(model, first, changed) == []
    assert trained(model) == {"vision_prompts", "text_prompts", "context.vectors"}
    assert model.backbone.identity() == backbone.identity()
    expected = plain.images(first.clip, clips().flatten(0, 1), model.vision_prompts)
    assert torch.allclose(model.encode_video(clips())[0].flatten(0, 1), expected, atol=1e-5)
    path, metadata = tmp_path / "model.safetensors", metadata_of(model)
    metadata.options = {"vision_prompts": 3, "context_length": 2}
    metadata.start_from = {"sha256": "1"}
    save_checkpoint(path, model, metadata, torch.float32)
    with safe_open(path, "pt") as file:
        assert {f"clip.{name}" for name in changed} < set(file.keys())
    back, read = load_checkpoint(path, small_backbone(layers=LAYERS))
    assert read.start_from == {"sha256": "1"}
    with torch.no_grad():
        for found, wanted in (
            (back.eval().encode_video(clips())[1], model.encode_video(clips())[1]),
            (back.encode_classes(NAMES), model.encode_classes(NAMES)),
            (back.encode_texts(["a"]), first.encode_texts(["a"])),
        ):
            assert torch.allclose(found, wanted, atol=1e-5)
    assert set(back.trained_state()) == set(model.trained_state())


def test_a_third_training_takes_over_prompts_and_weights_with_and_without_lora() -> None:
    backbone = small_backbone(layers=LAYERS)
    first = first_stage(backbone)
    second = build(first.backbone)
    start_from(second, first, changed_tensors(first, backbone))
    with torch.no_grad():
        second.vision_prompts.add_(1)
    for options in ({}, {"train_backbone": "lora"}):
        third = build(second.backbone, **options)
        copied = start_from(third, second, changed_tensors(second, backbone))
        assert sorted(copied) == ["context.vectors", "text_prompts", "vision_prompts"]
        assert torch.equal(third.vision_prompts, second.vision_prompts)
        assert torch.allclose(
            third.encode_video(clips())[1], second.encode_video(clips())[1], atol=1e-6
        )
        originals = {name for name in third.trained_state() if name.endswith(".original")}
        assert bool(originals) is bool(options)


def test_contexts_of_other_classes_are_not_taken_over() -> None:
    one, same, other = (
        build(context="class", class_names=names) for names in (NAMES, NAMES, ["a", "b"])
    )
    for model, taken in ((same, True), (other, False)):
        with torch.no_grad():
            model.context.vectors.zero_()
        assert ("context.vectors" in start_from(model, one, frozenset())) is taken


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"vision_depth": 5}, "vision_depth is 5: give a number of layers from 1 to 4"),
        ({"text_depth": 0}, "text_depth is 0"),
        ({"vision_prompts": -1}, "vision_prompts is -1"),
        ({"context_position": "front"}, "prompts before the class name"),
    ],
)
def test_a_choice_that_does_not_work_is_a_sentence(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(**options)
