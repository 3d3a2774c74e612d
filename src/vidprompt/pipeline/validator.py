"""Score a model on held-out or test videos while it is trained; a checkpoint may be chosen by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.distributed as dist

from vidprompt.data.clips.testing import TestClips
from vidprompt.inference.encoding import MIN_CLIPS_FOR_WORKERS, encode_videos
from vidprompt.metrics.classification import top_k_accuracy
from vidprompt.metrics.retrieval import RetrievalSet, evaluate_retrieval
from vidprompt.metrics.scores import Ensemble, class_probabilities
from vidprompt.metrics.unknown import UnknownThreshold, calibrate, class_cosines
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import PromptSet
from vidprompt.system.progress import Progress

BATCH = 64  # clips encoded at once
ClipsOf = Callable[[Sequence[str]], TestClips]  # video ids → their clips


class Validator:
    """Top-1 in [0, 1] of the videos among `classes`, scored as in evaluation.

    Without classes (re-identification), the mean average precision of their retrieval. Under several
    processes each encodes its share of the videos, and all return the same number. `workers`: processes that
    load many clips.
    """

    def __init__(
        self,
        model: VideoCLIP,
        clips: ClipsOf,
        videos: Sequence[str],
        labels: Sequence[int],
        *,
        classes: Sequence[str] | None,
        prompts: PromptSet,
        ensemble: Ensemble,
        workers: int = 0,
        rank: int = 0,
        count: int = 1,
    ) -> None:
        self.model, self.classes, self.prompts, self.ensemble = model, classes, prompts, ensemble
        self.labels = np.asarray(labels, np.int64)
        self.shares = [list(range(first, len(videos), count)) for first in range(count)]
        own = [videos[i] for i in self.shares[rank]]
        self.clips = clips(own) if own else None
        self.count = count
        many = self.clips is not None and len(self.clips) >= MIN_CLIPS_FOR_WORKERS
        self.workers = workers if many else 0

    @torch.inference_mode()
    def evaluate(self) -> float:
        """The score of the model as it is now; the model is left in evaluation mode."""
        self.model.eval()
        features = self._features()
        if self.classes is None:
            return retrieval_map(features, self.labels)
        scale = float(self.model.logit_scale)
        scores = class_probabilities(features, self._text(), scale, self.ensemble)
        return top_k_accuracy(scores, self.labels)

    @torch.inference_mode()
    def unknown_threshold(self) -> UnknownThreshold | None:
        """The threshold for "none of the classes" of the model as it is now; None where there is none."""
        if self.classes is None:
            return None
        self.model.eval()
        return calibrate(class_cosines(self._features(), self._text()), self.labels)

    @torch.no_grad()
    def choose(self) -> str:
        """Let the method set its numbers by these videos; what it chose, or ""."""
        if self.classes is None:
            return ""
        self.model.eval()
        return self.model.choose_on_held_out(
            self._features(), self.labels, self.classes, self.prompts
        )

    def _text(self) -> np.ndarray:
        """(C, P, E)."""
        assert self.classes is not None
        return self.model.encode_classes(self.classes, self.prompts).float().cpu().numpy()

    def _features(self) -> np.ndarray:
        """(N, views, E), in the order of the videos."""
        device = self.model.device
        own = None
        if self.clips is not None:
            quiet = Progress("held out", len(self.clips), quiet=True)
            own = encode_videos(
                self.model,
                self.clips,
                batch_size=BATCH,
                device=device,
                progress=quiet,
                workers=self.workers,
            )
        gathered: list[np.ndarray | None] = [own]
        if self.count > 1:
            gathered = [None] * self.count
            dist.all_gather_object(gathered, own)
        pairs = zip(self.shares, gathered, strict=True)
        parts = [(rows, part) for rows, part in pairs if part is not None]
        features = np.empty((len(self.labels), *parts[0][1].shape[1:]), np.float32)
        for rows, part in parts:
            features[rows] = part
        return features


def retrieval_map(features: np.ndarray, labels: np.ndarray) -> float:
    """Mean average precision in [0, 1] of each tracklet against all the others.

    features (N, views, E), labels (N,): persons. Cameras and clothes are ignored. A tracklet whose
    person has no other is not a query; 0 where nobody has two.
    """
    n = len(labels)
    # with a camera of its own, a tracklet is removed from its own ranking and from no other
    tracklets = RetrievalSet(labels, np.arange(n), np.zeros(n, np.int64))
    of_videos = features.mean(1)
    result = evaluate_retrieval(of_videos, of_videos, tracklets, tracklets, "general")
    return result.mean_ap if result.evaluated else 0.0
