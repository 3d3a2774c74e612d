"""Tip-Adapter (arXiv 2207.09519, ECCV 2022; 2111.03930): CLIP's classifier with a cache of training videos.

logits_c = s · f·t_c + α · Σ_{i of class c} exp(-β (1 - f·k_i)), section 3.1, with the normalised features f
of a video, t_c of a class's texts (the mean of its prompts', normalised again) and k_i of the training
videos, and CLIP's scale s. In Tip-Adapter-F the keys k_i are trained from there (section 3.2).

Everything after a method takes scaled cosines of features. So here video features are (f, r/P · scores,
padding, 0) and class features (s · t_c, a · e_c, 0, padding), e_c one coordinate a training class: with
a = √(α s P) and r = √(α P / s) their product is the logits. The paddings give all videos one norm, √(1 + r²),
and all classes one, √(s² + a²), so that the scaled cosine is the product: the scale is s + α P. P is the
largest norm that a video's scores can have. A class without cached videos has no e_c: its text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from vidprompt.data.annotations.class_names import class_key
from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.encoder import PLAIN_NAMES
from vidprompt.models.text.prompts import PromptSet
from vidprompt.system.errors import UserError

GRID = (200, 20)  # values of beta and of alpha that are searched; from 0.1 on


class TipAdapter(VideoCLIP):
    """A cache of the training videos' features beside frozen CLIP's texts; nothing is trained.

    Until it is fitted it is frozen CLIP.

    Args:
        class_names: the training classes.
        alpha: the weight of the cache. The released configurations begin at 1.17 (ImageNet) to 10, that of
            UCF-101 at 3.
        beta: how sharp similarity to a cached video is; all released configurations begin at 1.
        search: (beta, alpha), up to which both are searched on held-out videos, as released ([7, 3] for
            UCF-101); None: they stay as they are.

    Raises UserError for values that are not above 0.
    """

    method = "tip_adapter"
    fits_features = True
    trains_keys = False

    def __init__(
        self,
        backbone: Backbone,
        num_frames: int,
        *,
        class_names: Sequence[str] = (),
        alpha: float = 3.0,
        beta: float = 1.0,
        search: Sequence[float] | None = None,
    ) -> None:
        super().__init__(backbone, num_frames, class_names=class_names)
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not value > 0:
                raise UserError(f"{name} is {value}; give a number above 0")
        if search is not None and (len(search) != 2 or min(search) <= 0.1):
            raise UserError(f"search is {list(search)}; give the largest beta and alpha, above 0.1")
        self.search = None if search is None else (float(search[0]), float(search[1]))
        self.columns = {class_key(name): i for i, name in enumerate(class_names)}
        self.keys: nn.Parameter
        self.labels: torch.Tensor
        self.alpha: torch.Tensor
        self.beta: torch.Tensor
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.register_buffer("beta", torch.tensor(float(beta)))
        self._set_cache(
            torch.zeros(0, self.image_tower.feature_width), torch.zeros(0, dtype=torch.long)
        )
        self._text: tuple[Any, torch.Tensor] | None = None  # of the last classes in training

    def _set_cache(self, keys: torch.Tensor, labels: torch.Tensor) -> None:
        """Keys (N, E) and their classes (N,)."""
        self.keys = nn.Parameter(keys, requires_grad=self.trains_keys)
        self.register_buffer("labels", labels)

    @property
    def fitted(self) -> bool:
        """True if there is a cache."""
        return len(self.keys) > 0

    # -- the cache ----------------------------------------------------------------------------

    def fit(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Cache the training videos: features (N, E), not normalised, and their classes (N,)."""
        device = self.keys.device
        keys = F.normalize(features.float(), dim=-1).to(device)
        self._set_cache(keys, labels.to(device=device, dtype=torch.long))

    def cache_scores(self, f: torch.Tensor) -> torch.Tensor:
        """Normalised features (B, E) → the sums of exp(-β (1 - f·k)) over each class's videos, (B, C)."""
        return self._by_class(torch.exp(-self.beta * (1 - f @ self.keys.to(f.dtype).T)))

    def _by_class(self, values: torch.Tensor) -> torch.Tensor:
        """Sums over each class's cached videos: (…, N) → (…, C)."""
        classes = torch.arange(len(self.columns), device=values.device)
        return values @ (self.labels[:, None] == classes).to(values.dtype)  # as ONNX has it, too

    def _largest_norm(self) -> torch.Tensor:
        """P: of the scores of any video, since f·k is at most the norm of k."""
        norms = self.keys.detach().float().norm(dim=-1)
        return self._by_class(torch.exp(self.beta * (norms - 1))).norm()

    @property
    def _clip_scale(self) -> torch.Tensor:
        """s, CLIP's own factor of cosine similarities; torch.export knows no property of `super()`."""
        scale: torch.Tensor = self.clip.logit_scale.exp().reshape(())
        return scale

    # -- features -----------------------------------------------------------------------------

    @property
    def feature_width(self) -> int:
        width = super().feature_width
        return width + len(self.columns) + 2 if self.fitted else width

    @property
    def logit_scale(self) -> torch.Tensor:
        """s + α P, see above; CLIP's s until there is a cache."""
        scale = self._clip_scale
        return scale + self.alpha * self._largest_norm() if self.fitted else scale

    def video_features(self, frames: torch.Tensor) -> torch.Tensor:
        """Frame features (B, T, E) → video features (B, E + C + 2), of one norm."""
        features = super().video_features(frames)
        if not self.fitted:
            return features
        with torch.autocast(features.device.type, enabled=False):
            f = F.normalize(features.float(), dim=-1)
            largest = self._largest_norm()
            r = (self.alpha * largest / self._clip_scale).sqrt()
            scores = self.cache_scores(f) * (r / largest)
            padding = (r.square() - scores.square().sum(-1, keepdim=True)).clamp_min(1e-12).sqrt()
            return torch.cat([f, scores, padding, torch.zeros_like(padding)], -1)

    def _class_features(
        self, text: torch.Tensor, names: Sequence[str] | None = None
    ) -> torch.Tensor:
        """Text features (n, E) → (n, E + C + 2), of one norm; without names, those of no cached class."""
        text = F.normalize(text.float(), dim=-1)
        scale = self._clip_scale
        weight = (self.alpha * scale * self._largest_norm()).sqrt()
        columns = [self.columns.get(class_key(name), -1) for name in names or [""] * len(text)]
        places = torch.tensor([len(self.columns) + 1 if c < 0 else c for c in columns])
        cached = F.one_hot(places, len(self.columns) + 2).to(text)
        return torch.cat([scale * text, weight * cached], -1)

    def encode_text(self, tokens: torch.Tensor, chunk: int | None = None) -> torch.Tensor:
        """Token ids → features (n, E + C + 2) of texts that are of no cached class."""
        text = super().encode_text(tokens, chunk)
        return self._class_features(text) if self.fitted else text

    def encode_classes(
        self,
        class_names: Sequence[str],
        prompts: PromptSet = PLAIN_NAMES,
        chunk: int | None = None,
    ) -> torch.Tensor:
        """Features of C classes, (C, 1, E + C' + 2): a class's prompts are one text feature, as published."""
        if not self.fitted:
            return super().encode_classes(class_names, prompts, chunk)
        text = self._class_texts(class_names, prompts, chunk)
        return self._class_features(text, class_names)[:, None]

    def _class_texts(
        self, names: Sequence[str], prompts: PromptSet, chunk: int | None
    ) -> torch.Tensor:
        """The mean of each class's normalised prompts, (C, E); kept in training, as texts do not change."""
        key = (tuple(prompts.texts(names)), self.device)
        if self._text is not None and self._text[0] == key:
            return self._text[1]
        encoded = super().encode_classes(names, prompts, chunk)
        text = F.normalize(encoded[..., : super().feature_width].float(), dim=-1).mean(1)
        self._text = (key, text) if self.training else None
        return text

    @property
    def text_is_fixed(self) -> bool:
        return not self.trains_keys

    # -- held-out videos, state ---------------------------------------------------------------

    @torch.no_grad()
    def choose_on_held_out(
        self,
        features: NDArray[np.float32],
        labels: NDArray[np.int64],
        class_names: Sequence[str],
        prompts: PromptSet,
    ) -> str:
        """Search α and β on held-out videos: features (N, views, E + C + 2), classes (N,) among names.

        The first pair with the most correct videos, as released (`search_hp` of utils.py), with a video's
        views averaged. Returns what was chosen, as a sentence; "" without `search`.
        """
        if self.search is None:
            return ""
        width, device = super().feature_width, self.device
        f = torch.from_numpy(features[..., :width]).to(device).mean(1)
        f = F.normalize(f, dim=-1)
        truth = torch.from_numpy(labels).to(device)
        text = F.normalize(self._class_texts(class_names, prompts, None), dim=-1)
        plain = self._clip_scale * f @ text.T
        found = [self.columns.get(class_key(name), -1) for name in class_names]
        columns = torch.tensor(found, device=device)
        best, chosen = -1, (float(self.beta), float(self.alpha))
        for b in _grid(self.search[0], GRID[0]):
            self.beta.fill_(b)
            scores = self.cache_scores(f)[:, columns] * (columns >= 0)
            for a in _grid(self.search[1], GRID[1]):
                correct = int(((plain + a * scores).argmax(1) == truth).sum())
                if correct > best:
                    best, chosen = correct, (b, a)
        self.beta.fill_(chosen[0])
        self.alpha.fill_(chosen[1])
        share = f"{best} of {len(truth)} held-out videos are right"
        return f"beta {chosen[0]:g} and alpha {chosen[1]:g} of {GRID[0]} × {GRID[1]}: {share}"

    def load_trained_state(self, state: dict[str, torch.Tensor]) -> None:
        """Load a `trained_state`, with a cache of any size. Raises KeyError on missing or unknown names."""
        if {"keys", "labels"} <= set(state):
            keys, labels = state["keys"], state["labels"]
            self._set_cache(torch.zeros_like(keys), torch.zeros_like(labels, dtype=torch.long))
        super().load_trained_state(state)


class TipAdapterF(TipAdapter):
    """Tip-Adapter-F: the keys of the cache are trained, from the training videos' features on."""

    method = "tip_adapter_f"
    trains_keys = True


def _grid(largest: float, count: int) -> list[float]:
    """`count` values from 0.1 to below `largest`, evenly spaced."""
    return [0.1 + i * (largest - 0.1) / count for i in range(count)]
