"""Run a model over test videos, each view once."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader

from vidprompt.data.loading import TestClips, normalise
from vidprompt.models.video_clip import VideoCLIP
from vidprompt.progress import Progress


@torch.inference_mode()
def encode_videos(
    model: VideoCLIP,
    clips: TestClips,
    *,
    batch_size: int,
    device: torch.device,
    progress: Progress,
    workers: int = 0,
) -> torch.Tensor:
    """Features of every view, float32 (N, views, E), in the order of the videos, not normalised.

    Views are clips × crops. Of whole tracklets, whose numbers of clips differ, the mean over clips
    is kept: (N, 1, E).
    """
    model.eval().to(device)
    loader = DataLoader(
        clips,
        batch_size=batch_size,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    videos, crops = len(clips.rows), 1 if clips.whole else clips.views.crops
    views = 1 if clips.whole else clips.views.clips * crops
    parts: list[torch.Tensor] = []
    for frames in loader:  # (b, crops, T, 3, S, S)
        video = normalise(frames.flatten(0, 1), model.backbone.mean, model.backbone.std, device)
        parts.append(model.encode_video(video)[1].float().cpu())
        progress.advance(len(frames))
    features = torch.cat(parts)
    if not clips.whole:
        return features.reshape(videos, views, -1)
    owner = torch.from_numpy(clips.owner)
    total = torch.zeros(videos, features.shape[1]).index_add_(0, owner, features)
    return (total / torch.bincount(owner, minlength=videos)[:, None])[:, None]
