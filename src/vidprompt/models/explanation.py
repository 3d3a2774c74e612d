"""Where a video feature comes from: attention roll-out through space and time.

Roll-out (Abnar & Zuidema, arXiv 2005.00928): of a token, half comes from the residual and half from the
tokens it attends to, mean over heads, multiplied through the layers. With a text, the attention is weighted
by its positive gradient of the similarity (Chefer et al., arXiv 2103.15679): what speaks for that text. The
methods' own tokens pass on what they get, so relevance also flows between frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from vidprompt.models.layers.attention import Maps

if TYPE_CHECKING:
    from vidprompt.models.methods.video_clip import VideoCLIP


@dataclass(frozen=True)
class Explanation:
    """Shares of each frame and patch, all at least 0.

    temporal (B, T) sums to 1 over the frames; spatial (B, T, rows, columns) sums to a frame's share
    over its patches.
    """

    temporal: np.ndarray
    spatial: np.ndarray


def explain(model: VideoCLIP, frames: torch.Tensor, text: str | None = None) -> Explanation:
    """Roll-out of `model` on normalised frames (B, T, 3, H, W), or (T, 3, H, W) of one video.

    Dropout is off meanwhile. Memory is that of all attention matrices: one video or a few at a time.
    """
    video = frames[None] if frames.ndim == 4 else frames
    maps: list[Maps] = []
    training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            # so that the maps of a frozen model have gradients as well
            source = video.detach().clone().requires_grad_()
            features = model.encode_video(source, maps)[1]
            if text is not None:
                with torch.no_grad():
                    meant = F.normalize(model.encode_texts([text])[0], dim=-1)
                _weigh(maps, (F.normalize(features, dim=-1) @ meant).sum())
    finally:
        model.train(training)
    with torch.no_grad():
        relevance = _roll_out(model, maps, *video.shape[:2], gradients=text is not None)
    relevance = relevance / relevance.sum((1, 2), keepdim=True).clamp_min(1e-12)
    shares = relevance.float().cpu().numpy()
    rows, columns = model.clip.visual.grid_size
    return Explanation(shares.sum(-1), shares.reshape(*shares.shape[:2], rows, columns))


def _weigh(maps: list[Maps], score: torch.Tensor) -> None:
    """Each map times its gradient of the score, where that is positive."""
    places = [(layer, name) for layer, seen in enumerate(maps) for name in seen]
    gradients = torch.autograd.grad(score, [maps[i][name] for i, name in places], allow_unused=True)
    for (layer, name), gradient in zip(places, gradients, strict=True):
        seen = maps[layer][name]
        maps[layer][name] = torch.zeros_like(seen) if gradient is None else (seen * gradient).relu()


def _roll_out(
    model: VideoCLIP, maps: list[Maps], b: int, t: int, *, gradients: bool
) -> torch.Tensor:
    """Relevance of every patch of the input, (B, T, N - 1), from the last layer to the first."""
    space = maps[-1]["space"]
    n = len(model.clip.visual.positional_embedding)
    relevance = space.new_zeros(b, t, n)
    relevance[:, :, 0] = 1 / t  # the video feature is the mean of the frames' class tokens
    residual, attended = (1.0, 1.0) if gradients else (0.5, 0.5)
    for seen in reversed(maps):
        space = seen["space"].mean(1).unflatten(0, (b, t))  # (B, T, asking, N + extra)
        time = seen["time"].mean(1) if "time" in seen else None
        asking = space.shape[2]
        passed = torch.einsum("btq,btqk->btk", relevance[:, :, :asking], space)
        relevance = (
            residual * relevance
            + attended * passed[..., :n]
            + attended * model.sources(passed[..., n:], time, n)
        )
    return relevance[:, :, 1:]
