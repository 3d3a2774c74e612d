"""Objectives: what is minimised. Each maps a batch to named loss terms and their weighted sum.

Several processes share a batch: each encodes its own videos, then all have the features of all
(`gather`), and each computes the loss of the whole batch, in float32 whatever the videos are encoded in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from vidprompt.models.methods.video_clip import VideoCLIP, logits
from vidprompt.models.text.context import LearnedContext
from vidprompt.models.text.prompts import PromptSet, tokenize
from vidprompt.models.text.tower import text_ends
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice

Terms = dict[str, torch.Tensor]
TEXTS_AT_ONCE = 64


def in_batch_kl(
    video: torch.Tensor,
    text: torch.Tensor,
    labels: torch.Tensor,
    scale: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """EZ-CLIP's contrastive terms over the batch: KL video→text and KL text→video.

    video (B, E), text (B, E) of each sample's class; labels (B,), or (B, C) shares of each class of a
    mixed sample, whose text is that of its largest share. Target rows are softmax(10·y), y_ij the share
    of text j's class in video i (1 where labels agree); KL is summed and divided by B. Smoothing moves
    that share of a target evenly over the batch.
    """
    similarity = logits(video, text, scale)
    if labels.ndim == 1:
        same = (labels[:, None] == labels[None]).to(similarity.dtype)
    else:
        same = labels[:, labels.argmax(1)].to(similarity.dtype)
    video_to_text = _kl(similarity, same, label_smoothing)
    return video_to_text, _kl(similarity.T, same.T, label_smoothing)


def _kl(logits: torch.Tensor, same: torch.Tensor, smoothing: float) -> torch.Tensor:
    target = F.softmax(10 * same, dim=1)
    if smoothing:
        target = (1 - smoothing) * target + smoothing / target.shape[1]
    return F.kl_div(F.log_softmax(logits, dim=1), target, reduction="batchmean")


def motion_loss(frames: torch.Tensor) -> torch.Tensor:
    """EZ-CLIP's motion loss (T2L: temporal feature diversity) on raw frame features (B, T, E).

    1 / (C + V + 1) with C the mean absolute central difference in time (ends replicated) and V the
    mean over E of the unbiased variance over T.
    """
    return 1 / (motion(frames).sum() + 1)


def motion(frames: torch.Tensor) -> torch.Tensor:
    """C and V of `motion_loss`, (2,)."""
    after = torch.cat([frames[:, 1:], frames[:, -1:]], 1)
    before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
    change = (after - before).abs().div(2).mean()
    spread = frames.var(dim=1, unbiased=True).mean()
    return torch.stack([change, spread])


def batch_hard_triplet(features: torch.Tensor, labels: torch.Tensor, margin: float) -> torch.Tensor:
    """Batch-hard triplet loss (Hermans et al., 2017) on L2-normalised features (B, E).

    A sample is not its own positive: its distance to itself would be rounding, magnified by the root.
    """
    unit = F.normalize(features, dim=-1)
    distance = (2 - 2 * unit @ unit.T).clamp_min(1e-8).sqrt()
    same = labels[:, None] == labels[None]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    hardest_positive = distance.masked_fill(~same | itself, 0).amax(1)
    hardest_negative = distance.masked_fill(same, float("inf")).amin(1)
    return F.relu(hardest_positive - hardest_negative + margin).mean()


class Objective(nn.Module):
    """A model with its loss: forward(video, labels) → terms, with "loss" the sum to minimise.

    `video` (B, T, 3, H, W) and `labels` (B,) are this process's share of the batch, the terms the whole
    batch's. `gather` gives the rows of all processes, with gradient; `generator` makes the draws that
    must be the same in all of them (None: torch's own).
    """

    def __init__(self, model: VideoCLIP, class_names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.class_names = list(class_names)
        self.gather: Callable[[torch.Tensor], torch.Tensor] = _alone
        self.generator: torch.Generator | None = None

    def forward(self, video: torch.Tensor, labels: torch.Tensor) -> Terms:
        video, labels = self.prepare(video, labels)
        return self.loss_terms(*self.model.encode_video(video), labels)

    def prepare(
        self, video: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What is encoded of a share, and the labels of that."""
        return video, labels

    def loss_terms(
        self, frames: torch.Tensor, features: torch.Tensor, labels: torch.Tensor
    ) -> Terms:
        """Terms of the whole batch from this process's frame features (B, T, E) and video features (B, E)."""
        raise NotImplementedError


def _alone(rows: torch.Tensor) -> torch.Tensor:
    return rows


def _full_precision(tensor: torch.Tensor) -> torch.autocast:
    """Similarities are multiplied by up to 100: half precision would be off by tenths of a logit."""
    return torch.autocast(tensor.device.type, enabled=False)


class Recognition(Objective):
    """What the objectives over classes share; any of them goes with any model.

    Args:
        motion_weight: of the motion loss (EZ-CLIP: 1; Vita-CLIP has none).
        label_smoothing: share of a target that is spread over the others; 0 = off, as released.
        mixup: α of Beta(α, α), the share of a second video mixed into each in training (Zhang et al.,
            2018); 0 = off, as released.
    """

    def __init__(
        self,
        model: VideoCLIP,
        class_names: Sequence[str],
        prompts: PromptSet,
        *,
        motion_weight: float = 0.0,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
    ) -> None:
        super().__init__(model, class_names)
        if not 0 <= label_smoothing < 1 or mixup < 0:
            raise UserError(
                f"label_smoothing is {label_smoothing} and mixup {mixup}: the first is a share below 1, "
                "the second an α of at least 0"
            )
        if motion_weight and model.num_frames < 2:
            raise UserError("the motion loss needs at least 2 frames: set motion_weight to 0")
        self.prompts = prompts
        self.motion_weight = motion_weight
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self._fixed: torch.Tensor | None = None

    def prepare(
        self, video: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.mixup and self.training:
            return mix_videos(video, labels, len(self.class_names), self.mixup)
        return video, labels

    def loss_terms(
        self, frames: torch.Tensor, features: torch.Tensor, labels: torch.Tensor
    ) -> Terms:
        terms = self.class_terms(self.gather(features.float()), self.gather(labels))
        terms["loss"] = torch.stack(list(terms.values())).mean()
        if self.motion_weight:
            with _full_precision(frames):
                # shares are of one size: the mean over shares is the mean over videos
                moved = self.gather(motion(frames.float())[None]).mean(0)
                terms["motion"] = 1 / (moved.sum() + 1)
            terms["loss"] = terms["loss"] + self.motion_weight * terms["motion"]
        return terms

    def class_terms(self, features: torch.Tensor, labels: torch.Tensor) -> Terms:
        """Terms of video features (B, E); their mean is minimised. labels (B,) or shares (B, C)."""
        raise NotImplementedError

    def fixed_text(self) -> torch.Tensor | None:
        """Text features (C, P, E) when nothing in training changes them: encoded once."""
        if self.model.text_is_fixed and self._fixed is None:
            with torch.no_grad():
                self._fixed = self.model.encode_classes(self.class_names, self.prompts)
        return self._fixed


class ContrastiveMotion(Recognition):
    """EZ-CLIP: in-batch KL + motion loss; one prompt of its class a sample, drawn each step."""

    def class_terms(self, features: torch.Tensor, labels: torch.Tensor) -> Terms:
        text = self.text_of(labels if labels.ndim == 1 else labels.argmax(1)).float()
        with _full_precision(text):
            to_text, to_video = in_batch_kl(
                features,
                text,
                labels,
                self.model.logit_scale,
                label_smoothing=self.label_smoothing,
            )
        return {"video_to_text": to_text, "text_to_video": to_video}

    def text_of(self, labels: torch.Tensor) -> torch.Tensor:
        """One text feature a sample (B, E); a text that several share is encoded once."""
        if self.model.context is not None and self.model.context.knows(self.class_names):
            classes, back = torch.unique(labels, return_inverse=True)
            names = [self.class_names[i] for i in classes.tolist()]
            return self.model.encode_classes(names)[:, 0][back]
        drawn = torch.randint(self.prompts.per_class, labels.shape, generator=self.generator)
        choice = drawn.to(labels.device)
        fixed = self.fixed_text()
        if fixed is not None:
            return fixed[labels, choice]
        if not hasattr(self, "_tokens"):
            self._tokens = tokenize(
                self.model.backbone.tokenizer, self.prompts.of(self.class_names)
            )
        pair, back = torch.unique(labels * self.prompts.per_class + choice, return_inverse=True)
        tokens = self._tokens[pair.cpu()]
        ends = text_ends(tokens)
        tokens = tokens[:, : int(ends.max()) + 1].to(labels.device)
        embed = self.model.clip.token_embedding
        return self.model.encode_in_chunks(lambda rows: embed(tokens[rows]), ends, TEXTS_AT_ONCE)[
            back
        ]


class CrossEntropy(Recognition):
    """Vita-CLIP: cross-entropy against all training classes.

    A class's text feature is the mean of its prompts' normalised ones.
    """

    def class_terms(self, features: torch.Tensor, labels: torch.Tensor) -> Terms:
        text = self.fixed_text()
        if text is None:
            text = self.model.encode_classes(self.class_names, self.prompts)
        with _full_precision(text):
            scores = logits(features, text, self.model.logit_scale)
            entropy = F.cross_entropy(scores, labels, label_smoothing=self.label_smoothing)
        return {"cross_entropy": entropy}


def mix_videos(
    video: torch.Tensor, labels: torch.Tensor, classes: int, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each video mixed with another of the batch by a share of Beta(α, α): videos, shares (B, C)."""
    shape = torch.full((2, len(labels)), alpha)
    first, second = torch._standard_gamma(shape)
    share = (first / (first + second).clamp_min(1e-12)).to(video)
    other = torch.randperm(len(labels), device=labels.device)
    weight = share.reshape(-1, *(1,) * (video.ndim - 1))
    hard = F.one_hot(labels, classes).to(video.dtype)
    shares = share[:, None] * hard + (1 - share[:, None]) * hard[other]
    return weight * video + (1 - weight) * video[other], shares


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
        self.persons = LearnedContext(names, context_length, model.text_width)

    def loss_terms(
        self, frames: torch.Tensor, features: torch.Tensor, labels: torch.Tensor
    ) -> Terms:
        del frames
        features, labels = self.gather(features.float()), self.gather(labels)
        text = self.persons.features(self.model)
        with _full_precision(text):
            entropy = F.cross_entropy(logits(features, text, self.model.logit_scale), labels)
            triplet = batch_hard_triplet(features, labels, self.margin)
        return {
            "loss": entropy + self.triplet_weight * triplet,
            "cross_entropy": entropy,
            "triplet": triplet,
        }


OBJECTIVES: dict[str, type[Recognition]] = {
    "contrastive_motion": ContrastiveMotion,
    "cross_entropy": CrossEntropy,
}


def create_objective(
    name: str,
    model: VideoCLIP,
    class_names: Sequence[str],
    prompts: PromptSet,
    options: dict[str, float],
) -> Recognition:
    """An objective by name. Raises UserError for an unknown name or option."""
    check_choice("objective", name, OBJECTIVES)
    try:
        return OBJECTIVES[name](model, class_names, prompts, **options)
    except TypeError as error:
        raise UserError(f"objective {name} does not take these options: {error}") from error
