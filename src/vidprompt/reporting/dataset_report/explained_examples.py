"""Heat maps for the examples of the page of a dataset: what a model's answers follow from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidprompt.data.clips.testing import TestClips
from vidprompt.data.frames.cache import FrameCache
from vidprompt.data.frames.sampling import Views
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.reporting.dataset_report import frame_strips
from vidprompt.reporting.explanations.geometry import FrameRelevance
from vidprompt.reporting.explanations.heat_map import (
    draw_heat_map,
    end_label,
    multiples,
    scale_end,
)
from vidprompt.reporting.explanations.relevance import Vector, explain_views
from vidprompt.system.errors import DataError


@dataclass(frozen=True)
class ExampleModel:
    """A model whose answers are explained, with the features of its classes' texts (unit length, (E,))."""

    encoder: VideoCLIP
    views: Views
    texts: Mapping[str, Vector]


@dataclass(frozen=True)
class ExplainedFrames:
    """Heat maps of a class, in the pictures of a strip.

    `shares`: of each picture's frames, in parts of the largest, with the words for it.
    """

    label: str
    pictures: list[frame_strips.Picture]
    shares: list[list[tuple[float, str]]]


@dataclass(frozen=True)
class ExplainedStrip:
    """The frames of a video that a model looked at, and the heat maps of classes, on one scale."""

    pictures: list[frame_strips.Picture]
    maps: list[ExplainedFrames]
    end: str


def explained_strip(
    cache: FrameCache,
    model: ExampleModel,
    video_id: str,
    labels: Sequence[str],
    frames: int,
    num_pictures: int,
) -> ExplainedStrip | None:
    """At most `frames` of the frames, evenly chosen, with the heat maps of some classes.

    None for a video, or a frame, that is not cached, and without a class that has a text.
    """
    labels = [label for label in dict.fromkeys(labels) if label in model.texts]
    if video_id not in cache or not labels:
        return None
    size = model.encoder.backbone.image_size
    options: dict[str, Any] = {"num_frames": model.encoder.num_frames, "size": size}
    try:
        clips = TestClips(cache.path, [video_id], views=model.views, **options)
        views = [clips[item] for item in range(len(clips))]
        n_frames = cache.num_source_frames(video_id)
        numbers = model.views.frames(n_frames, model.encoder.num_frames, video_id)
        shown = cache.read(video_id, cache.positions(video_id, np.unique(numbers)))
    except DataError:
        return None
    import torch

    found = [
        explain_views(
            model.encoder,
            torch.cat(views),
            numbers,
            model.views,
            (shown.shape[1], shown.shape[2]),
            model.texts[label],
        )
        for label in labels
    ]
    cells = [multiples(one.spatial) for one in found]
    end = scale_end(cells)
    chosen = np.unique(np.linspace(0, len(shown) - 1, min(frames, len(shown))).round().astype(int))
    largest = max(float(one.temporal.max()) for one in found)
    maps = [
        ExplainedFrames(
            label,
            frame_strips.pictures_of(
                [draw_heat_map(shown[k], cell[k], one.region, end) for k in chosen], num_pictures
            ),
            _shares(one, chosen.tolist(), largest, num_pictures),
        )
        for label, one, cell in zip(labels, found, cells, strict=True)
    ]
    pictures = frame_strips.pictures_of([shown[k] for k in chosen], num_pictures)
    return ExplainedStrip(pictures, maps, end_label(cells, end))


def _shares(
    relevance: FrameRelevance, chosen: list[int], largest: float, num_pictures: int
) -> list[list[tuple[float, str]]]:
    """For each picture, of each of its frames: its share in parts of the largest, and what to say of it."""
    bars = [
        (
            float(relevance.temporal[k]) / largest,
            f"frame {relevance.numbers[k]}: {relevance.temporal[k]:.1%} of the relevance",
        )
        for k in chosen
    ]
    size = -(-len(bars) // num_pictures)
    return [bars[start : start + size] for start in range(0, len(bars), size)]
