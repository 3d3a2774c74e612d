"""Base class of all methods, a plug-in's too: a frozen CLIP on video, with hooks for prompts and adapters.

A method overrides the hooks: an embedding of time (`temporal_positions`), tokens that a frame's tokens
attend to (`prompt_kv`), and a change after the attention. The towers stay their library's, and are seen
through `backbones.interface` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch.utils.checkpoint import checkpoint

from vidprompt.config.schema import BackboneTraining
from vidprompt.models.backbones.interface import Block
from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.explanation import Explanation, explain
from vidprompt.models.layers.attention import AttentionMaps, attend
from vidprompt.models.layers.low_rank import low_rank_modules, merge_low_rank
from vidprompt.models.layers.stochastic_depth import LayerDraws, scale_branch
from vidprompt.models.text.context import LearnedContext
from vidprompt.models.text.encoder import TextEncoder
from vidprompt.models.text.prompts import PromptSet
from vidprompt.models.trained_backbone import train_towers
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice

RECOMPUTE = ("nothing", "mlp", "layer")


def logits(
    video: torch.Tensor,
    text: torch.Tensor,
    scale: torch.Tensor | float,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scaled cosine similarities: video features (B, E), text features (C, E) → logits (B, C).

    Features need not be normalised; `scale` is the factor of the cosines (100 in CLIP), not its
    logarithm, and `bias` is added (SigLIP's; a softmax does not depend on it). Text features (C, P, E) of P
    prompts a class become one a class: the mean of the normalised ones. The other ensemble (a softmax for
    each prompt) and exact scores for evaluation are in `metrics.scores`. In float32 under autocast too: the
    scale would turn the rounding of half precision into tenths of a logit.
    """
    with torch.autocast(video.device.type, enabled=False):
        video, text = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (video, text))
        if text.ndim == 3:
            text = F.normalize(text, dim=-1).mean(1)
        found = scale * F.normalize(video, dim=-1) @ F.normalize(text, dim=-1).T
        return found if bias is None else found + bias


def _first_tokens(factors: torch.Tensor | None, count: int | None) -> torch.Tensor | None:
    """Factors of the first `count` tokens (None: of all)."""
    return factors if factors is None or count is None else factors[:, :count]


@dataclass(frozen=True)
class LayerCall:
    """What a vision layer is computed with, beside its tokens and the method's prompts.

    `t` frames a video; `positions` are the tower's rotary ones; only the first `num_queries` tokens (None:
    all) are computed; `maps` takes attention, where it is asked for.
    """

    block: Block
    t: int
    drawn: LayerDraws
    positions: torch.Tensor | None = None
    num_queries: int | None = None
    maps: AttentionMaps | None = None


class VideoCLIP(TextEncoder):
    """A frozen CLIP applied to video: the mean of the frames' image features.

    Args:
        backbone: never changed, so several models can share one (a model that trains it has a copy).
        num_frames: T.
        class_names: annotated names of the training classes, for class-specific contexts.
        context: "none", "class" (learned vectors for each class; other classes use plain names) or
            "shared" (the same vectors for all).
        context_length: M, the number of vectors.
        context_position: position of the class name: "end" (after the vectors), "middle", "front".
        clean_names: apply `clean_class_name` to class names.
        train_backbone: what of CLIP is trained too, in a copy of the backbone (`train_towers`): "none",
            "last_n" (the last blocks and what follows them), "all", or "lora".
        trained_towers: of which tower: "image", "text" or "both".
        trained_blocks: n of "last_n".
        lora_rank: the inner width of the matrices of "lora".
        lora_alpha: their factor times `lora_rank`.
        lora_scaling: "rank", or "sqrt_rank": `lora_alpha` is the factor times its root instead.
        lora_matrices: "all" of a block, or "qkv": queries, keys and values, with a product for each.
        lora_dropout: rate on what LoRA's matrices get in training; with "qkv" only.

    Raises UserError for an unknown context, position, train_backbone, trained_towers, lora_scaling or
    lora_matrices, and for numbers out of range.
    """

    # The name that `create_model` made it by
    method = ""
    # True: a frame's features do not depend on the other frames, and a video's are their mean, so that those
    # of overlapping windows are computed once
    encodes_frames_apart: ClassVar[bool] = False
    # How the logits of a new model differ from frozen CLIP's, as a sentence; "": they do not
    start: ClassVar[str] = ""
    # True: `fit` is called before the first step
    fits_features: ClassVar[bool] = False

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
        train_backbone: str = "none",
        trained_towers: str = "both",
        trained_blocks: int = 2,
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        lora_scaling: str = "rank",
        lora_matrices: str = "all",
        lora_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone_training = BackboneTraining.of(
            {
                "train_backbone": train_backbone,
                "trained_towers": trained_towers,
                "trained_blocks": trained_blocks,
                "lora_rank": lora_rank,
                "lora_alpha": lora_alpha,
                "lora_scaling": lora_scaling,
                "lora_matrices": lora_matrices,
                "lora_dropout": lora_dropout,
            }
        )
        if train_backbone != "none":
            backbone = backbone.copy()
        self.backbone = backbone
        self.clip = backbone.clip.requires_grad_(False)
        train_towers(backbone, self.backbone_training)
        self.num_frames = num_frames
        self.image_tower, self.text_tower = backbone.image_tower, backbone.text_tower
        self.vision_blocks, self.text_blocks = self.image_tower.blocks, self.text_tower.blocks
        self.width, self.text_width = self.image_tower.width, self.text_tower.width
        self._recompute = "nothing"
        self.options: dict[str, Any] = {}  # of `create_model`, for checkpoints
        self.started: frozenset[str] = frozenset()  # frozen weights that are not the backbone's
        self.context: LearnedContext | None = None
        if context != "none":
            self.context = LearnedContext(
                backbone,
                class_names,
                context_length,
                kind=context,
                position=context_position,
                clean_names=clean_names,
            )

    @classmethod
    def image_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Of its options, those of the model of single images that may start it (`protocol.image_model`)."""
        return dict(options)

    def train(self, mode: bool = True) -> Self:
        """Training mode of the method's own modules; CLIP stays as it is used, for its batch norms."""
        super().train(mode)
        self.clip.eval()
        for low_rank in low_rank_modules(self.clip):
            low_rank.train(mode)
        return self

    @property
    def feature_width(self) -> int:
        """E, the length of a feature."""
        return self.image_tower.feature_width

    @property
    def recompute(self) -> str:
        """Activation checkpointing: what the backward pass recomputes ("nothing", "mlp" or "layer").

        Setting another value raises UserError.
        """
        return self._recompute

    @recompute.setter
    def recompute(self, value: str) -> None:
        check_choice("recompute", value, RECOMPUTE)
        self._recompute = value

    @property
    def logit_scale(self) -> torch.Tensor:
        """exp of CLIP's log scale, a scalar: the factor of cosine similarities in logits."""
        return self.clip.logit_scale.exp().reshape(())

    @property
    def logit_bias(self) -> torch.Tensor | None:
        """What SigLIP adds to its logits, a scalar; None of a CLIP trained with a softmax."""
        bias = self.clip.logit_bias
        return None if bias is None else bias.reshape(())

    def forward(self, clips: torch.Tensor, classes: Sequence[str] | torch.Tensor) -> torch.Tensor:
        """Normalised clips (B, T, 3, H, W) and C classes → logits (B, C), see `logits`.

        `classes` are names (in plain prompts, or with the learned context), or text features (C, E) or
        (C, P, E) as `encode_classes` returns them, which saves encoding the same classes again.
        """
        text = classes if isinstance(classes, torch.Tensor) else self.encode_classes(classes)
        return logits(self.encode_video(clips)[1], text, self.logit_scale, self.logit_bias)

    # -- video --------------------------------------------------------------------------------

    def encode_video(
        self,
        video: torch.Tensor,
        maps: list[AttentionMaps] | None = None,
        *,
        batch_seed: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised frames (B, T, 3, H, W) → frame features (B, T, E), video features (B, E).

        Neither is L2-normalised; a video feature is the mean of its frame features. `maps` gets the
        attention maps of each layer appended. In training `batch_seed` (None: drawn) seeds what is dropped
        alike in a whole batch: the parts of one batch have the same. Raises UserError for another frame
        size than the backbone's, or a number of frames that the method does not take.
        """
        if batch_seed is None and self.training:
            batch_seed = int(torch.randint(2**62, ()).item())
        if (
            self.recompute == "layer"
            and maps is None
            and (self.training or torch.is_grad_enabled())
        ):
            # Videos are independent, so few of them are recomputed at a time. Without gradients too, so
            # that dropout draws the same numbers in both passes of a micro-batch.
            chunks = video.split(self._videos_per_chunk(video))
            frames = torch.cat([self._encode_frames(chunk, None, batch_seed) for chunk in chunks])
        else:
            frames = self._encode_frames(video, maps, batch_seed)
        return frames, self.video_features(frames)

    def video_features(self, frames: torch.Tensor) -> torch.Tensor:
        """Frame features (B, T, E) → what stands for each video: their mean, (B, E)."""
        return frames.mean(1)

    def _videos_per_chunk(self, video: torch.Tensor) -> int:
        """The fewest videos that keep the device busy."""
        tokens = video.shape[1] * self.image_tower.num_tokens
        return max(1, (1024 if video.device.type == "cpu" else 32768) // tokens)

    def _encode_frames(
        self, video: torch.Tensor, maps: list[AttentionMaps] | None, batch_seed: int | None
    ) -> torch.Tensor:
        """(B, T, 3, H, W) → frame features (B, T, E)."""
        b, t = video.shape[:2]
        draws = self.video_draws(b, t, batch_seed) if self.training else []
        tower = self.image_tower
        tokens, positions = self.embed_frames(video, self.temporal_positions(t)), tower.positions()
        last = len(self.vision_blocks) - 1
        for layer, block in enumerate(self.vision_blocks):
            layer_maps: AttentionMaps | None = None
            if maps is not None:
                maps.append(layer_maps := {})
            num_queries = tower.num_read if layer == last else None
            drawn = draws[layer] if draws else LayerDraws()
            call = LayerCall(block, t, drawn, positions, num_queries, layer_maps)
            prompts = self.layer_prompts(layer, t, drawn)
            # the last layer's activations are small where one token a frame is left after the attention
            if self.recompute == "layer" and layer < last and torch.is_grad_enabled():
                tokens = checkpoint(self.vision_layer, call, prompts, tokens, use_reentrant=False)
            else:
                tokens = self.vision_layer(call, prompts, tokens)
        pooled = tower.pool(tokens, None if maps is None else maps[-1])
        return pooled.reshape(b, t, -1)

    def video_draws(self, b: int, t: int, batch_seed: int | None) -> list[LayerDraws]:
        """What is dropped in training in each vision layer, of B videos of T frames; [] = nothing."""
        del b, t, batch_seed
        return []

    def temporal_positions(self, t: int) -> torch.Tensor | None:
        """Embedding of time (T, D), added to all tokens of a frame before `ln_pre`; None without one."""
        del t
        return None

    def embed_frames(self, video: torch.Tensor, time: torch.Tensor | None) -> torch.Tensor:
        """(B, T, 3, H, W) and an embedding of time (T, D) → tokens after `ln_pre`, (B·T, N, D)."""
        size = self.image_tower.image_size
        if tuple(video.shape[-2:]) != tuple(size):
            raise UserError(
                f"frames are {video.shape[-2]}×{video.shape[-1]}, and the backbone takes "
                f"{size[0]}×{size[1]}: set backbone.image_size"
            )
        return self.image_tower.embed(video.flatten(0, 1), time, self.embedding_bias())

    def embedding_bias(self) -> torch.Tensor | None:
        """What is added to all patches with their positions, (D,); None without it."""
        return None

    def layer_prompts(self, layer: int, t: int, drawn: LayerDraws) -> Any:
        """The method's own modules and prompts of a vision layer for T frames, handed to the hooks."""
        del layer, t, drawn
        return None

    def vision_layer(self, call: LayerCall, prompts: Any, tokens: torch.Tensor) -> torch.Tensor:
        """A vision block with the method's additions: (B·T, N, D) → (B·T, num_queries or N, D).

        `prompts` are those of `layer_prompts`.
        """
        # No name keeps queries, keys and values, or the heads' outputs, for as long as the MLP runs. The
        # tokens are cut after the attention: gradients of several uses are summed in that order.
        return self.token_part(
            call.block,
            prompts,
            self.attended(call, prompts, tokens),
            tokens if call.num_queries is None else tokens[:, : call.num_queries],
            _first_tokens(call.drawn.attention, call.num_queries),
            _first_tokens(call.drawn.mlp, call.num_queries),
        )

    def token_part(
        self,
        block: Block,
        prompts: Any,
        attended: torch.Tensor,
        x: torch.Tensor,
        first: torch.Tensor | None,
        second: torch.Tensor | None,
    ) -> torch.Tensor:
        """The part of a vision layer that treats each token by itself, after the attention of its heads.

        Heads' outputs `attended` and tokens x (n, q, D) → tokens (n, q, D); `first` and `second` are the
        factors of the two branches (`LayerDraws`).
        """
        x = self.after_attention(prompts, x + scale_branch(block.attention_output(attended), first))
        del attended
        if self.recompute == "mlp" and torch.is_grad_enabled():
            out = checkpoint(block.mlp, x, use_reentrant=False, preserve_rng_state=False)
        else:
            out = block.mlp(x)
        return x + scale_branch(out, second)

    def attended(self, call: LayerCall, prompts: Any, tokens: torch.Tensor) -> torch.Tensor:
        """Outputs of the heads of `vision_layer` before their projection, (B·T, num_queries or N, D).

        A function of its own, so that its queries, keys and values are freed before the MLP, where a
        forward pass takes most memory.
        """
        block = call.block
        queries, kv = block.project_qkv(block.norm(tokens), call.num_queries, call.positions)
        kvs = [kv, *self.prompt_kv(call, prompts, tokens)]
        return attend(
            queries, kvs, block.heads, dropout=call.drawn.rate, maps=call.maps, name="space"
        )

    def prompt_kv(self, call: LayerCall, prompts: Any, tokens: torch.Tensor) -> list[torch.Tensor]:
        """Keys and values (B·T, n, 2·D) of prompts that a frame's tokens (B·T, N, D) attend to."""
        del call, prompts, tokens
        return []

    def after_attention(self, prompts: Any, tokens: torch.Tensor) -> torch.Tensor:
        """The method's change to the tokens (…, D) after the attention."""
        del prompts
        return tokens

    def prompt_relevance(
        self, relevance: torch.Tensor, time: torch.Tensor | None, n: int
    ) -> torch.Tensor:
        """Attention roll-out through a layer's prompts to the tokens they were computed from.

        relevance (B, T, prompts) of the prompts of each frame, in the order of `prompt_kv`; time (B, T, T)
        is the attention over the frames, if the layer has one. Returns the relevance (B, T, n) that the n
        tokens of each frame get.
        """
        del time
        return relevance.new_zeros(*relevance.shape[:2], n)

    # -- without steps ------------------------------------------------------------------------

    def fit(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Learn from the training videos' features (N, E) and classes (N,), if `fits_features`.

        The features are those of `encode_video` before, of clips as tests have them.
        """
        raise NotImplementedError

    def choose_on_held_out(
        self,
        features: NDArray[np.float32],
        labels: NDArray[np.int64],
        class_names: Sequence[str],
        prompts: PromptSet,
    ) -> str:
        """Set numbers of the method's by held-out videos, after the last step.

        Features (N, views, E) of `encode_video`, classes (N,) among `class_names` with their prompts. Returns
        what was chosen, as a sentence; "": nothing is.
        """
        del features, labels, class_names, prompts
        return ""

    # -- explanation, compilation, state ------------------------------------------------------

    def explain(self, frames: torch.Tensor, text: str | None = None) -> Explanation:
        """Relevance of frames and patches for the video feature, or for its similarity to `text`.

        `frames` are normalised, (B, T, 3, H, W) or (T, 3, H, W) of one video. Computed in evaluation mode.
        """
        video = frames[None] if frames.ndim == 4 else frames
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                feature = None if text is None else self.encode_texts([text])[0]
            tower = self.image_tower
            relevance = self.prompt_relevance
            return explain(self.encode_video, relevance, video, feature, tower.grid, tower.prefix)
        finally:
            self.train(training)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile `token_part`, whose graph serves all layers: weights are its inputs.

        The attention is not in it: it is a kernel of its own anyway, and its dropout rate, which differs from
        layer to layer, would be a constant of the graph. Raises UserError with `recompute`.
        """
        if self.recompute != "nothing":
            raise UserError(
                f"trainer.compile=true goes with trainer.recompute=nothing, not {self.recompute}"
            )
        self.token_part = torch.compile(self.token_part, *args, **kwargs)  # type: ignore[method-assign]

    @property
    def text_is_fixed(self) -> bool:
        return super().text_is_fixed and not self.backbone_training.trains_text

    @property
    def drops_text(self) -> bool:
        return self.backbone_training.trains_text and self.backbone_training.lora_dropout > 0

    def merge_lora(self) -> None:
        """Add LoRA's products to the weights, for use without further training; without LoRA nothing."""
        merge_low_rank(self.clip)

    def trained_state(self) -> dict[str, torch.Tensor]:
        """The content of a checkpoint: the state dict without what is the backbone's."""
        trained = {name for name, p in self.named_parameters() if p.requires_grad} | self.started
        return {
            name: value
            for name, value in self.state_dict().items()
            if name in trained or not name.startswith("clip.")
        }

    def load_trained_state(self, state: dict[str, torch.Tensor]) -> None:
        """Load a `trained_state`. Raises KeyError on missing or unknown names."""
        expected = set(self.trained_state())
        if expected != set(state):
            raise KeyError(f"missing {expected - set(state)}, unknown {set(state) - expected}")
        self.load_state_dict(state, strict=False)
