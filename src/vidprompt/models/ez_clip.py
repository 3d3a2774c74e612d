"""EZ-CLIP (arXiv 2312.08010; TMLR 2025 as "T2L"): temporal visual prompts and adapters.

Per vision layer, one prompt token a frame looks at the whole video (through the layer's own frozen
attention, across time) and then joins its frame's tokens for the spatial attention; an adapter with a
skip of its own follows the attention in both towers.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from vidprompt.models.backbone import Backbone
from vidprompt.models.stochastic_depth import DropPath
from vidprompt.models.time_code import check_start, ramp
from vidprompt.models.video_clip import VideoCLIP


class Adapter(nn.Module):
    """x + W2·GELU(W1·x); W2 starts at zero, so it starts as the identity. (…, D) → (…, D)."""

    def __init__(self, width: int, ratio: float = 0.25) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.down = nn.Linear(width, hidden)
        self.up = nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.up(nn.functional.gelu(self.down(x)))


class EZCLIP(VideoCLIP):
    """EZ-CLIP on any open_clip ViT.

    Args:
        num_frames: T; the prompts are learned for this many frames.
        prompt_dropout: on the temporal prompts (0.1 as released).
        prompt_start: "released" (uniform) or "ramp" (see time_code).
        prompt_scale: factor of the uniform start's bound, or deviation of the ramp.
        stochastic_depth: rate in the last layer; rises linearly from 0 in the first. Attention
            dropout follows the same rates (released: 0.1).
    """

    method = "ez_clip"

    def __init__(
        self,
        backbone: Backbone,
        num_frames: int,
        *,
        prompt_dropout: float = 0.1,
        prompt_start: str = "released",
        prompt_scale: float = 1.0,
        stochastic_depth: float = 0.1,
        adapter_ratio: float = 0.25,
    ) -> None:
        super().__init__(backbone, num_frames)
        layers = len(self.vision_blocks)
        patch = self.clip.visual.conv1.kernel_size
        check_start(prompt_start)
        bound = prompt_scale * math.sqrt(6.0 / (3 * patch[0] * patch[1] + self.width))
        start = torch.empty(layers, num_frames, self.width).uniform_(-bound, bound)
        if prompt_start == "ramp":
            start = ramp(layers, num_frames, self.width, prompt_scale)
        self.temporal_prompts = nn.Parameter(start)
        # In the published checkpoints, and zero there: kept, and never trained.
        self.temporal_embedding: torch.Tensor
        self.register_buffer("temporal_embedding", torch.zeros(1, num_frames, self.width))
        self.vision_adapters = nn.ModuleList(
            Adapter(self.width, adapter_ratio) for _ in self.vision_blocks
        )
        self.text_adapters = nn.ModuleList(
            Adapter(self.text_width, adapter_ratio) for _ in self.text_blocks
        )
        self.prompt_dropout = nn.Dropout(prompt_dropout)
        rates = torch.linspace(0, stochastic_depth, layers).tolist()
        self.drop_path = nn.ModuleList(DropPath(rate) for rate in rates)
        for block, rate in zip(self.vision_blocks, rates, strict=True):
            block.attn.dropout = rate

    def time_code(self, t: int) -> torch.Tensor:
        """The temporal embedding: zero, unless a checkpoint brings another."""
        return self.temporal_embedding[0, :t]

    def vision_layers(self, tokens: torch.Tensor, b: int, t: int) -> torch.Tensor:
        count = tokens.shape[1]
        for layer, block in enumerate(self.vision_blocks):
            drop_path, adapter = self.drop_path[layer], self.vision_adapters[layer]
            # 1-2: a prompt a frame, attending across the frames of its video; no residual
            prompt = self.prompt_dropout(self.temporal_prompts[layer])
            prompt = prompt + tokens.mean(1).reshape(b, t, -1)
            prompt = drop_path(block.ls_1(block.attention(block.ln_1(prompt))))
            # 3: spatial attention with the prompt as one more token, which is then dropped
            joint = torch.cat([tokens, prompt.reshape(b * t, 1, -1)], 1)
            attended = block.ls_1(block.attention(block.ln_1(joint)))[:, :count]
            tokens = adapter(tokens + drop_path(attended))
            tokens = tokens + drop_path(block.ls_2(block.mlp(block.ln_2(tokens))))
        return tokens

    def text_layers(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        for block, adapter in zip(self.text_blocks, self.text_adapters, strict=True):
            x = adapter(x + block.ls_1(block.attention(block.ln_1(x), attn_mask=mask)))
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
        return x
