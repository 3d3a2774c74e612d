"""CLIP-LoRA against its formula: products of queries, keys and values in both towers, and their dropout."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.small import metadata_of, small_backbone
from tests.models.test_train_backbone import NAMES, clips, features, step, trained
from tests.reference import added_methods as plain

from vidprompt.models import create_model
from vidprompt.models.checkpoint import load_checkpoint, save_checkpoint
from vidprompt.models.layers import low_rank
from vidprompt.models.layers.low_rank import has_low_rank
from vidprompt.models.methods.video_clip import RECOMPUTE, VideoCLIP
from vidprompt.models.text.prompts import PromptSet
from vidprompt.system.errors import UserError
from vidprompt.training.objectives import create_objective

FRAMES, RANK = 2, 2


def build(**options: Any) -> VideoCLIP:
    torch.manual_seed(0)
    return create_model("clip_lora", small_backbone(), num_frames=FRAMES, **options).eval()


def moved(**options: Any) -> VideoCLIP:
    """A model whose products are not zero."""
    model = build(**options)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B"):
                parameter.normal_(std=0.1)
    return model


def test_it_is_clip_at_first_and_the_papers_sum_later() -> None:
    frozen = create_model("frozen_clip", small_backbone(), num_frames=FRAMES).eval()
    for found, expected in zip(features(build()), features(frozen), strict=True):
        assert torch.equal(found, expected)
    model, state = moved(), {}
    state = dict(model.clip.state_dict())
    deltas = {
        tower: [plain.lora_deltas(state, f"{tower}.resblocks.{i}", 1.0) for i in range(2)]
        for tower in ("visual.transformer", "transformer")
    }
    clip = small_backbone().clip
    with torch.no_grad():
        flat = plain.images(clip, clips().flatten(0, 1), deltas=deltas["visual.transformer"])
        assert torch.allclose(model.encode_video(clips())[0].flatten(0, 1), flat, atol=1e-5)
        tokens = model.backbone.tokenizer(["a star", "a much longer text of it"])
        embedded = clip.token_embedding(tokens)
        expected = plain.texts(clip, embedded, tokens.argmax(-1), deltas=deltas["transformer"])
        assert torch.allclose(model.encode_text(tokens), expected, atol=1e-5)


def test_rank_2_of_three_matrices_a_layer_is_trained_and_gets_gradients() -> None:
    model = moved().train()
    names = trained(model)
    towers = ("clip.visual.transformer", "clip.transformer")
    assert names == {
        f"{tower}.resblocks.{i}.attn.parametrizations.in_proj_weight.0.lora_{x}"
        for tower in towers
        for i in range(2)
        for x in "AB"
    }
    assert sum(p.numel() for n, p in model.named_parameters() if n in names) == 2 * 3 * RANK * (
        2 * 64 + 2 * 32
    )
    objective = create_objective("cross_entropy", model, NAMES, PromptSet(), {})
    objective(clips(), torch.tensor([0, 1, 1]))["loss"].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) is (name in names), name


def test_in_training_inputs_of_the_products_are_dropped_for_each_matrix_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def doubled(x: torch.Tensor, rate: float, drops: bool) -> torch.Tensor:
        seen.append((rate, drops))
        return 2 * x

    twice = moved(lora_alpha=2.0)
    expected = features(twice)
    model = moved().train()
    monkeypatch.setattr(low_rank.F, "dropout", doubled)
    for found, wanted in zip(features(model), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)
    assert set(seen) == {(0.25, True)}
    assert len(seen) % 3 == 0
    monkeypatch.undo()
    one, other = (model.encode_video(clips())[1] for _ in range(2))
    assert not torch.allclose(one, other, atol=1e-6)
    model.eval()
    assert torch.equal(model.encode_video(clips())[1], model.encode_video(clips())[1])


def test_it_is_merged_whatever_mode_it_is_in_and_survives_a_checkpoint(tmp_path: Path) -> None:
    model = moved()
    expected = features(model)
    path = tmp_path / "model.safetensors"
    model.options = {"lora_alpha": 1.0}
    save_checkpoint(path, model, metadata_of(model), torch.float32)
    back, _ = load_checkpoint(path, small_backbone())
    assert not has_low_rank(back)
    for found, wanted in zip(features(back.eval()), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)
    model.train().merge_lora()
    for found, wanted in zip(features(model.eval()), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)


def test_recomputed_layers_drop_the_same() -> None:
    gradients = []
    for what in RECOMPUTE:
        model = moved().train()
        model.recompute = what
        objective = create_objective("cross_entropy", model, NAMES, PromptSet(), {})
        torch.manual_seed(2)
        objective(clips(), torch.tensor([0, 1, 1]))["loss"].backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            assert torch.allclose(gradient, other[name], rtol=1e-4, atol=1e-6), name


def test_a_few_steps_reduce_the_loss() -> None:
    model = build(lora_dropout=0.0)

    def loss() -> float:
        found = features(model)
        return float(sum(one.square().mean() for one in found))

    before = loss()
    step(model, 30)
    assert loss() < 0.9 * before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lora_dropout": 1.0}, "lora_dropout=1.0: a number"),
        ({"lora_matrices": "q"}, "valid: all, qkv"),
        ({"lora_matrices": "all"}, "lora_dropout=0.25 needs lora_matrices=qkv"),
        ({"lora_scaling": "root"}, "valid: rank, sqrt_rank"),
    ],
)
def test_a_choice_that_does_not_work_is_a_sentence(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(**options)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["ViT-B-16-SigLIP", "EVA02-B-16", "PE-Core-B-16", "EVA02-E-14"])
def test_other_families_have_the_same_sum(family: str) -> None:
    from tests.models.families import small_family

    torch.manual_seed(0)
    backbone = small_family(family)
    model = create_model("clip_lora", backbone, num_frames=FRAMES, trained_towers="image").eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B"):
                parameter.normal_(std=0.1)
    size = backbone.image_size
    video = torch.randn(2, FRAMES, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.encode_video(video)[1]
        doubled = model.train()
        for one in low_rank.low_rank_modules(doubled.clip):
            one.dropout = 1e-9  # the path of the inputs, with hardly anything dropped
        assert torch.allclose(doubled.encode_video(video)[1], expected, atol=1e-5)
