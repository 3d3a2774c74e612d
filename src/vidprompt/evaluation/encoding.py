"""Run a model over test videos, each once."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader

from vidprompt.data.loading import Clips, normalise
from vidprompt.models.video_clip import VideoCLIP
from vidprompt.progress import Progress


@torch.inference_mode()
def encode_videos(
    model: VideoCLIP, clips: Clips, *, batch_size: int, device: torch.device, progress: Progress
) -> torch.Tensor:
    """Video features (N, 1, E) of the centre view of every clip, in order, not normalised."""
    model.eval().to(device)
    parts = []
    for frames, _ in DataLoader(clips, batch_size=batch_size):
        video = normalise(frames, model.backbone.mean, model.backbone.std, device)
        parts.append(model.encode_video(video)[1].float().cpu())
        progress.advance(len(frames))
    return torch.cat(parts)[:, None]
