"""A threshold for "none of these classes", from held-out videos whose classes are known.

Whether a video shows any of the classes is judged by its best cosine similarity to them, which depends less
on how many classes there are than the largest probability does. Each held-out video serves twice: with its
own class among the classes it is known, with its own class left out it is unknown. The threshold has the
largest balanced accuracy on both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidprompt.metrics.scores import unit_vectors
from vidprompt.system.errors import UserError

MIN_VIDEOS = 10


@dataclass(frozen=True)
class UnknownThreshold:
    """Videos whose best cosine similarity is below `cosine` show none of the classes.

    `known_kept` and `unknown_refused` are the shares, in [0, 1], of the `videos` held-out videos that are
    kept with their class among the classes, and refused without it.
    """

    cosine: float
    known_kept: float
    unknown_refused: float
    videos: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> UnknownThreshold:
        """From `to_dict`. Raises UserError for other keys."""
        try:
            return cls(**values)
        except TypeError as error:
            raise UserError(f"the threshold for unknown classes is not one: {error}") from error


def class_cosines(video: ArrayLike, text: ArrayLike) -> NDArray[np.float64]:
    """(N, C) cosine similarities of videos (N, V, E) and classes (C, P, E).

    A class's feature is the mean of its normalised prompts; similarities are averaged over the views.
    """
    views = unit_vectors(np.asarray(video, np.float32))
    classes = unit_vectors(unit_vectors(np.asarray(text, np.float32)).mean(axis=1))
    cosines: NDArray[np.float64] = (views @ classes.T).mean(axis=1)
    return cosines


def calibrate(cosines: ArrayLike, labels: ArrayLike) -> UnknownThreshold | None:
    """The threshold from cosine similarities (N, C) of held-out videos and their classes' numbers (N,).

    None for fewer than MIN_VIDEOS videos, or a single class.
    """
    values, own = np.array(cosines, np.float64), np.asarray(labels, np.int64)
    if len(values) < MIN_VIDEOS or values.shape[1] < 2:
        return None
    known = np.sort(values.max(axis=1))
    values[np.arange(len(values)), own] = -np.inf
    unknown = np.sort(values.max(axis=1))
    edges = np.unique(np.concatenate([known, unknown]))
    candidates = (edges[1:] + edges[:-1]) / 2 if len(edges) > 1 else edges
    kept = 1 - np.searchsorted(known, candidates) / len(known)
    refused = np.searchsorted(unknown, candidates) / len(unknown)
    best = int(np.argmax(kept + refused))
    return UnknownThreshold(
        cosine=round(float(candidates[best]), 6),
        known_kept=round(float(kept[best]), 4),
        unknown_refused=round(float(refused[best]), 4),
        videos=len(known),
    )
