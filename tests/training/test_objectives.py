"""Losses against hand-written versions."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.small import small_backbone

from vidprompt.models import create_model
from vidprompt.models.text.prompts import PromptSet
from vidprompt.system.errors import UserError
from vidprompt.training.objectives import (
    CrossEntropy,
    ReIdentification,
    batch_hard_triplet,
    create_objective,
    in_batch_kl,
    mixup,
    motion_loss,
)


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


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("margin", [None, 0.3])
def test_batch_hard_triplet_equals_a_loop(margin: float | None, normalised: bool) -> None:
    features = 3 * torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 2, 3])  # the last has no positive
    points = [x / x.norm() if normalised else x for x in features.double()]
    expected = 0.0
    for i, anchor in enumerate(points):
        away = [
            (float((anchor - point).norm()), labels[j] == labels[i], j)
            for j, point in enumerate(points)
        ]
        positive = max((d for d, same, j in away if same and j != i), default=0.0)
        negative = min(d for d, same, _ in away if not same)
        soft = math.log1p(math.exp(positive - negative))
        expected += (soft if margin is None else max(0.0, positive - negative + margin)) / len(
            points
        )
    found = batch_hard_triplet(features, labels, margin, normalised=normalised)
    assert math.isclose(found.item(), expected, rel_tol=1e-5)


def reid(frames: int = 2, **options: Any) -> ReIdentification:
    torch.manual_seed(0)
    model = create_model("ez_clip", small_backbone(), num_frames=frames, train_backbone="all")
    return ReIdentification(
        model,
        ["a", "b", "c"],
        **{"context_length": 2, "margin": None, "triplet_weight": 0.5, "head": "linear"} | options,
    ).eval()


def test_the_linear_head_scores_features_as_they_are() -> None:
    objective = reid(triplet_normalised=False, motion_weight=2.0)
    assert objective.head is not None
    assert objective.head.weight.abs().max() < 1e-4  # starts close to 0, as released
    torch.nn.init.normal_(objective.head.weight)
    frames = torch.randn(4, 2, 32, requires_grad=True)
    features, labels = frames.mean(1), torch.tensor([0, 0, 1, 2])
    terms = objective.loss_terms(frames, features, labels)
    scores = features @ objective.head.weight.T + objective.head.bias
    entropy = torch.nn.functional.cross_entropy(scores, labels)
    triplet = batch_hard_triplet(features, labels, None, normalised=False)
    assert torch.allclose(terms["cross_entropy"], entropy)
    assert torch.allclose(terms["motion"], motion_loss(frames))
    assert torch.allclose(terms["loss"], entropy + 0.5 * triplet + 2 * motion_loss(frames))
    (gradient,) = torch.autograd.grad(terms["cross_entropy"], objective.head.weight)
    error = scores.softmax(1) - torch.nn.functional.one_hot(labels, 3)
    assert torch.allclose(gradient, error.T @ features / 4, atol=1e-6)


def test_persons_are_no_part_of_the_model_whatever_their_head() -> None:
    with_head, with_context = reid(), reid(head="context")
    for objective in (with_head, with_context):
        video, labels = torch.randn(4, 2, 3, 32, 32), torch.tensor([0, 0, 1, 2])
        terms = objective(video, labels)
        terms["loss"].backward()
        assert set(terms) == {"loss", "cross_entropy", "triplet"}
        found = {n for n, p in objective.named_parameters() if p.grad is not None}
        persons = {name for name in found if not name.startswith("model.")}
        assert persons
        assert not persons & set(objective.model.trained_state())
        assert objective.model.clip.visual.conv1.weight.grad is not None
    with pytest.raises(UserError, match="head=linea: did you mean linear"):
        reid(head="linea")
    with pytest.raises(UserError, match="needs at least 2 frames"):
        reid(frames=1, motion_weight=1.0)


def test_smoothing_moves_a_share_of_the_target_evenly() -> None:
    generator = torch.Generator().manual_seed(0)
    video, text = (torch.randn(3, 8, generator=generator) for _ in range(2))
    labels, scale = torch.tensor([0, 1, 0]), torch.tensor(5.0)
    logits = scale * torch.nn.functional.cosine_similarity(video[:, None], text[None], dim=-1)
    same = (labels[:, None] == labels[None]).float()
    target = 0.8 * torch.softmax(10 * same, 1) + 0.2 / 3
    expected = (target * (target.log() - logits.log_softmax(1))).sum() / 3
    found = in_batch_kl(video, text, labels, scale, label_smoothing=0.2)[0]
    assert torch.allclose(found, expected, rtol=1e-5)


def test_mixed_videos_and_their_shares_belong_together() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 2, 1])
    video = torch.nn.functional.one_hot(labels, 3).float().reshape(4, 1, 3, 1, 1)
    mixed, shares = mixup(video, labels, 3, alpha=0.8)
    assert torch.allclose(mixed.reshape(4, 3), shares, atol=1e-6)
    assert torch.allclose(shares.sum(1), torch.ones(4), atol=1e-6)
    assert ((shares > 0.01) & (shares < 0.99)).any()


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
@pytest.mark.parametrize("name", ["contrastive_motion", "cross_entropy", "sigmoid"])
def test_every_objective_goes_with_every_model_and_names_its_terms(name: str, method: str) -> None:
    classes = ["Yoga", "Archery", "Diving"]
    options = {} if method == "ez_clip" else {"context": "shared"}
    model = create_model(method, small_backbone(), num_frames=2, **options)
    chosen = {"motion_weight": 0.5, "label_smoothing": 0.1, "mixup": 0.4}
    chosen |= {"bias": -10.0} if name == "sigmoid" else {}
    objective = create_objective(
        name, model, classes, PromptSet(("a {}", "the {}")), chosen
    ).train()
    terms = objective(torch.randn(3, 2, 3, 32, 32), torch.tensor([0, 2, 2]))
    own = {
        "contrastive_motion": ["video_to_text", "text_to_video"],
        "cross_entropy": ["cross_entropy"],
        "sigmoid": ["sigmoid"],
    }
    assert set(terms) == {"loss", "motion", *own[name]}
    expected = torch.stack([terms[term] for term in own[name]]).mean() + 0.5 * terms["motion"]
    assert torch.allclose(terms["loss"], expected)
    terms["loss"].backward()


def test_extras_are_off_by_default_and_not_used_in_evaluation() -> None:
    model = create_model("vita_clip", small_backbone(), num_frames=2, context="shared").eval()
    classes, video, labels = ["Yoga", "Archery"], torch.randn(2, 2, 3, 32, 32), torch.tensor([0, 1])
    plain = CrossEntropy(model, classes, PromptSet()).eval()
    assert set(plain(video, labels)) == {"loss", "cross_entropy"}
    mixing = CrossEntropy(model, classes, PromptSet(), mixup=1.0).eval()
    assert torch.equal(plain(video, labels)["loss"], mixing(video, labels)["loss"])
    for options, message in (
        ({"smoothing": 0.1}, "cross_entropy does not take smoothing: did you mean label_smoothing"),
        ({"bias": -10}, "objective cross_entropy does not take bias"),
        ({"mixup": "0,1"}, "method.objective_options.mixup is '0,1': give a number"),
        ({"mixup": True}, "is True: give a number"),
        ({"motion_weight": float("inf")}, "is inf: give a number"),
        ({"motion_weight": None}, "is None: give a number"),
    ):
        with pytest.raises(UserError, match=message):
            create_objective("cross_entropy", model, classes, PromptSet(), options)
    still = create_model("ez_clip", small_backbone(), num_frames=1)
    with pytest.raises(UserError, match="needs at least 2 frames"):
        CrossEntropy(still, classes, PromptSet(), motion_weight=1.0)
    with pytest.raises(UserError, match="label_smoothing is from 0 to below 1"):
        CrossEntropy(model, classes, PromptSet(), label_smoothing=1.0)


def test_the_sigmoid_loss_is_a_yes_or_no_for_each_class() -> None:
    backbone = small_backbone()
    model = create_model("vita_clip", backbone, num_frames=2, context="shared").eval()
    classes, video, labels = ["Yoga", "Archery", "Row"], torch.randn(2, 2, 3, 32, 32), [2, 0]
    with pytest.raises(UserError, match="has none: set method.objective_options.bias"):
        create_objective("sigmoid", model, classes, PromptSet(), {})
    loss = create_objective("sigmoid", model, classes, PromptSet(), {"bias": -10})
    found = loss.eval()(video, torch.tensor(labels))["loss"]
    scores = model(video, classes).detach() - 10
    expected = 0.0
    for row, label in zip(scores.tolist(), labels, strict=True):
        for i, score in enumerate(row):
            expected += math.log1p(math.exp(-score if i == label else score)) / 2
    assert math.isclose(found.item(), expected, rel_tol=1e-4)
    found.backward()
    assert loss.bias.grad != 0
    own = torch.tensor([-7.0])
    backbone.clip.logit_bias = torch.nn.Parameter(own)  # SigLIP's has one
    assert create_objective("sigmoid", model, classes, PromptSet(), {}).bias.item() == -7


def test_cross_entropy_averages_the_prompts_of_a_class_as_directions() -> None:
    model = create_model("ez_clip", small_backbone(), num_frames=2).eval()
    classes, prompts = ["Yoga", "Archery"], PromptSet(("a {}", "somebody does {}"))
    video = torch.randn(2, 2, 3, 32, 32)
    text = model.encode_classes(classes, prompts)
    unit = torch.nn.functional.normalize(text, dim=-1).mean(1)
    similarity = torch.nn.functional.cosine_similarity(
        model.encode_video(video)[1][:, None], unit[None], dim=-1
    )
    expected = torch.nn.functional.cross_entropy(
        model.logit_scale * similarity, torch.tensor([1, 0])
    )
    found = CrossEntropy(model, classes, prompts).eval()(video, torch.tensor([1, 0]))["loss"]
    assert torch.allclose(found, expected, rtol=1e-4)
