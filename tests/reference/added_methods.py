"""Plain second computations of CLIP-LoRA, ViFi-CLIP's second stage and Tip-Adapter, for tests.

Written from the papers' formulas: every token is a query in every layer, prompts are tokens of the sequence,
texts are padded to the context length, and Tip-Adapter is a loop over videos and classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Layer = Callable[[Any, torch.Tensor, torch.Tensor | None, int], torch.Tensor]


def attention(
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    heads: int,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Heads' outputs of queries, keys and values of all tokens, (n, length, D)."""
    q, k, v = (
        F.linear(x, weight, bias).unflatten(-1, (heads, -1)).transpose(1, 2)
        for weight, bias in zip(weights, biases, strict=True)
    )
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores + mask
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def plain_layer(
    block: Any,
    x: torch.Tensor,
    mask: torch.Tensor | None,
    deltas: Sequence[torch.Tensor] | None = None,
) -> torch.Tensor:
    """open_clip's residual attention block; `deltas` are added to the weights of queries, keys, values."""
    attn = block.attn
    weights, biases = attn.in_proj_weight.chunk(3), attn.in_proj_bias.chunk(3)
    if deltas is not None:
        weights = tuple(w + d for w, d in zip(weights, deltas, strict=True))
    heads = attention(block.ln_1(x), weights, biases, attn.num_heads, mask)
    x = x + F.linear(heads, attn.out_proj.weight, attn.out_proj.bias)
    return x + block.mlp(block.ln_2(x))


def images(
    clip: Any,
    frames: torch.Tensor,
    prompts: torch.Tensor | None = None,
    deltas: Sequence[Sequence[torch.Tensor]] = (),
) -> torch.Tensor:
    """Image features (n, E); `prompts` (depth, G, D) are tokens of the first `depth` layers."""
    tower = clip.visual
    x = tower.conv1(frames).flatten(2).transpose(1, 2)
    x = torch.cat([tower.class_embedding.expand(len(x), 1, -1), x], 1) + tower.positional_embedding
    n = x.shape[1]
    if prompts is not None:
        x = torch.cat([x, prompts[0].expand(len(x), -1, -1)], 1)
    x = tower.ln_pre(x)
    for layer, block in enumerate(tower.transformer.resblocks):
        if prompts is not None and 0 < layer < len(prompts):
            x = torch.cat([x[:, :n], prompts[layer].expand(len(x), -1, -1)], 1)
        x = plain_layer(block, x, None, deltas[layer] if deltas else None)
    return tower.ln_post(x[:, 0]) @ tower.proj


def texts(
    clip: Any,
    embedded: torch.Tensor,
    ends: torch.Tensor,
    prompts: torch.Tensor | None = None,
    deltas: Sequence[Sequence[torch.Tensor]] = (),
) -> torch.Tensor:
    """Text features (n, E) of token embeddings (n, context length, W), read at `ends`.

    `prompts` (depth - 1, M, W) take the place of the M tokens after the first in layers 1 … depth - 1.
    """
    x = embedded + clip.positional_embedding
    mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
    for layer, block in enumerate(clip.transformer.resblocks):
        if prompts is not None and 0 < layer <= len(prompts):
            vectors = prompts[layer - 1].expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], vectors, x[:, 1 + vectors.shape[1] :]], 1)
        x = plain_layer(block, x, mask, deltas[layer] if deltas else None)
    x = clip.ln_final(x)
    return x[torch.arange(len(x)), ends] @ clip.text_projection


def lora_deltas(state: Mapping[str, torch.Tensor], layer: str, alpha: float) -> list[torch.Tensor]:
    """alpha / √rank · B·A of queries, keys and values of a layer."""
    a = state[f"{layer}.attn.parametrizations.in_proj_weight.0.lora_A"]
    b = state[f"{layer}.attn.parametrizations.in_proj_weight.0.lora_B"]
    rank = b.shape[1]
    pairs = zip(a.split(rank), b.chunk(3), strict=True)
    return [alpha / math.sqrt(rank) * second @ first for first, second in pairs]


def tip_adapter_logits(
    videos: np.ndarray,
    text: np.ndarray,
    keys: np.ndarray,
    labels: Sequence[int],
    columns: Sequence[int | None],
    *,
    alpha: float,
    beta: float,
    scale: float,
) -> np.ndarray:
    """s · f·t_c + α · Σ exp(-β (1 - f·k)): videos (B, E), texts (C, P, E), keys (N, E) → (B, C).

    `columns` says which training class each of the C classes is; None: none.
    """
    out = np.zeros((len(videos), len(text)))
    for i, video in enumerate(videos.astype(np.float64)):
        f = video / np.linalg.norm(video)
        for c, prompts in enumerate(text.astype(np.float64)):
            mean = np.mean([one / np.linalg.norm(one) for one in prompts], axis=0)
            out[i, c] = scale * f @ (mean / np.linalg.norm(mean))
            for key, label in zip(keys.astype(np.float64), labels, strict=True):
                if columns[c] == label:
                    out[i, c] += alpha * math.exp(-beta * (1 - f @ key))
    return out
