"""A look at videos while a model is trained: what a checkpoint may be chosen by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from vidprompt.data.clips.loading import TestClips
from vidprompt.inference.encoding import encode_videos
from vidprompt.metrics.classification import Mode, class_probabilities, top1
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import PromptSet
from vidprompt.system.progress import Progress

BATCH = 64  # clips encoded at once
NewClips = Callable[[Sequence[str]], TestClips]  # clips of these videos


class Look:
    """Top-1 among `classes` of some videos; without classes (re-identification), their retrieval.

    Under several processes each encodes its share of the videos and all get the same number.
    """

    def __init__(
        self,
        model: VideoCLIP,
        clips: NewClips,
        videos: Sequence[str],
        labels: Sequence[int],
        *,
        classes: Sequence[str] | None,
        prompts: PromptSet,
        ensemble: Mode,
        rank: int = 0,
        count: int = 1,
    ) -> None:
        self.model, self.classes, self.prompts, self.ensemble = model, classes, prompts, ensemble
        self.labels = np.asarray(labels, np.int64)
        self.shares = [list(range(first, len(videos), count)) for first in range(count)]
        own = [videos[i] for i in self.shares[rank]]
        self.clips = clips(own) if own else None
        self.count = count

    @torch.inference_mode()
    def __call__(self) -> float:
        """In [0, 1]; the model is left in evaluation mode."""
        self.model.eval()
        features = self._features()
        if self.classes is None:
            return retrieval_among(features, self.labels)
        text = self.model.encode_classes(self.classes, self.prompts).float().cpu().numpy()
        scale = float(self.model.logit_scale)
        scores = class_probabilities(features, text, scale, self.ensemble)
        return top1(scores, self.labels)

    def _features(self) -> np.ndarray:
        """(N, views, E), in the order of the videos."""
        device = self.model.clip.positional_embedding.device
        own = None
        if self.clips is not None:
            quiet = Progress("held out", len(self.clips), quiet=True)
            encoded = encode_videos(
                self.model, self.clips, batch_size=BATCH, device=device, progress=quiet
            )
            own = np.asarray(encoded)
        found: list[np.ndarray | None] = [own]
        if self.count > 1:
            found = [None] * self.count
            dist.all_gather_object(found, own)
        pairs = zip(self.shares, found, strict=True)
        parts = [(rows, part) for rows, part in pairs if part is not None]
        whole = np.empty((len(self.labels), *parts[0][1].shape[1:]), np.float32)
        for rows, part in parts:
            whole[rows] = part
        return whole


def retrieval_among(features: np.ndarray, labels: np.ndarray) -> float:
    """Mean average precision of each tracklet against all the others, whoever films and whatever is worn.

    features (N, views, E), labels (N,). Tracklets of a person who has no other ask nothing; 0 where
    nobody has two.
    """
    unit = F.normalize(torch.from_numpy(features).mean(1), dim=-1)
    similarity = (unit @ unit.T).fill_diagonal_(-torch.inf).numpy()
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :-1]
    hits = labels[order] == labels[:, None]
    asked = hits.any(1)
    if not asked.any():
        return 0.0
    precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
    found = (precision * hits).sum(1)[asked] / hits.sum(1)[asked]
    return float(found.mean())
