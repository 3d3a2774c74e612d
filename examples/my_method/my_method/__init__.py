"""A linear probe on frozen CLIP's video features: the floor of a few-shot table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from vidprompt.data.annotations.class_names import class_key
from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.encoder import PLAIN_NAMES
from vidprompt.models.text.prompts import PromptSet


class LinearProbe(VideoCLIP):
    """The logit of class c is w_c · v̂ + b_c, v̂ being the normalised mean of the frames' features.

    w_c starts as CLIP's zero-shot classifier (its factor s times the class's text feature) and is learned for
    training classes, as is b_c; another class keeps its text feature, and b = 0.

    Evaluation knows logit_scale · cosine alone. With two more numbers in each feature that is the same: the
    cosine of (v̂, 1, 0) / √2 and (w_c, b_c, r_c) / R is (w_c · v̂ + b_c) / (√2 R), if r_c fills up the length
    to an R that no class exceeds; and the factor is √2 R.
    """

    def __init__(
        self, backbone: Backbone, num_frames: int, *, class_names: Sequence[str] = ()
    ) -> None:
        super().__init__(backbone, num_frames, class_names=class_names)
        self.rows = {class_key(name): row for row, name in enumerate(class_names)}
        self.weight = nn.Parameter(torch.zeros(len(class_names), super().feature_width))
        self.bias = nn.Parameter(torch.zeros(len(class_names)))

    @property
    def feature_width(self) -> int:
        return super().feature_width + 2

    @property
    def text_is_fixed(self) -> bool:
        return False

    @property
    def logit_scale(self) -> torch.Tensor:
        return 2**0.5 * self.radius()

    def radius(self) -> torch.Tensor:
        """R: at least the length of (w, b) of all classes; no result depends on it."""
        factor, weight, bias = (
            super().logit_scale.detach(),
            self.weight.detach(),
            self.bias.detach(),
        )
        lengths = (factor + weight.norm(dim=1)).square() + bias.square()
        return (torch.cat([lengths, factor.square()[None]]).amax() + 1).sqrt()

    def encode_video(
        self, video: torch.Tensor, maps: list[Any] | None = None, *, batch_seed: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        frames, mean = super().encode_video(video, maps, batch_seed=batch_seed)
        one = mean.norm(dim=-1)[:, None, None].expand(-1, frames.shape[1], 1)  # v̂'s 1, times |v|
        frames = torch.cat([frames, one, torch.zeros_like(one)], -1)
        return frames, frames.mean(1)

    def encode_in_chunks(self, *arguments: Any, **options: Any) -> torch.Tensor:
        """Texts are classifiers too, with b = 0: (n, E) → (n, E + 2)."""
        text = super().encode_in_chunks(*arguments, **options).float()
        weight = super().logit_scale * F.normalize(text, dim=-1)
        return self.classifier(weight, weight.new_zeros(len(weight)))

    def encode_classes(
        self,
        class_names: Sequence[str],
        prompts: PromptSet = PLAIN_NAMES,
        chunk: int | None = None,
    ) -> torch.Tensor:
        """One classifier a class, (C, 1, E + 2): of several prompts the mean feature."""
        text = super().encode_classes(class_names, prompts, chunk)[..., :-2]
        mean = F.normalize(F.normalize(text, dim=-1).mean(1), dim=-1)
        known = [i for i, name in enumerate(class_names) if class_key(name) in self.rows]
        rows = [self.rows[class_key(class_names[i])] for i in known]
        index = torch.tensor(known, dtype=torch.long, device=mean.device)
        weight = (super().logit_scale * mean).index_add(0, index, self.weight[rows])
        bias = mean.new_zeros(len(mean)).index_add(0, index, self.bias[rows])
        return self.classifier(weight, bias)[:, None]

    def classifier(self, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Classifiers (n, E) and (n,) → (n, E + 2), of length 1."""
        radius = self.radius()
        rest = (radius**2 - weight.square().sum(-1) - bias.square()).sqrt()
        return torch.cat([weight, bias[:, None], rest[:, None]], -1) / radius
