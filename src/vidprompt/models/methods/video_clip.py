"""What all methods share: frames through a frozen ViT, text through a frozen transformer.

A method says what it adds to a tower: a code of time, tokens that the others may look at
(`extra_keys`), and a change after the attention. The tower itself stays open_clip's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import nn
from torch.utils.checkpoint import checkpoint

from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.explanation import Explanation, explain
from vidprompt.models.layers.attention import Maps, mix, mlp, project
from vidprompt.models.layers.stochastic_depth import drop_path
from vidprompt.models.text.context import LearnedContext
from vidprompt.models.text.prompts import PromptSet, tokenize
from vidprompt.models.text.tower import by_length, encode_embedded, text_ends, text_width
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice

RECOMPUTE = ("nothing", "mlp", "layer")
PLAIN_NAMES = PromptSet(("{}",))


def logits(video: torch.Tensor, text: torch.Tensor, scale: torch.Tensor | float) -> torch.Tensor:
    """Scaled cosine similarities: video features (B, E), text features (C, E) → logits (B, C).

    Features need not be normalised; `scale` is the factor of the cosines (100 in CLIP), not its
    logarithm. Text features (C, P, E) of P prompts a class become one a class: the mean of the
    normalised ones. The other ensemble (a softmax for each prompt) and exact scores for evaluation are
    in `metrics.scores`. In float32 under autocast too: the scale would turn the rounding of half
    precision into tenths of a logit.
    """
    with torch.autocast(video.device.type, enabled=False):
        video, text = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (video, text))
        if text.ndim == 3:
            text = F.normalize(text, dim=-1).mean(1)
        return scale * F.normalize(video, dim=-1) @ F.normalize(text, dim=-1).T


class VideoCLIP(nn.Module):
    """A frozen CLIP applied to video: the mean over frames of the projected class tokens.

    Args:
        backbone: never changed, so several models can share one.
        num_frames: T.
        class_names: annotated names of the training classes, for a context of each.
        context: "none", "class" (a learned context a class; other classes use plain names) or
            "shared" (one for all).
        context_length: M vectors.
        context_position: where the class name stands: "end" (behind the vectors), "middle", "front".
        clean_names: class names become words first (`clean_class_name`).
    """

    method = "frozen_clip"

    def __init__(
        self,
        backbone: Backbone,
        num_frames: int,
        *,
        class_names: Sequence[str] = (),
        context: str = "none",
        context_length: int = 16,
        context_position: str = "end",
        clean_names: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.clip = backbone.clip.requires_grad_(False)
        self.num_frames = num_frames
        visual = self.clip.visual
        self.vision_blocks: list[ResidualAttentionBlock] = list(visual.transformer.resblocks)
        self.text_blocks: list[ResidualAttentionBlock] = list(self.clip.transformer.resblocks)
        self.width = int(visual.class_embedding.shape[0])
        self.text_width = text_width(self.clip)
        self._recompute = "nothing"
        self.options: dict[str, Any] = {}  # as given to `create_model`, for checkpoints
        self.context: LearnedContext | None = None
        if context != "none":
            self.context = LearnedContext(
                class_names,
                context_length,
                self.text_width,
                kind=context,
                position=context_position,
                clean_names=clean_names,
            )

    @property
    def recompute(self) -> str:
        """What the backward pass computes again instead of keeping it: nothing, mlp or layer."""
        return self._recompute

    @recompute.setter
    def recompute(self, what: str) -> None:
        check_choice("recompute", what, RECOMPUTE)
        self._recompute = what

    @property
    def logit_scale(self) -> torch.Tensor:
        """exp(logit_scale): what cosine similarities are multiplied by, a scalar."""
        return self.clip.logit_scale.exp().reshape(())

    def forward(self, clips: torch.Tensor, classes: Sequence[str] | torch.Tensor) -> torch.Tensor:
        """Normalised clips (B, T, 3, H, W) and C classes → logits (B, C), see `logits`.

        `classes` are names (in plain prompts, or with the learned context), or text features (C, E) or
        (C, P, E) as `encode_classes` returns them, which saves encoding the same classes again.
        """
        text = classes if isinstance(classes, torch.Tensor) else self.encode_classes(classes)
        return logits(self.encode_video(clips)[1], text, self.logit_scale)

    # -- video --------------------------------------------------------------------------------

    def encode_video(
        self, video: torch.Tensor, maps: list[Maps] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised frames (B, T, 3, H, W) → frame features (B, T, E), video features (B, E).

        Neither is L2-normalised; the video feature is the mean of the frame features. `maps` is
        filled with the attention of each layer. Raises UserError for another frame size than the
        backbone's, or a number of frames the method does not take.
        """
        again = self.training or torch.is_grad_enabled()
        if self.recompute == "layer" and again and maps is None:
            # videos do not see each other: what is recomputed at once is a few of them; without a
            # gradient as well, so that dropout draws alike (micro-batches encode twice)
            parts = [
                self._encode_video(part, None) for part in video.split(self._videos_at_once(video))
            ]
            frames = torch.cat(parts)
        else:
            frames = self._encode_video(video, maps)
        return frames, frames.mean(1)

    def _videos_at_once(self, video: torch.Tensor) -> int:
        """As many as keep the device busy."""
        tokens = video.shape[1] * len(self.clip.visual.positional_embedding)
        return max(1, (1024 if video.device.type == "cpu" else 32768) // tokens)

    def _encode_video(self, video: torch.Tensor, maps: list[Maps] | None) -> torch.Tensor:
        b, t = video.shape[:2]
        tokens = self.embed_frames(video, self.time_code(t))
        last = len(self.vision_blocks) - 1
        for layer in range(last + 1):
            seen: Maps | None = None
            if maps is not None:
                maps.append(seen := {})
            # of the last layer only the class tokens are used
            asking = 1 if layer == last else None
            arguments = (self.vision_blocks[layer], self.parts(layer, t), tokens, t, asking, seen)
            # the last layer keeps little: only the class tokens go on from its attention
            if self.recompute == "layer" and layer < last and torch.is_grad_enabled():
                tokens = checkpoint(self.vision_layer, *arguments, use_reentrant=False)
            else:
                tokens = self.vision_layer(*arguments)
        visual = self.clip.visual
        return (visual.ln_post(tokens[:, 0]) @ visual.proj).reshape(b, t, -1)

    def time_code(self, t: int) -> torch.Tensor | None:
        """What is added to all tokens of each of T frames before `ln_pre`, (T, D); nothing here."""
        del t
        return None

    def embed_frames(self, video: torch.Tensor, time: torch.Tensor | None) -> torch.Tensor:
        """(B, T, 3, H, W) → tokens after `ln_pre`, (B·T, N, D), with `time` (T, D) added before."""
        visual = self.clip.visual
        if tuple(video.shape[-2:]) != tuple(visual.image_size):
            raise UserError(
                f"frames are {video.shape[-2]}×{video.shape[-1]}, and the backbone takes "
                f"{visual.image_size[0]}×{visual.image_size[1]}: set backbone.image_size"
            )
        b, t = video.shape[:2]
        patches = visual.conv1(video.flatten(0, 1)).flatten(2).transpose(1, 2)
        positions = visual.positional_embedding
        first = (visual.class_embedding + positions[0]).to(patches.dtype)
        tokens = torch.cat(
            [first.expand(b * t, 1, -1), patches + self.patch_positions().to(patches.dtype)], 1
        )
        if time is not None:
            tokens = tokens + time.to(tokens.dtype).repeat(b, 1)[:, None]
        return visual.ln_pre(tokens)

    def patch_positions(self) -> torch.Tensor:
        """What is added to each patch, (N - 1, D): its position."""
        return self.clip.visual.positional_embedding[1:]

    def parts(self, layer: int, t: int) -> Any:
        """What the method adds to a vision layer for T frames; handed to `vision_layer`'s hooks."""
        del layer, t
        return None

    def vision_layer(
        self,
        block: ResidualAttentionBlock,
        parts: Any,
        tokens: torch.Tensor,
        t: int,
        asking: int | None = None,
        maps: Maps | None = None,
    ) -> torch.Tensor:
        """A vision block with the method's parts, (B·T, N, D) → the first `asking` (all) of them."""
        rate = self.drop_rate(parts)
        dropout = rate if self.training else 0.0
        queries, keys = project(block.attn, block.ln_1(tokens), asking)
        extra = self.extra_keys(block, parts, tokens, t, maps)
        mixed = mix(block.attn, queries, [keys, *extra], dropout=dropout, maps=maps, name="space")
        kept = tokens if asking is None else tokens[:, :asking]
        kept = self.after_attention(parts, kept + drop_path(block.ls_1(mixed), dropout))
        if self.recompute == "mlp" and torch.is_grad_enabled():
            out = checkpoint(self._mlp, block, kept, use_reentrant=False, preserve_rng_state=False)
        else:
            out = self._mlp(block, kept)
        return kept + drop_path(out, dropout)

    @staticmethod
    def _mlp(block: ResidualAttentionBlock, x: torch.Tensor) -> torch.Tensor:
        return block.ls_2(mlp(block, block.ln_2(x)))

    def drop_rate(self, parts: Any) -> float:
        """Rate of stochastic depth and attention dropout in a layer."""
        del parts
        return 0.0

    def extra_keys(
        self,
        block: ResidualAttentionBlock,
        parts: Any,
        tokens: torch.Tensor,
        t: int,
        maps: Maps | None,
    ) -> list[torch.Tensor]:
        """Keys and values (B·T, n, 2·D) that a frame's tokens see beside their own."""
        del block, parts, tokens, t, maps
        return []

    def after_attention(self, parts: Any, tokens: torch.Tensor) -> torch.Tensor:
        """The method's change to the tokens after the attention."""
        del parts
        return tokens

    def sources(self, extra: torch.Tensor, time: torch.Tensor | None, n: int) -> torch.Tensor:
        """Where the extra keys of a layer come from, for `explain`.

        extra (B, T, keys): relevance of the keys beside each frame's own; time (B, T, T): attention
        over the frames. Returns the relevance (B, T, n) that this gives to the layer's tokens.
        """
        del time
        return extra.new_zeros(*extra.shape[:2], n)

    # -- text ---------------------------------------------------------------------------------

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids (n, context) → text features (n, E), not normalised."""
        return self.encode_embedded(self.clip.token_embedding(tokens), text_ends(tokens))

    def encode_embedded(self, embedded: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        """Texts given as embeddings (n, length, W), read at `ends` (n,) → features (n, E)."""
        return encode_embedded(self.clip, embedded, ends, self.after_text_attention)

    def after_text_attention(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        """The method's change to the text tokens after the attention of a layer."""
        del layer
        return x

    def encode_in_chunks(
        self, embed: Callable[[torch.Tensor], torch.Tensor], ends: torch.Tensor, chunk: int
    ) -> torch.Tensor:
        """Features (n, E) of n texts, texts of like length together, at most `chunk` at once.

        `embed(rows)` gives the embeddings (len(rows), length, W) of some rows; `ends` (n,) on the CPU.
        Where activations are recomputed, a chunk's are.
        """
        recompute = self.recompute != "nothing" and torch.is_grad_enabled()
        groups = by_length(ends.tolist(), chunk)
        parts = []
        for group in groups:
            rows = torch.tensor(group)

            def encode(rows: torch.Tensor = rows) -> torch.Tensor:
                return self.encode_embedded(embed(rows), ends[rows])

            if recompute:
                parts.append(checkpoint(encode, use_reentrant=False, preserve_rng_state=False))
            else:
                parts.append(encode())
        if len(parts) == 1 and groups[0] == sorted(groups[0]):
            return parts[0]
        order = torch.tensor([row for group in groups for row in group])
        return torch.cat(parts)[order.argsort()]

    def encode_texts(self, texts: Sequence[str], chunk: int = 64) -> torch.Tensor:
        """Features (n, E) of texts, not normalised. A text that is too long is cut with a warning."""
        tokens = tokenize(self.backbone.tokenizer, texts)
        ends = text_ends(tokens)
        tokens = tokens[:, : int(ends.max()) + 1].to(self.clip.positional_embedding.device)
        return self.encode_in_chunks(
            lambda rows: self.clip.token_embedding(tokens[rows]), ends, chunk
        )

    def encode_classes(
        self, class_names: Sequence[str], prompts: PromptSet = PLAIN_NAMES, chunk: int = 64
    ) -> torch.Tensor:
        """Text features of C classes in P prompts each, (C, P, E), not normalised.

        With a learned context for all of these classes it stands in for the prompts (P = 1); a
        class-specific one that does not know them all gives way to plain class names.
        """
        if self.context is not None:
            if self.context.knows(class_names):
                return self.context.features(self, class_names, chunk)[:, None]
            unknown = self.context.unknown(class_names)
            if len(unknown) < len(class_names):
                warnings.warn(
                    f"{len(unknown)} of {len(class_names)} classes have no learned context "
                    f"({', '.join(unknown[:3])}): all get plain class names",
                    stacklevel=2,
                )
            prompts = PromptSet(("{}",), clean_names=self.context.clean_names)
        features = self.encode_texts(prompts.of(class_names), chunk)
        return features.reshape(len(class_names), prompts.per_class, -1)

    @property
    def text_is_fixed(self) -> bool:
        """Do text features of given prompts stay the same in training?"""
        return self.context is None

    # -- state --------------------------------------------------------------------------------

    def explain(self, frames: torch.Tensor, text: str | None = None) -> Explanation:
        """Where the video feature (or its similarity to `text`) comes from: see `explanation`."""
        return explain(self, frames, text)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile one vision layer (it serves all of them, any batch and any T)."""
        kwargs.setdefault("dynamic", True)
        self.vision_layer = torch.compile(self.vision_layer, *args, **kwargs)  # type: ignore[method-assign]

    def trained_state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps: everything that is not the backbone's."""
        return {
            name: value for name, value in self.state_dict().items() if not name.startswith("clip.")
        }

    def load_trained_state(self, state: dict[str, torch.Tensor]) -> None:
        """Undo `trained_state`. Raises KeyError on missing or unknown names."""
        expected = set(self.trained_state())
        if expected != set(state):
            raise KeyError(f"missing {expected - set(state)}, unknown {set(state) - expected}")
        self.load_state_dict(state, strict=False)
