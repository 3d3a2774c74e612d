"""Attention roll-out of a video feature over frames and patches.

Roll-out (Abnar & Zuidema, arXiv 2005.00928): half of a token's relevance goes to its residual and half to
the tokens it attends to (mean over heads), multiplied through the layers. With a text, the attention is
weighted by its positive gradient of the similarity to that text (Chefer et al., arXiv 2103.15679). A method's
prompts hand their relevance on to the tokens they were computed from, so relevance also flows between frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from vidprompt.models.layers.attention import AttentionMaps

# Frames (B, T, 3, H, W) → frame features, video features (B, E); the list gets the maps of each layer.
EncodeVideo = Callable[
    [torch.Tensor, list[AttentionMaps] | None], tuple[torch.Tensor, torch.Tensor]
]
# `VideoCLIP.prompt_relevance`
PromptRelevance = Callable[[torch.Tensor, torch.Tensor | None, int], torch.Tensor]


@dataclass(frozen=True)
class Explanation:
    """Relevance of each frame and patch, all at least 0.

    temporal (B, T) sums to 1 over the frames; spatial (B, T, rows, columns) sums to the frame's value
    over its patches.
    """

    temporal: np.ndarray
    spatial: np.ndarray


def explain(
    encode_video: EncodeVideo,
    prompt_relevance: PromptRelevance,
    frames: torch.Tensor,
    text: torch.Tensor | None,
    grid: tuple[int, int],
    prefix: int,
) -> Explanation:
    """Roll-out of the video features of normalised frames (B, T, 3, H, W).

    `text` (E,) is the text feature whose similarity is explained, or None for the video feature itself;
    `grid` is the number of rows and columns of patches, `prefix` that of the tokens before them. Memory is
    that of all attention matrices: use one video or a few at a time.
    """
    maps: list[AttentionMaps] = []
    with torch.enable_grad():
        # the input requires a gradient so that the maps of a frozen model have one
        features = encode_video(frames.detach().clone().requires_grad_(), maps)[1]
        if text is not None:
            similarity = F.normalize(features, dim=-1) @ F.normalize(text, dim=-1)
            _weight_by_gradient(maps, similarity.sum())
    with torch.no_grad():
        b, t = frames.shape[:2]
        tokens = prefix + grid[0] * grid[1]
        relevance = _roll_out(prompt_relevance, maps, b, t, tokens, weighted=text is not None)
    relevance = relevance[:, :, prefix:]
    relevance = relevance / relevance.sum((1, 2), keepdim=True).clamp_min(1e-12)
    shares = relevance.float().cpu().numpy()
    return Explanation(shares.sum(-1), shares.reshape(b, t, *grid))


def _weight_by_gradient(maps: list[AttentionMaps], score: torch.Tensor) -> None:
    """Multiply each map by its gradient of the score, where that is positive."""
    keys = [(layer, name) for layer, layer_maps in enumerate(maps) for name in layer_maps]
    gradients = torch.autograd.grad(score, [maps[i][name] for i, name in keys], allow_unused=True)
    for (layer, name), gradient in zip(keys, gradients, strict=True):
        weights = maps[layer][name]
        maps[layer][name] = (
            torch.zeros_like(weights) if gradient is None else (weights * gradient).relu()
        )


def _roll_out(
    prompt_relevance: PromptRelevance,
    maps: list[AttentionMaps],
    b: int,
    t: int,
    n: int,
    *,
    weighted: bool,
) -> torch.Tensor:
    """Relevance of every token of the input, (B, T, n), from the last layer to the first."""
    # the video feature is the mean of the frames', each read from its class token or from all tokens
    if "pool" in maps[-1]:
        pool = maps[-1]["pool"].mean((1, 2)).unflatten(0, (b, t))  # of the last tokens
        relevance = F.pad(pool, (n - pool.shape[-1], 0)) / t
    else:
        relevance = maps[-1]["space"].new_zeros(b, t, n)
        relevance[:, :, 0] = 1 / t
    residual, attended = (1.0, 1.0) if weighted else (0.5, 0.5)
    for layer_maps in reversed(maps):
        # (B, T, queries, n + prompts); of prompts that are tokens too, outputs are not followed
        space = layer_maps["space"].mean(1).unflatten(0, (b, t))[:, :, :n]
        time = layer_maps["time"].mean(1) if "time" in layer_maps else None
        num_queries = space.shape[2]
        flow = torch.einsum("btq,btqk->btk", relevance[:, :, :num_queries], space)
        relevance = (
            residual * relevance
            + attended * flow[..., :n]
            + attended * prompt_relevance(flow[..., n:], time, n)
        )
    return relevance
