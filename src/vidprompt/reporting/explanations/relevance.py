"""The relevance of a video's frames and places for a model: the roll-out of its views, put on the frames."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vidprompt.data.clips.reading import normalise
from vidprompt.data.frames.sampling import Numbers, Views
from vidprompt.models.explanation import explain
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.reporting.explanations.geometry import (
    FrameRelevance,
    crop_regions,
    frame_relevance,
)

Vector = NDArray[np.float32]


def explain_views(
    encoder: VideoCLIP,
    clips: torch.Tensor,
    numbers: Numbers,
    views: Views,
    frame_shape: tuple[int, int],
    text: Vector | None,
    device: torch.device | None = None,
) -> FrameRelevance:
    """The mean over the views of a video (`models.explanation`).

    Args:
        encoder: in evaluation mode.
        clips: (views, T, 3, S, S) in [0, 255], crops of a clip together.
        numbers: (clips, T), the frames of the clips.
        views: as which the clips were cut.
        frame_shape: height and width of the frames that they were cut from.
        text: (E,), whose similarity is explained, or None for the video's feature itself.

    The attention of one view at a time is in memory.
    """
    device = device or torch.device("cpu")
    feature = None if text is None else torch.from_numpy(text).to(device)
    backbone, tower = encoder.backbone, encoder.image_tower
    maps = []
    for clip in clips:
        frames = normalise(clip[None], backbone.mean, backbone.std, device)
        explained = explain(
            encoder.encode_video,
            encoder.prompt_relevance,
            frames,
            feature,
            tower.grid,
            tower.prefix,
        )
        maps.append(explained.spatial[0])
    regions = crop_regions(*frame_shape, clips.shape[-1], views)
    return frame_relevance(np.stack(maps), numbers, regions)


def mean_text(features: Vector) -> Vector:
    """One text feature of unit length (E,) from those of several prompts (P, E)."""
    mean = F.normalize(torch.from_numpy(features), dim=-1).mean(0)
    array: Vector = F.normalize(mean, dim=-1).numpy()
    return array
