"""A trained backbone: which weights, in a copy, saved, merged and mixed; and EZ-CLIP with less than usual."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.small import metadata_of, small_backbone
from tests.models.test_prompt_types import NAMES, assert_all_trained

from vidprompt.config.compose import compose
from vidprompt.models import create_model
from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.checkpoint import load_checkpoint, save_checkpoint
from vidprompt.models.layers.low_rank import has_low_rank
from vidprompt.models.methods.video_clip import RECOMPUTE, VideoCLIP
from vidprompt.models.text.prompts import PromptSet
from vidprompt.pipeline.parameter_table import model_without_weights, parameter_table
from vidprompt.published.checkpoints import published_state
from vidprompt.system.errors import UserError
from vidprompt.training.objectives import create_objective
from vidprompt.training.optimizer import build_optimizer, parameter_kind

ROOT = Path(__file__).parents[2]
FRAMES = 2
METHODS = ("ez_clip", "vita_clip", "vifi_clip")
FAST = (("ez_clip", "lora", "image"), ("vita_clip", "last_n", "text"), ("ez_clip", "none", "both"))
CHOICES: dict[str, dict[str, Any]] = {
    "none": {},
    "last_n": {"trained_blocks": 1},
    "all": {},
    "lora": {"lora_rank": 2, "lora_alpha": 4},
}
TRAINED = [one for one in CHOICES if one != "none"]
SLOW = pytest.mark.slow
EVERY_STEP = [  # of all methods, choices and towers, the fast tests take a few
    pytest.param(
        m, c, t, marks=[] if (m, c, t) in FAST or (m, t) == ("vifi_clip", "both") else SLOW
    )
    for m in METHODS
    for c in CHOICES
    for t in ("image", "text", "both")
]
FEW = [
    pytest.param(
        m, c, marks=[] if (m, c) in (("ez_clip", "lora"), ("vita_clip", "last_n")) else SLOW
    )
    for m in METHODS
    for c in TRAINED
]
# of one of two blocks, and what follows
LAST = {
    "image": ("visual.transformer.resblocks.1.", "visual.ln_post.", "visual.proj"),
    "text": ("transformer.resblocks.1.", "ln_final.", "text_projection"),
}


def build(
    choice: str = "none",
    towers: str = "both",
    *,
    method: str = "ez_clip",
    backbone: Backbone | None = None,
    **options: Any,
) -> VideoCLIP:
    torch.manual_seed(0)
    chosen = {"train_backbone": choice, "trained_towers": towers, **CHOICES[choice], **options}
    if method == "ez_clip":
        chosen = {"stochastic_depth": 0.0, "prompt_dropout": 0.0} | chosen
    return create_model(
        method, backbone or small_backbone(), num_frames=FRAMES, class_names=NAMES, **chosen
    ).eval()


def clips(size: int = 3) -> torch.Tensor:
    return torch.randn(size, FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def trained(model: VideoCLIP) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def step(model: VideoCLIP, steps: int = 1) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):  # LoRA's first factor gets no gradient in the first
        text = model.encode_classes(NAMES)[:, 0]
        (model.encode_video(clips())[1].square().mean() + text.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def features(model: VideoCLIP) -> tuple[torch.Tensor, torch.Tensor]:
    return model.encode_video(clips())[1], model.encode_classes(NAMES)[:, 0]


def equal(one: VideoCLIP, other: VideoCLIP) -> bool:
    """Equal but for the last digit, which depends on where weights lie in memory."""
    pairs = zip(features(one), features(other), strict=True)
    return all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def expected_names(choice: str, towers: str) -> set[str]:
    """What is to be trained of CLIP, by the names of open_clip's parameters."""
    names = {name for name, _ in small_backbone().clip.named_parameters()} - {"logit_scale"}
    sides = {"image": {n for n in names if n.startswith("visual.")}}
    sides["text"] = names - sides["image"]
    found: set[str] = set()
    for side in ("image", "text") if towers == "both" else (towers,):
        if choice == "all":
            found |= sides[side]
        elif choice == "last_n":
            found |= {name for name in sides[side] if name.startswith(LAST[side])}
        elif choice == "lora":
            for name in sides[side]:
                if "resblocks" in name and name.endswith("weight") and "ln_" not in name:
                    layer, _, last = name.rpartition(".")
                    found |= {f"{layer}.parametrizations.{last}.0.lora_{x}" for x in "AB"}
    return {f"clip.{name}" for name in found}


@pytest.mark.parametrize(("method", "choice", "towers"), EVERY_STEP)
def test_a_gradient_reaches_exactly_what_is_trained(method: str, choice: str, towers: str) -> None:
    backbone = small_backbone()
    before = {name: value.clone() for name, value in backbone.clip.state_dict().items()}
    model = build(choice, towers, method=method, backbone=backbone)
    own = trained(model)
    assert {name for name in own if name.startswith("clip.")} == expected_names(choice, towers)
    assert (model.clip is backbone.clip) is (choice == "none")
    assert model.text_is_fixed is (
        method == "vifi_clip" and (choice == "none" or towers == "image")
    )
    if own:
        assert_all_trained(model, FRAMES, "cross_entropy")
    assert all(p.grad is None for n, p in model.named_parameters() if n not in own)
    assert all(torch.equal(before[name], v) for name, v in backbone.clip.state_dict().items())


@pytest.mark.parametrize("choice", TRAINED)
def test_models_that_share_a_backbone_do_not_see_the_training_of_one(choice: str) -> None:
    backbone = small_backbone()
    first, second = (build(choice, backbone=backbone, method="vifi_clip") for _ in range(2))
    frozen = build(backbone=backbone)
    assert equal(second, create_model("frozen_clip", backbone, num_frames=FRAMES).eval())
    expected = features(second)[0]
    step(first)
    assert not torch.allclose(features(first)[0], expected, atol=1e-5)
    assert torch.equal(features(second)[0], expected)
    assert frozen.clip is backbone.clip
    assert not any(p.requires_grad for p in backbone.clip.parameters())


@pytest.mark.parametrize(("method", "choice"), FEW)
def test_a_checkpoint_has_what_was_trained_and_names_the_backbone_it_started_from(
    tmp_path: Path, method: str, choice: str
) -> None:
    path = tmp_path / "model.safetensors"
    model = build(choice, method=method)
    step(model, 2)
    metadata = metadata_of(model)
    metadata.class_names = NAMES
    assert metadata.backbone_checksum == small_backbone().identity()
    save_checkpoint(path, model, metadata, torch.float32)
    saved = {name for name in load_file(path) if name.startswith("clip.")}
    assert saved == expected_names(choice, "both")
    back, read = load_checkpoint(path, small_backbone())
    assert read.options["train_backbone"] == choice
    assert equal(back.eval(), model)
    assert not has_low_rank(back)  # its products are part of the weights


def test_lora_starts_as_the_frozen_model_and_is_added_to_the_weights() -> None:
    model, frozen = build("lora", method="vifi_clip"), build(method="vifi_clip")
    assert equal(model, frozen)
    step(model, 2)
    assert not equal(model, frozen)
    weight = model.clip.visual.transformer.resblocks[1].mlp.c_fc
    added = weight.parametrizations.weight[0]
    by_hand = weight.parametrizations.weight.original + 2 * added.lora_B @ added.lora_A
    assert torch.allclose(weight.weight, by_hand, atol=1e-7)
    expected = features(model)
    model.merge_lora()
    assert not has_low_rank(model)
    assert set(dict(model.clip.named_parameters())) == set(dict(frozen.clip.named_parameters()))
    assert all(torch.equal(a, b) for a, b in zip(features(model), expected, strict=True))
    model.merge_lora()  # nothing more to do


def test_the_published_format_has_loras_sum() -> None:
    backbone = small_backbone(quick_gelu=True)
    for block in (
        *backbone.clip.visual.transformer.resblocks,
        *backbone.clip.transformer.resblocks,
    ):
        block.attn.num_heads = 1  # of width 64, as the published code has
        block.attn.head_dim = 64
    backbone.clip.transformer.resblocks[0].attn.embed_dim = 64
    model = build("lora", backbone=backbone)
    step(model, 2)
    name = "visual.transformer.resblocks.0.attn.in_proj_weight"
    expected = model.clip.visual.transformer.resblocks[0].attn.in_proj_weight
    assert torch.equal(published_state(model)[name], expected)
    assert has_low_rank(model)  # the model itself stays as it was


@pytest.mark.parametrize(("method", "choice"), FEW)
def test_recomputed_activations_give_the_same_gradients(method: str, choice: str) -> None:
    gradients = []
    for what in RECOMPUTE:
        model = build(choice, method=method).train()
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        model.recompute = what
        objective = create_objective("cross_entropy", model, NAMES, PromptSet(), {})
        objective(clips(), torch.tensor([0, 1, 1]))["loss"].backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            assert torch.allclose(gradient, other[name], rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("choice", TRAINED)
def test_half_precision_follows_the_weights_as_they_are_trained(choice: str) -> None:
    """Copies in half precision are kept of frozen weights alone, and none that is out of date."""
    model = build(choice, method="vifi_clip")
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            half = model.encode_video(clips())[1].float(), model.encode_classes(NAMES)[:, 0].float()
        for found, expected in zip(half, features(model), strict=True):
            assert (found - expected).norm() < 6e-2 * expected.norm()
        before = features(model)[0]
        step(model, 9)
        assert (features(model)[0] - before).norm() > 0.2 * before.norm()


@pytest.mark.slow
@pytest.mark.parametrize("choice", TRAINED)
def test_a_compiled_model_trains_the_same(choice: str) -> None:
    gradients = []
    for compiled in (False, True):
        model = build(choice).train()
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        if compiled:
            torch._dynamo.reset()
            model.compile()
        model.encode_video(clips())[1].sin().sum().backward()
        named = model.named_parameters()
        gradients.append({n: p.grad for n, p in named if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-3, atol=1e-5), name


def test_texts_are_encoded_anew_while_their_tower_is_trained() -> None:
    for towers, fixed in (("image", True), ("text", False), ("both", False)):
        model = build("all", towers, method="vifi_clip")
        objective = create_objective("contrastive_motion", model, NAMES, PromptSet(), {})
        labels = torch.tensor([0, 1, 0])
        before = objective.sample_text(labels)
        step(model)
        assert torch.equal(objective.sample_text(labels), before) is fixed
        assert (objective.fixed_text() is not None) is fixed


def test_an_explanation_of_a_trained_backbone_is_a_distribution() -> None:
    for choice in TRAINED:
        found = build(choice).explain(clips(), "a")
        assert np.allclose(found.temporal.sum(1), 1, atol=1e-4)


def test_checkpoints_of_older_releases_say_the_same_by_other_names(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for former, towers in (("vision", "image"), ("both", "both")):
        model = build("all", towers)
        metadata = vars(metadata_of(model)) | {"options": {"train_backbone": former}}
        state = {name: value.contiguous() for name, value in model.trained_state().items()}
        save_file(state, path, {"vidprompt": json.dumps(metadata)})
        back, read = load_checkpoint(path, small_backbone())
        assert read.options == {"train_backbone": "all", "trained_towers": towers}
        assert equal(back.eval(), model)


def test_a_choice_that_does_not_work_is_a_sentence() -> None:
    wrong = {
        "train_backbone=last: .*valid: none, last_n, all, lora": {"train_backbone": "last"},
        "trained_towers=vision: valid: image, text, both": {"trained_towers": "vision"},
        "trained_blocks=0: a whole number of at least 1": {"trained_blocks": 0},
        "lora_rank=0: a whole number of at least 1": {"lora_rank": 0},
        "lora_alpha=0: a number above 0": {"lora_alpha": 0},
        "trained_blocks is 3, and the image tower has 2 blocks: choose fewer": {
            "train_backbone": "last_n", "trained_blocks": 3,
        },
    }  # fmt: skip
    for method in ("frozen_clip", *METHODS):
        for says, options in wrong.items():
            with pytest.raises(UserError, match=says):
                create_model(method, small_backbone(), num_frames=FRAMES, **options)
    with pytest.raises(UserError, match="frozen_clip does not take context"):
        create_model("frozen_clip", small_backbone(), num_frames=FRAMES, context="shared")
    with pytest.raises(UserError, match="adapter_ratio is -1"):
        build(adapter_ratio=-1)


def test_the_parts_and_rates_of_a_trained_backbone_go_by_its_towers() -> None:
    model = build("all", "image")
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


@pytest.mark.parametrize("choice", CHOICES)
def test_parameters_are_counted_without_weights(
    choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    options = {"train_backbone": choice, **CHOICES[choice]}
    chosen = [f"method.options.{key}={value}" for key, value in options.items()]
    config = compose(["backbone=vit_b_32", "backbone.pretrained=null", *chosen])
    table = {part.name: part for part in parameter_table(model_without_weights(config, 2))}
    own = table["CLIP image tower"].trained + table["CLIP text tower"].trained
    total = own + sum(table[f"{side} adapters"].trained for side in ("vision", "text"))
    assert table["total"].trained == total + table["temporal prompts"].trained
    assert (own > 0) is (choice != "none")


def test_without_adapters_and_prompts_it_is_the_frozen_model() -> None:
    model = build(adapter_ratio=0, temporal_prompts=False)
    assert not trained(model)
    frozen = create_model("frozen_clip", small_backbone(), num_frames=FRAMES).eval()
    found, expected = (one.encode_video(clips())[0] for one in (model, frozen))
    assert torch.allclose(found, expected, atol=1e-6)
    assert model.text_is_fixed
    for choice, options, fixed in (
        ("all", {}, False),
        ("all", {"trained_towers": "image"}, True),
        ("none", {"stochastic_depth": 0.1}, False),
        ("none", {"stochastic_depth": 0.1, "text_stochastic_depth": 0.0}, True),
    ):
        assert build(choice, adapter_ratio=0, **options).text_is_fixed is fixed, options


def test_without_temporal_prompts_frames_are_encoded_apart() -> None:
    model = build(temporal_prompts=False)
    assert "temporal_prompts" not in model.state_dict()
    maps: list = []
    frames = model.encode_video(clips(), maps)[0]
    assert [seen["space"].shape[-1] for seen in maps] == [5, 5]  # 4 patches and the class
    backwards = model.encode_video(clips().flip(1))[0]
    assert torch.allclose(frames.flip(1), backwards, atol=1e-6)
    assert np.allclose(model.explain(clips()).temporal.sum(1), 1, atol=1e-5)
