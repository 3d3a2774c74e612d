"""Text half of a model: texts and class names → features of CLIP's text tower."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from vidprompt.models.backbones.interface import TextTower
from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.layers.stochastic_depth import LayerDraws
from vidprompt.models.text.context import EmbedRows, LearnedContext
from vidprompt.models.text.prompts import PromptSet, tokenize, tokenize_classes
from vidprompt.models.text.tower import encode_embedded, group_by_length, no_change
from vidprompt.system.suggestions import first_names

PLAIN_NAMES = PromptSet(("{}",))
# Texts encoded at once. Few on a CPU, whose caches they fit; on a GPU each chunk is some hundred launches.
CPU_CHUNK, GPU_CHUNK = 64, 1024


class TextEncoder(nn.Module):
    """Encodes texts with CLIP's text tower, and classes with prompts or a learned context.

    A method overrides `after_text_attention`, `before_text_layer`, and `text_draws` and `drops_text` where it
    drops something.
    """

    backbone: Backbone
    clip: Any  # open_clip's CLIP or CustomTextCLIP
    text_tower: TextTower
    context: LearnedContext | None
    recompute: str  # "nothing", or what of the activations is recomputed

    @property
    def device(self) -> torch.device:
        """The device of the backbone."""
        device: torch.device = self.clip.logit_scale.device
        return device

    def encode_text(self, tokens: torch.Tensor, chunk: int | None = None) -> torch.Tensor:
        """Token ids (n, up to context) → text features (n, E), not normalised.

        Of tokens on the CPU those that no feature depends on are cut off.
        """
        tower = self.text_tower
        ends = tower.read_at(tokens)
        if tokens.device.type == "cpu":
            tokens = tokens[:, : tower.needed_length(ends)].to(self.device, non_blocking=True)
        return self.encode_in_chunks(lambda rows: tower.embed(tokens[rows]), ends, chunk)

    def encode_embedded(
        self,
        embedded: torch.Tensor,
        ends: torch.Tensor,
        draws: Sequence[LayerDraws] = (),
        *,
        in_context: bool = False,
    ) -> torch.Tensor:
        """Token embeddings (n, length, W), read at `ends` (n,) → text features (n, E).

        `draws` of each layer are what is dropped, with factors (n, positions, 1); `in_context`: these are
        class names in the learned context.
        """
        before = self.before_text_layer if in_context else no_change
        tower, after = self.text_tower, self.after_text_attention
        return encode_embedded(tower, embedded, ends, after, draws, before)

    @property
    def drops_text(self) -> bool:
        """True if something is dropped at random in the text tower, as long as the model is training."""
        return False

    def text_draws(self, n: int) -> list[LayerDraws]:
        """What is dropped in training in each text layer, of n texts; [] = nothing."""
        del n
        return []

    def after_text_attention(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        """The method's change to the text tokens (…, W) after the attention of a layer."""
        del layer
        return x

    def before_text_layer(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        """The method's change to the tokens (n, length, W) of a class name in the learned context."""
        del layer
        return x

    def encode_in_chunks(
        self,
        embed: EmbedRows,
        ends: torch.Tensor,
        chunk: int | None = None,
        *,
        in_context: bool = False,
    ) -> torch.Tensor:
        """Features (n, E) of n texts, at most `chunk` at once (default: CPU_CHUNK or GPU_CHUNK).

        `embed(rows)` gives the token embeddings (len(rows), length, W) of some rows; `ends` (n,) is where
        each text is read. If it is on the CPU, texts of like length are encoded together, unless a GPU takes
        all at once: to sort few would cost more than it saves. With `recompute` the activations of a chunk
        are recomputed. What is dropped in training is drawn once for all chunks. `in_context` as in
        `encode_embedded`.
        """
        recompute = self.recompute != "nothing" and torch.is_grad_enabled()
        device = self.device
        chunk = chunk or (CPU_CHUNK if device.type == "cpu" else GPU_CHUNK)
        groups = self._groups(ends, chunk, device)
        lengths: list[int | None] = [None] * len(groups)
        if ends.device.type == "cpu":
            lengths = [self.text_tower.needed_length(ends[group]) for group in groups]
            ends = ends.to(device, non_blocking=True)
        draws = self.text_draws(len(ends)) if self.training else []
        drops = self.training and self.drops_text
        positions, features = self.text_tower.context_length, []
        for group, length in zip(groups, lengths, strict=True):
            rows = torch.tensor(group).to(device, non_blocking=True)
            drawn = [layer.of_texts(rows, len(ends), positions) for layer in draws]

            def encode(
                rows: torch.Tensor = rows,
                drawn: Sequence[LayerDraws] = drawn,
                length: int | None = length,
            ) -> torch.Tensor:
                embedded = embed(rows)[:, :length]
                return self.encode_embedded(embedded, ends[rows], drawn, in_context=in_context)

            if recompute:
                features.append(checkpoint(encode, use_reentrant=False, preserve_rng_state=drops))
            else:
                features.append(encode())
        if len(features) == 1 and groups[0] == sorted(groups[0]):
            return features[0]
        order = torch.tensor([row for group in groups for row in group]).argsort()
        return torch.cat(features)[order.to(device, non_blocking=True)]

    @staticmethod
    def _groups(ends: torch.Tensor, chunk: int, device: torch.device) -> list[list[int]]:
        """The rows that are encoded together."""
        if ends.device.type == "cpu" and (device.type == "cpu" or len(ends) > chunk):
            return group_by_length(ends.tolist(), chunk)
        rows = range(len(ends))
        return [list(rows[start : start + chunk]) for start in range(0, len(ends), chunk)]

    def encode_texts(self, texts: Sequence[str], chunk: int | None = None) -> torch.Tensor:
        """Features (n, E) of texts, not normalised. A text that is too long is cut, with a warning."""
        return self.encode_text(tokenize(self.backbone.tokenizer, texts), chunk)

    def encode_classes(
        self,
        class_names: Sequence[str],
        prompts: PromptSet = PLAIN_NAMES,
        chunk: int | None = None,
    ) -> torch.Tensor:
        """Text features of C classes with P prompts each, (C, P, E), not normalised.

        A learned context that covers all of these classes replaces the prompts (P = 1). If a
        class-specific one does not cover them all, all get plain class names. Raises UserError for two
        classes with the same texts.
        """
        if self.context is not None:
            if self.context.covers(class_names):
                self.context.check_distinct(class_names)
                embed, ends = self.context.prompts(class_names)
                return self.encode_in_chunks(embed, ends, chunk, in_context=True)[:, None]
            missing = self.context.missing(class_names)
            if len(missing) < len(class_names):
                warnings.warn(
                    f"{len(missing)} of {len(class_names)} classes have no learned context "
                    f"({first_names(missing, 3)}): all get plain class names",
                    stacklevel=2,
                )
            prompts = PromptSet(("{}",), clean_names=self.context.clean_names)
        tokens = tokenize_classes(self.backbone.tokenizer, prompts, class_names)
        features = self.encode_text(tokens, chunk)
        return features.reshape(len(class_names), prompts.per_class, -1)

    @property
    def text_is_fixed(self) -> bool:
        """True if training does not change the text features of given prompts."""
        return self.context is None
