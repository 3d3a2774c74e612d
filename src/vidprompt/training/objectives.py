"""Training objectives: a batch of videos and labels → named loss terms and their weighted sum.

With several processes each encodes its own part of the batch; `gather` then gives every process the features
of all, and each computes the loss of the whole batch, in float32 whatever precision the encoder has.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from vidprompt.config.plugins import Registry, subclass_problem
from vidprompt.models.methods.video_clip import VideoCLIP, logits
from vidprompt.models.text.context import LearnedContext
from vidprompt.models.text.prompts import PromptSet, tokenize_classes
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice, suggestion

LossTerms = dict[str, torch.Tensor]
HEADS = ("context", "linear")  # of re-identification


def in_batch_kl(
    video: torch.Tensor,
    text: torch.Tensor,
    labels: torch.Tensor,
    scale: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """EZ-CLIP's contrastive loss over the batch: KL video→text and KL text→video, two scalars.

    video (B, E); text (B, E) of each sample's class; labels (B,), or (B, C) mixing weights, where the text is
    of the class with the largest weight. Target rows are softmax(10·y), y_ij the weight of text j's class in
    video i (1 where labels are equal); the KL divergence is summed and divided by B. `label_smoothing`
    spreads that part of each target evenly over the batch.
    """
    similarity = logits(video, text, scale)
    if labels.ndim == 1:
        same = (labels[:, None] == labels[None]).to(similarity.dtype)
    else:
        same = labels[:, labels.argmax(1)].to(similarity.dtype)
    video_to_text = _kl(similarity, same, label_smoothing)
    return video_to_text, _kl(similarity.T, same.T, label_smoothing)


def _kl(similarity: torch.Tensor, same: torch.Tensor, smoothing: float) -> torch.Tensor:
    target = F.softmax(10 * same, dim=1)
    if smoothing:
        target = (1 - smoothing) * target + smoothing / target.shape[1]
    return F.kl_div(F.log_softmax(similarity, dim=1), target, reduction="batchmean")


def motion_loss(frames: torch.Tensor) -> torch.Tensor:
    """EZ-CLIP's motion loss (T2L: temporal feature diversity) of frame features (B, T, E), a scalar.

    1 / (C + V + 1) with C the mean absolute central difference in time (ends replicated) and V the mean
    unbiased variance over T; features are not normalised.
    """
    return 1 / (motion_statistics(frames).sum() + 1)


def motion_statistics(frames: torch.Tensor) -> torch.Tensor:
    """C and V of `motion_loss`, (2,)."""
    after = torch.cat([frames[:, 1:], frames[:, -1:]], 1)
    before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
    change = (after - before).abs().div(2).mean()
    spread = frames.var(dim=1, unbiased=True).mean()
    return torch.stack([change, spread])


def batch_hard_triplet(
    features: torch.Tensor, labels: torch.Tensor, margin: float | None, *, normalised: bool = True
) -> torch.Tensor:
    """Batch-hard triplet loss (Hermans et al., 2017) of features (B, E) and labels (B,), a scalar.

    The mean over samples of max(0, d_p - d_n + margin), or with `margin` None of log(1 + exp(d_p - d_n)), the
    soft margin; d_p and d_n are the Euclidean distances to the farthest sample of the same label and to the
    nearest of another, of features that are L2-normalised if `normalised`.

    A sample is not its own positive: that distance is rounding, magnified by the square root.
    """
    if normalised:
        features = F.normalize(features, dim=-1)
        squared = 2 - 2 * features @ features.T
    else:
        squares = features.square().sum(1)
        squared = squares[:, None] + squares[None] - 2 * features @ features.T
    distance = squared.clamp_min(1e-8).sqrt()
    same = labels[:, None] == labels[None]
    diagonal = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    hardest_positive = distance.masked_fill(~same | diagonal, 0).amax(1)
    hardest_negative = distance.masked_fill(same, float("inf")).amin(1)
    difference = hardest_positive - hardest_negative
    if margin is None:
        return F.softplus(difference).mean()
    return F.relu(difference + margin).mean()


class Objective(nn.Module):
    """A model with its loss: forward(video, labels) → loss terms, of which "loss" is minimised.

    `video` (B, T, 3, H, W) and `labels` (B,) are this process's part of the batch; the terms are of the whole
    batch. `gather` returns the rows of all processes, with gradient; `generator` makes the random numbers
    that must be equal in all processes (None: torch's default).
    """

    def __init__(self, model: VideoCLIP, class_names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.class_names = list(class_names)
        self.gather: Callable[[torch.Tensor], torch.Tensor] = _one_process
        self.generator: torch.Generator | None = None

    def forward(self, video: torch.Tensor, labels: torch.Tensor) -> LossTerms:
        video, labels = self.prepare(video, labels)
        return self.loss_terms(*self.model.encode_video(video), labels)

    def prepare(
        self, video: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The videos to encode and their labels, from this process's part of the batch."""
        return video, labels

    def loss_terms(
        self, frames: torch.Tensor, features: torch.Tensor, labels: torch.Tensor
    ) -> LossTerms:
        """Loss terms of the whole batch from this process's frame (B, T, E) and video features (B, E)."""
        raise NotImplementedError

    def motion(self, frames: torch.Tensor) -> torch.Tensor:
        """`motion_loss` of the frame features (B, T, E) of all processes."""
        with _full_precision(frames):
            # all processes have as many videos: the mean over processes is the mean over videos
            statistics = self.gather(motion_statistics(frames.float())[None]).mean(0)
            return 1 / (statistics.sum() + 1)


def _check_motion(weight: float, model: VideoCLIP) -> None:
    if weight and model.num_frames < 2:
        raise UserError("the motion loss needs at least 2 frames: set motion_weight to 0")


def _one_process(rows: torch.Tensor) -> torch.Tensor:
    return rows


def _full_precision(tensor: torch.Tensor) -> torch.autocast:
    """Disable autocast: similarities times 100 would be off by tenths of a logit in half precision."""
    return torch.autocast(tensor.device.type, enabled=False)


class ClassificationObjective(Objective):
    """Base of the objectives over classes, a plug-in's too; each works with any model.

    A subclass defines `class_terms`. Its own options are keyword-only with defaults, and it hands others on:
    `def __init__(self, model, class_names, prompts, *, margin: float = 0.1, **options)`.

    Args:
        motion_weight: weight of the motion loss (EZ-CLIP: 1; Vita-CLIP has none).
        label_smoothing: in [0, 1); 0 = off, as released.
        mixup: α of Beta(α, α), the mixing weight of two videos (mixup, Zhang et al., 2018); 0 = off, as
            released.

    Raises UserError for a value out of range, or a motion loss of a single frame.
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
                f"label_smoothing is {label_smoothing} and mixup {mixup}: label_smoothing is from 0 to "
                "below 1, and mixup at least 0"
            )
        _check_motion(motion_weight, model)
        self.prompts = prompts
        self.motion_weight = motion_weight
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self._fixed_text: torch.Tensor | None = None
        self._tokens: torch.Tensor | None = None

    def prepare(
        self, video: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.mixup and self.training:
            return mixup(video, labels, len(self.class_names), self.mixup)
        return video, labels

    def loss_terms(
        self, frames: torch.Tensor, features: torch.Tensor, labels: torch.Tensor
    ) -> LossTerms:
        terms = self.class_terms(self.gather(features.float()), self.gather(labels))
        terms["loss"] = torch.stack(list(terms.values())).mean()
        if self.motion_weight:
            terms["motion"] = self.motion(frames)
            terms["loss"] = terms["loss"] + self.motion_weight * terms["motion"]
        return terms

    def class_terms(self, features: torch.Tensor, labels: torch.Tensor) -> LossTerms:
        """Terms of features (B, E) and labels (B,) or mixing weights (B, C); their mean is minimised."""
        raise NotImplementedError

    def fixed_text(self) -> torch.Tensor | None:
        """Text features (C, P, E), encoded once; None if training changes them."""
        if self.model.text_is_fixed and self._fixed_text is None:
            with torch.no_grad():
                self._fixed_text = self.model.encode_classes(self.class_names, self.prompts)
        return self._fixed_text

    def class_text(self) -> torch.Tensor:
        """Text features (C, P, E) of the training classes, as the model is now."""
        text = self.fixed_text()
        return self.model.encode_classes(self.class_names, self.prompts) if text is None else text


class ContrastiveMotion(ClassificationObjective):
    """EZ-CLIP: `in_batch_kl` and motion loss; each step draws one prompt a sample."""

    def class_terms(self, features: torch.Tensor, labels: torch.Tensor) -> LossTerms:
        text = self.sample_text(labels if labels.ndim == 1 else labels.argmax(1)).float()
        with _full_precision(text):
            to_text, to_video = in_batch_kl(
                features,
                text,
                labels,
                self.model.logit_scale,
                label_smoothing=self.label_smoothing,
            )
        return {"video_to_text": to_text, "text_to_video": to_video}

    def sample_text(self, labels: torch.Tensor) -> torch.Tensor:
        """One text feature a sample: labels (B,) → (B, E).

        Samples of one text share its encoding, unless something is dropped in the text tower: each is then
        encoded with a dropout of its own, as released. On a GPU too each is encoded, and all texts are
        padded to the longest: to find out would make the processor wait for the device.
        """
        if self.model.context is not None and self.model.context.covers(self.class_names):
            classes, inverse = torch.unique(labels, return_inverse=True)
            names = [self.class_names[i] for i in classes.tolist()]
            return self.model.encode_classes(names)[:, 0][inverse]
        prompts = self.prompts.per_class
        drawn = torch.randint(prompts, labels.shape, generator=self.generator)
        drawn = drawn.to(labels.device, non_blocking=True)
        fixed = self.fixed_text()
        if fixed is not None:
            return fixed[labels, drawn]
        if self._tokens is None:
            tokenizer = self.model.backbone.tokenizer
            tokens = tokenize_classes(tokenizer, self.prompts, self.class_names)
            tower = self.model.text_tower
            needed = tower.needed_length(tower.read_at(tokens))
            self._tokens = tokens[:, :needed].to(labels.device)
        rows = labels * prompts + drawn
        if labels.device.type != "cpu" or (self.training and self.model.drops_text):
            return self.model.encode_text(self._tokens[rows])
        rows, inverse = torch.unique(rows, return_inverse=True)
        return self.model.encode_text(self._tokens[rows])[inverse]


class CrossEntropy(ClassificationObjective):
    """Vita-CLIP: cross-entropy over all training classes.

    The text feature of a class is the mean of the normalised features of its prompts.
    """

    def class_terms(self, features: torch.Tensor, labels: torch.Tensor) -> LossTerms:
        text = self.class_text()
        with _full_precision(text):
            scores = logits(features, text, self.model.logit_scale)
            entropy = F.cross_entropy(scores, labels, label_smoothing=self.label_smoothing)
        return {"cross_entropy": entropy}


class Sigmoid(ClassificationObjective):
    """SigLIP's loss (arXiv 2303.15343) over all training classes: a yes or no for each class and video.

    The sum over the classes of the binary cross-entropy, divided by B; text features as in CrossEntropy.

    Args:
        bias: what is added to the logits at the start, and trained with the objective. None: the backbone's
            own, which SigLIP has (SigLIP started from -10, with a factor of 10).

    Raises UserError where there is none.
    """

    def __init__(
        self,
        model: VideoCLIP,
        class_names: Sequence[str],
        prompts: PromptSet,
        *,
        bias: float | None = None,
        **options: float,
    ) -> None:
        super().__init__(model, class_names, prompts, **options)
        own = model.logit_bias
        if bias is None and own is None:
            raise UserError(
                f"the sigmoid objective adds a bias to the logits, and {model.backbone.tag} has none: set "
                "method.objective_options.bias (minus the factor of the logits is a start)"
            )
        start = own if bias is None else torch.tensor(float(bias))
        self.bias = nn.Parameter(start.detach().clone())  # type: ignore[union-attr]

    def class_terms(self, features: torch.Tensor, labels: torch.Tensor) -> LossTerms:
        text = self.class_text()
        with _full_precision(text):
            scores = logits(features, text, self.model.logit_scale, self.bias)
            yes = F.one_hot(labels, scores.shape[1]) if labels.ndim == 1 else labels
            yes = yes.to(scores.dtype)
            yes = (1 - self.label_smoothing) * yes + self.label_smoothing / scores.shape[1]
            entropy = F.binary_cross_entropy_with_logits(scores, yes, reduction="sum")
        return {"sigmoid": entropy / len(scores)}


def mixup(
    video: torch.Tensor, labels: torch.Tensor, classes: int, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each video (B, …) with another of the batch, with weights of Beta(α, α).

    Returns the mixed videos and the weight of each class in them, (B, C).
    """
    shape = torch.full((2, len(labels)), alpha)
    first, second = torch._standard_gamma(shape)
    weight = (first / (first + second).clamp_min(1e-12)).to(video)
    other = torch.randperm(len(labels), device=labels.device)
    one_hot = F.one_hot(labels, classes).to(video.dtype)
    targets = weight[:, None] * one_hot + (1 - weight[:, None]) * one_hot[other]
    weight = weight.reshape(-1, *(1,) * (video.ndim - 1))
    return weight * video + (1 - weight) * video[other], targets


class ReIdentification(Objective):
    """Re-identification: cross-entropy over persons, plus triplet loss and, if chosen, the motion loss.

    What tells persons apart is not part of the model: the persons of the test are others.

    Args:
        class_names: ids of the training persons.
        head: "context": a learned text context a person, and similarities times CLIP's factor (as CLIP-ReID);
            "linear": a linear layer on the video features as they are, which starts close to 0.
        context_length: M vectors a person, with "context".
        margin: of `batch_hard_triplet`.
        triplet_weight: of the triplet loss; the cross-entropy has weight 1.
        triplet_normalised: `normalised` of `batch_hard_triplet`.
        motion_weight: of the motion loss.

    Raises UserError for an unknown head, or a motion loss of a single frame. Source of the linear head, the
    soft margin and the distances of features that are not normalised: "Colors See, Colors Ignore" (ICCV
    2025), `loss/make_loss.py`, `loss/triplet_loss.py` and `model/ez_eval_cloth_vid.py`.
    """

    def __init__(
        self,
        model: VideoCLIP,
        class_names: Sequence[str],
        *,
        context_length: int,
        margin: float | None,
        triplet_weight: float,
        head: str = "context",
        triplet_normalised: bool = True,
        motion_weight: float = 0.0,
    ) -> None:
        super().__init__(model, class_names)
        check_choice("head", head, HEADS)
        _check_motion(motion_weight, model)
        self.margin, self.triplet_weight = margin, triplet_weight
        self.triplet_normalised, self.motion_weight = triplet_normalised, motion_weight
        self.persons: LearnedContext | None = None
        self.head: nn.Linear | None = None
        if head == "linear":
            self.head = nn.Linear(model.feature_width, len(class_names))
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            self.head.weight.data.mul_(0.001)
            nn.init.zeros_(self.head.bias)
        else:
            names = [f"person {name}" for name in class_names]
            self.persons = LearnedContext(model.backbone, names, context_length)

    def loss_terms(
        self, frames: torch.Tensor, features: torch.Tensor, labels: torch.Tensor
    ) -> LossTerms:
        features, labels = self.gather(features.float()), self.gather(labels)
        text = self.model.encode_in_chunks(*self.persons.prompts()) if self.persons else None
        with _full_precision(features):
            scores = self._scores(features, text)
            entropy = F.cross_entropy(scores, labels)
            triplet = batch_hard_triplet(
                features, labels, self.margin, normalised=self.triplet_normalised
            )
        terms = {
            "loss": entropy + self.triplet_weight * triplet,
            "cross_entropy": entropy,
            "triplet": triplet,
        }
        if self.motion_weight:
            terms["motion"] = self.motion(frames)
            terms["loss"] = terms["loss"] + self.motion_weight * terms["motion"]
        return terms

    def _scores(self, features: torch.Tensor, text: torch.Tensor | None) -> torch.Tensor:
        """Logits of the persons, (B, persons)."""
        if self.head is not None:
            scores: torch.Tensor = self.head(features)
            return scores
        assert text is not None
        return logits(features, text, self.model.logit_scale)


OBJECTIVES: Registry[type[ClassificationObjective]] = Registry(
    "objectives",
    {
        "contrastive_motion": ContrastiveMotion,
        "cross_entropy": CrossEntropy,
        "sigmoid": Sigmoid,
    },
    subclass_problem(ClassificationObjective),
)


def create_objective(
    name: str,
    model: VideoCLIP,
    class_names: Sequence[str],
    prompts: PromptSet,
    options: Mapping[str, Any],
) -> ClassificationObjective:
    """Create an objective by its name in OBJECTIVES, a plug-in's too.

    Raises UserError for an unknown name or option, for an option that is of another type than its default
    (a number, if that is a number or None), and for a plug-in that does not work.
    """
    kind, valid = OBJECTIVES[name], objective_options(name)
    for option, value in options.items():
        if option not in valid:
            raise UserError(f"objective {name} does not take {option}: {suggestion(option, valid)}")
        usual = valid[option]
        if isinstance(usual, bool | str):
            if not isinstance(value, type(usual)):
                wanted = "true or false" if isinstance(usual, bool) else "a text"
                raise UserError(f"method.objective_options.{option} is {value!r}: give {wanted}")
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and math.isfinite(value)) and not (usual is None and value is None):
            raise UserError(f"method.objective_options.{option} is {value!r}: give a number")
    return kind(model, class_names, prompts, **options)


def objective_options(name: str) -> dict[str, Any]:
    """The options that an objective takes, with their defaults."""
    kinds = [one for one in OBJECTIVES[name].__mro__ if "__init__" in vars(one)]
    kinds = [one for one in kinds if issubclass(one, ClassificationObjective)]
    parameters = [
        p for kind in kinds for p in inspect.signature(vars(kind)["__init__"]).parameters.values()
    ]
    options: dict[str, Any] = {}
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY:
            options.setdefault(one.name, one.default)
    return options
