"""Tip-Adapter against its formula, by the model and by evaluation's own scores; keys that are trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.small import metadata_of, small_backbone
from tests.models.test_train_backbone import clips, trained
from tests.reference.added_methods import tip_adapter_logits

from vidprompt.export.module import ExportedModel
from vidprompt.metrics.scores import class_probabilities
from vidprompt.models import create_model
from vidprompt.models.checkpoint import load_checkpoint, save_checkpoint
from vidprompt.models.methods.tip_adapter import TipAdapter
from vidprompt.models.text.prompts import PromptSet
from vidprompt.system.errors import UserError
from vidprompt.training.objectives import create_objective

FRAMES = 2
NAMES = ["StarGrowing", "StarShrinking", "MoonMovingUp"]
LABELS = torch.tensor([2, 0, 0, 1, 2, 2])
PROMPTS = PromptSet(("a {}.", "a video of a {}."))
TESTED = ["a boat", "MoonMovingUp", "star growing"]  # one without cached videos, one spelled anew
COLUMNS = (None, 2, 0)


def build(method: str = "tip_adapter", **options: Any) -> TipAdapter:
    model = create_model(method, small_backbone(), num_frames=FRAMES, class_names=NAMES, **options)
    assert isinstance(model, TipAdapter)
    return model.eval()


@torch.no_grad()
def fitted(method: str = "tip_adapter", **options: Any) -> TipAdapter:
    model = build(method, **options)
    generator = torch.Generator().manual_seed(3)
    videos = torch.randn(len(LABELS), FRAMES, 3, 32, 32, generator=generator)
    model.fit(model.encode_video(videos)[1], LABELS)
    return model


@torch.no_grad()
def expected_logits(model: TipAdapter, names: list[str], columns: tuple[int | None, ...]) -> Any:
    frozen = create_model("frozen_clip", small_backbone(), num_frames=FRAMES).eval()
    return tip_adapter_logits(
        frozen.encode_video(clips())[1].numpy(),
        frozen.encode_classes(names, PROMPTS).numpy(),
        model.keys.detach().numpy(),
        LABELS.tolist(),
        columns,
        alpha=float(model.alpha),
        beta=float(model.beta),
        scale=float(frozen.logit_scale),
    )


@torch.no_grad()
@pytest.mark.parametrize("method", ["tip_adapter", "tip_adapter_f"])
@pytest.mark.parametrize(("alpha", "beta"), [(3.0, 1.0), (0.5, 5.5)])
def test_scaled_cosines_are_the_papers_logits(method: str, alpha: float, beta: float) -> None:
    model = fitted(method, alpha=alpha, beta=beta)
    if method == "tip_adapter_f":  # trained keys have any norm
        model.keys.mul_(torch.linspace(0.5, 1.5, len(LABELS))[:, None])
    text = model.encode_classes(TESTED, PROMPTS)
    expected = expected_logits(model, TESTED, COLUMNS)
    assert text.shape == (3, 1, model.feature_width) == (3, 1, 32 + len(NAMES) + 2)
    found = model(clips(), text)
    assert np.allclose(found.numpy(), expected, rtol=1e-5, atol=1e-4)
    videos = model.encode_video(clips())[1]
    scores = class_probabilities(videos[:, None].numpy(), text.numpy(), float(model.logit_scale))
    shares = np.exp(expected - expected.max(1, keepdims=True))
    assert np.allclose(scores, shares / shares.sum(1, keepdims=True), atol=1e-5)
    exported = ExportedModel(model, text, logit_scale=float(model.logit_scale))
    pixels = (clips() * exported.std + exported.mean) * 255
    assert np.allclose(exported(pixels)["probabilities"].numpy(), scores, atol=1e-4)


@torch.no_grad()
def test_without_a_cache_it_is_frozen_clip_and_so_are_classes_and_texts_without_videos() -> None:
    frozen = create_model("frozen_clip", small_backbone(), num_frames=FRAMES).eval()
    assert torch.equal(build().encode_video(clips())[1], frozen.encode_video(clips())[1])
    assert torch.equal(
        build().encode_classes(NAMES, PROMPTS), frozen.encode_classes(NAMES, PROMPTS)
    )
    model, others = fitted(), ["a boat", "a cat", "a dog"]
    expected = torch.cosine_similarity(
        frozen.encode_video(clips())[1][:, None], frozen.encode_classes(others)[:, 0][None], dim=-1
    )
    found = model(clips(), others)
    assert torch.allclose(found, frozen.logit_scale * expected, atol=1e-4)
    texts = model.encode_texts(["a boat", "a cat"])
    videos = model.encode_video(clips())[1]
    cosines = torch.cosine_similarity(videos[:, None], texts[None], dim=-1)
    plain = torch.cosine_similarity(
        frozen.encode_video(clips())[1][:, None],
        frozen.encode_texts(["a boat", "a cat"])[None],
        dim=-1,
    )
    scale = float(frozen.logit_scale / model.logit_scale)
    assert torch.allclose(cosines, plain * scale, atol=1e-6)
    assert model.explain(clips(), "a").temporal.shape == (3, FRAMES)


def test_nothing_or_the_keys_alone_are_trained() -> None:
    assert trained(fitted()) == set()
    model = fitted("tip_adapter_f").train()
    assert trained(model) == {"keys"}
    objective = create_objective("cross_entropy", model, NAMES, PROMPTS, {})
    optimizer = torch.optim.AdamW([model.keys], 0.01)
    labels, losses = torch.tensor([2, 0, 1]), []
    for _ in range(10):
        loss = objective(clips(), labels)["loss"]
        loss.backward()
        assert [n for n, p in model.named_parameters() if p.grad is not None] == ["keys"]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_keys_gradient_is_that_of_the_plain_formula() -> None:
    model = fitted("tip_adapter_f")
    labels = torch.tensor([2, 0, 1])
    create_objective("cross_entropy", model, NAMES, PROMPTS, {})(clips(), labels)["loss"].backward()
    frozen = create_model("frozen_clip", small_backbone(), num_frames=FRAMES).eval()
    keys = model.keys.detach().clone().requires_grad_()
    with torch.no_grad():
        f = torch.nn.functional.normalize(frozen.encode_video(clips())[1], dim=-1)
        text = torch.nn.functional.normalize(frozen.encode_classes(NAMES, PROMPTS), dim=-1).mean(1)
        plain = frozen.logit_scale * f @ torch.nn.functional.normalize(text, dim=-1).T
    values = torch.nn.functional.one_hot(LABELS, 3).float()
    logits = plain + model.alpha * torch.exp(-model.beta * (1 - f @ keys.T)) @ values
    torch.nn.functional.cross_entropy(logits, labels).backward()
    assert torch.allclose(model.keys.grad, keys.grad, rtol=1e-3, atol=1e-5)


def test_a_checkpoint_has_the_cache_and_what_was_chosen(tmp_path: Path) -> None:
    model = fitted("tip_adapter_f")
    model.beta.fill_(2.5)
    path, metadata = tmp_path / "model.safetensors", metadata_of(model)
    metadata.class_names = NAMES
    save_checkpoint(path, model, metadata, torch.float16)
    back, _ = load_checkpoint(path, small_backbone())
    assert isinstance(back, TipAdapter)
    assert float(back.beta) == 2.5
    assert torch.equal(back.labels, LABELS)
    assert torch.allclose(back.keys, model.keys, atol=1e-3)
    assert torch.allclose(back.eval()(clips(), NAMES), model(clips(), NAMES), atol=0.05)


def test_held_out_videos_choose_the_first_best_pair() -> None:
    model = fitted(search=[7, 3])
    features = model.encode_video(clips())[1].detach()[:, None].numpy()
    labels = np.array([2, 0, 1])
    chosen = model.choose_on_held_out(features, labels, NAMES, PROMPTS)
    f, values = features[:, 0, :32], np.eye(3)[LABELS.numpy()]
    text = model.encode_classes(NAMES, PROMPTS).detach()[:, 0, :32].numpy()
    plain = f @ text.T
    best = (-1, 0.0, 0.0)
    for i in range(200):
        for j in range(20):
            beta, alpha = 0.1 + i * 6.9 / 200, 0.1 + j * 2.9 / 20
            scores = np.exp(-beta * (1 - f @ model.keys.detach().numpy().T)) @ values
            correct = int(((plain + alpha * scores).argmax(1) == labels).sum())
            if correct > best[0]:
                best = (correct, beta, alpha)
    assert f"beta {best[1]:g} and alpha {best[2]:g}" in chosen
    assert fitted().choose_on_held_out(features, labels, NAMES, PROMPTS) == ""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"alpha": 0}, "alpha is 0"),
        ({"beta": -1.0}, "beta is -1"),
        ({"search": [7]}, "search is"),
        ({"train_backbone": "all"}, "tip_adapter does not take train_backbone"),
    ],
)
def test_a_choice_that_does_not_work_is_a_sentence(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(**options)
