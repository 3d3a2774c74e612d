"""Objectives: what is minimised. Each maps a batch to named loss terms and their weighted sum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from vidprompt.errors import UserError
from vidprompt.models.context import LearnedContext
from vidprompt.models.prompts import PromptSet, tokenize
from vidprompt.models.video_clip import VideoCLIP

Terms = dict[str, torch.Tensor]


def in_batch_kl(
    video: torch.Tensor, text: torch.Tensor, labels: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """EZ-CLIP's contrastive term: (KL video→text + KL text→video) / 2 over the batch.

    video (B, E), text (B, E) of each sample's class, labels (B,). Target rows are softmax(10·y),
    y_ij = 1 where labels agree; KL is summed and divided by B.
    """
    logits = scale * F.normalize(video, dim=-1) @ F.normalize(text, dim=-1).T
    same = (labels[:, None] == labels[None]).to(logits.dtype)
    target = F.softmax(10 * same, dim=1)
    forward = F.kl_div(F.log_softmax(logits, dim=1), target, reduction="batchmean")
    backward = F.kl_div(F.log_softmax(logits.T, dim=1), target, reduction="batchmean")
    return (forward + backward) / 2


def motion_loss(frames: torch.Tensor) -> torch.Tensor:
    """EZ-CLIP's motion loss (T2L: temporal feature diversity) on raw frame features (B, T, E).

    1 / (C + V + 1) with C the mean absolute central difference in time (ends replicated) and V the
    mean over E of the unbiased variance over T.
    """
    after = torch.cat([frames[:, 1:], frames[:, -1:]], 1)
    before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
    change = (after - before).abs().div(2).mean()
    spread = frames.var(dim=1, unbiased=True).mean()
    return 1 / (change + spread + 1)


def batch_hard_triplet(features: torch.Tensor, labels: torch.Tensor, margin: float) -> torch.Tensor:
    """Batch-hard triplet loss (Hermans et al., 2017) on L2-normalised features (B, E)."""
    unit = F.normalize(features, dim=-1)
    distance = (2 - 2 * unit @ unit.T).clamp_min(1e-8).sqrt()
    same = labels[:, None] == labels[None]
    hardest_positive = distance.masked_fill(~same, 0).amax(1)
    hardest_negative = distance.masked_fill(same, float("inf")).amin(1)
    return F.relu(hardest_positive - hardest_negative + margin).mean()


class Objective(nn.Module):
    """A model with its loss: forward(video, labels) → terms, with "loss" the sum to minimise.

    Being one module, it is what accelerate wraps for several processes.
    """

    def __init__(self, model: VideoCLIP, class_names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.class_names = list(class_names)


class ContrastiveMotion(Objective):
    """EZ-CLIP: in-batch KL + motion loss; one prompt of its class a sample, drawn each step."""

    def __init__(
        self,
        model: VideoCLIP,
        class_names: Sequence[str],
        prompts: PromptSet,
        *,
        motion_weight: float = 1.0,
    ) -> None:
        super().__init__(model, class_names)
        self.motion_weight = motion_weight
        self.prompt_count = len(prompts.templates)
        tokens = tokenize(model.backbone.tokenizer, prompts.of(class_names))
        self.tokens: torch.Tensor
        self.register_buffer("tokens", tokens.reshape(len(class_names), self.prompt_count, -1))

    def forward(self, video: torch.Tensor, labels: torch.Tensor) -> Terms:
        frames, features = self.model.encode_video(video)
        choice = torch.randint(self.prompt_count, labels.shape).to(labels.device)
        # a class and prompt that several samples share is encoded once
        pair, back = torch.unique(labels * self.prompt_count + choice, return_inverse=True)
        text = self.model.encode_text(self.tokens.flatten(0, 1)[pair])[back]
        contrastive = in_batch_kl(features, text, labels, self.model.logit_scale)
        motion = motion_loss(frames)
        return {
            "loss": contrastive + self.motion_weight * motion,
            "contrastive": contrastive,
            "motion": motion,
        }


class CrossEntropy(Objective):
    """Vita-CLIP: cross-entropy against all training classes."""

    def __init__(
        self,
        model: VideoCLIP,
        class_names: Sequence[str],
        prompts: PromptSet,
        *,
        label_smoothing: float = 0.0,
        motion_weight: float = 0.0,
    ) -> None:
        super().__init__(model, class_names)
        self.prompts = prompts
        self.label_smoothing = label_smoothing
        self.motion_weight = motion_weight

    def forward(self, video: torch.Tensor, labels: torch.Tensor) -> Terms:
        frames, features = self.model.encode_video(video)
        text = F.normalize(
            self.model.encode_classes(self.class_names, self.prompts).mean(1), dim=-1
        )
        logits = self.model.logit_scale * F.normalize(features, dim=-1) @ text.T
        entropy = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        terms = {"loss": entropy, "cross_entropy": entropy}
        if self.motion_weight:
            terms["motion"] = motion_loss(frames)
            terms["loss"] = entropy + self.motion_weight * terms["motion"]
        return terms


class Identity(Objective):
    """Re-identification: persons are classes with a learned context each, plus batch-hard triplet.

    The contexts serve training alone (the persons at test are others); they are no part of the model.
    """

    def __init__(
        self,
        model: VideoCLIP,
        class_names: Sequence[str],
        *,
        context_length: int,
        margin: float,
        triplet_weight: float,
    ) -> None:
        super().__init__(model, class_names)
        self.margin, self.triplet_weight = margin, triplet_weight
        names = [f"person {name}" for name in class_names]
        self.persons = LearnedContext(names, context_length, model.text_width, shared=False)

    def forward(self, video: torch.Tensor, labels: torch.Tensor) -> Terms:
        _, features = self.model.encode_video(video)
        text = F.normalize(self.persons.features(self.model), dim=-1)
        logits = self.model.logit_scale * F.normalize(features, dim=-1) @ text.T
        entropy = F.cross_entropy(logits, labels)
        triplet = batch_hard_triplet(features, labels, self.margin)
        return {
            "loss": entropy + self.triplet_weight * triplet,
            "cross_entropy": entropy,
            "triplet": triplet,
        }


OBJECTIVES = {"contrastive_motion": ContrastiveMotion, "cross_entropy": CrossEntropy}


def create_objective(
    name: str,
    model: VideoCLIP,
    class_names: Sequence[str],
    prompts: PromptSet,
    options: dict[str, float],
) -> Objective:
    """An objective by name. Raises UserError for an unknown name or option."""
    if name not in OBJECTIVES:
        raise UserError(f"unknown objective {name!r}; choose one of {', '.join(OBJECTIVES)}")
    try:
        return OBJECTIVES[name](model, class_names, prompts, **options)
    except TypeError as error:
        raise UserError(f"objective {name} does not take these options: {error}") from error
