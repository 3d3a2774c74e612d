"""What all methods share: frames through a frozen ViT, text through a frozen transformer.

A method changes the two towers by overriding `vision_layers` and `text_layers`; embedding, pooling
and projection stay open_clip's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn

from vidprompt.models.backbone import Backbone, encode_embedded, text_width
from vidprompt.models.prompts import PromptSet, tokenize


class VideoCLIP(nn.Module):
    """A frozen CLIP applied to video: the mean over frames of the projected class tokens."""

    method = "frozen_clip"

    def __init__(self, backbone: Backbone, num_frames: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.clip = backbone.clip
        self.num_frames = num_frames
        self.clip.requires_grad_(False)
        visual = self.clip.visual
        self.vision_blocks: list[ResidualAttentionBlock] = list(visual.transformer.resblocks)
        self.text_blocks: list[ResidualAttentionBlock] = list(self.clip.transformer.resblocks)
        self.width = int(visual.class_embedding.shape[0])
        self.text_width = text_width(self.clip)

    @property
    def logit_scale(self) -> torch.Tensor:
        """exp(logit_scale): what cosine similarities are multiplied by, a scalar."""
        return self.clip.logit_scale.exp()

    def encode_video(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised frames (B, T, 3, H, W) → frame features (B, T, E), video features (B, E).

        Neither is L2-normalised; the video feature is the mean of the frame features.
        """
        b, t = video.shape[:2]
        tokens = self.embed_frames(video, self.time_code(t))
        tokens = self.vision_layers(tokens, b, t)
        visual = self.clip.visual
        pooled = visual.ln_post(tokens[:, 0])
        frames = (pooled @ visual.proj).reshape(b, t, -1)
        return frames, frames.mean(1)

    def time_code(self, t: int) -> torch.Tensor | None:
        """What is added to all tokens of each of T frames before `ln_pre`, (T, D); nothing here."""
        del t
        return None

    def embed_frames(self, video: torch.Tensor, time: torch.Tensor | None) -> torch.Tensor:
        """(B, T, 3, H, W) → tokens after `ln_pre`, (B·T, N, D), with `time` (T, D) added before."""
        visual = self.clip.visual
        if time is None:
            return visual._embeds(video.flatten(0, 1))

        def add_time(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
            tokens = inputs[0]
            shaped = tokens.reshape(-1, len(time), *tokens.shape[1:]) + time[None, :, None]
            return (shaped.reshape(tokens.shape),)

        handle = visual.ln_pre.register_forward_pre_hook(add_time)
        try:
            return visual._embeds(video.flatten(0, 1))
        finally:
            handle.remove()

    def vision_layers(self, tokens: torch.Tensor, b: int, t: int) -> torch.Tensor:
        """All vision blocks: (B·T, N, D) → (B·T, N, D)."""
        del b, t  # a method's own layers look across the frames of a video
        for block in self.vision_blocks:
            tokens = block(tokens)
        return tokens

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids (n, context) → text features (n, E), not normalised."""
        return self.encode_embedded(self.clip.token_embedding(tokens), tokens)

    def encode_embedded(self, embedded: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Text given as embeddings (n, context, W); `tokens` (n, context) tell where each one ends."""
        return encode_embedded(self.clip, embedded, tokens, self.text_layers)

    def text_layers(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """All text blocks: (n, length, W) → (n, length, W)."""
        for block in self.text_blocks:
            x = block(x, attn_mask=mask)
        return x

    def encode_classes(
        self, class_names: Sequence[str], prompts: PromptSet, chunk: int = 256
    ) -> torch.Tensor:
        """Text features of C classes in P prompts each, (C, P, E), not normalised."""
        texts = prompts.of(class_names)
        device = self.clip.positional_embedding.device
        tokens = tokenize(self.backbone.tokenizer, texts).to(device)
        features = torch.cat([self.encode_text(part) for part in tokens.split(chunk)])
        return features.reshape(len(class_names), len(prompts.templates), -1)

    def trained_state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps: everything that is not the backbone's, and what of it is trained."""
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        return {
            name: value
            for name, value in self.state_dict().items()
            if not name.startswith("clip.") or name in trained
        }

    def load_trained_state(self, state: dict[str, torch.Tensor]) -> None:
        """Undo `trained_state`. Raises KeyError on missing or unknown names."""
        expected = set(self.trained_state())
        if expected != set(state):
            raise KeyError(f"missing {expected - set(state)}, unknown {set(state) - expected}")
        self.load_state_dict(state, strict=False)
