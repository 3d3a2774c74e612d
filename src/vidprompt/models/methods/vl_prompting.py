"""ViFi-CLIP's second stage (arXiv 2212.03640, section 3.3, "bridge and prompt"): prompts in both towers.

CLIP is fine-tuned on videos first (`vifi_clip`), which bridges the gap between images and videos; then its
weights are frozen, and vectors are learned that stand beside the tokens of every layer of both towers.
`trainer.start_from` names the checkpoint of the first stage; without it the prompts are those of CLIP itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.layers.attention import attend
from vidprompt.models.layers.stochastic_depth import LayerDraws
from vidprompt.models.methods.video_clip import LayerCall, VideoCLIP
from vidprompt.system.errors import UserError


class VLLayerPrompts(NamedTuple):
    """The prompts of one vision layer."""

    vectors: torch.Tensor | None  # (G, D) that take the place of the former ones; None: these go on
    keep: bool  # the next layer goes on with what this one makes of its prompts


class VLPrompting(VideoCLIP):
    """Learned prompts in the layers of both towers of a frozen CLIP; a video is the mean of its frames.

    Each of the first `vision_depth` layers has `vision_prompts` vectors of its own beside a frame's tokens,
    those of the first layer before its norm (`ln_pre`); so has the text tower after its start token, in front
    of the class name, where the first layer's are the learned context. A layer drops what the one before made
    of its prompts; layers after the last that has prompts go on with its outputs. All start normal, with a
    deviation of 0.02. Source: section 3.3 of the paper; `VisionTransformer` and
    `ResidualAttentionBlock_ViFi_CLIP` of clip/model.py and `VLPromptLearner` of trainers/vificlip.py, in
    muzairkhattak/ViFi-CLIP.

    Args:
        vision_prompts: G, vectors a vision layer (few-shot 10, base to novel 16); 0: none.
        vision_depth: how many first layers have vectors of their own; None: all (few-shot; base to novel 9).
        text_depth: the same of the text tower; 1 is a learned context alone.
        context, context_length: "shared" vectors, or "class" for each class, and how many; "none": no
            prompts in the text tower. Those of the later layers are shared.
        prompt_std: standard deviation of the prompts at the start; the context's is 0.02.
        options: other options of VideoCLIP. The class name comes after the vectors.

    Raises UserError for a depth that the tower does not have, a negative number of prompts, or a context in
    another position.
    """

    method = "vl_prompting"
    encodes_frames_apart = True
    start = "prompts, at random values, join the attention of every layer of both towers"

    def __init__(
        self,
        backbone: Backbone,
        num_frames: int,
        *,
        vision_prompts: int = 10,
        vision_depth: int | None = None,
        text_depth: int | None = None,
        context: str = "shared",
        context_length: int = 10,
        context_position: str = "end",
        prompt_std: float = 0.02,
        **options: Any,
    ) -> None:
        super().__init__(
            backbone,
            num_frames,
            context=context,
            context_length=context_length,
            context_position=context_position,
            **options,
        )
        if vision_prompts < 0:
            raise UserError(f"vision_prompts is {vision_prompts}; give a number of prompts, or 0")
        if context_position != "end":
            raise UserError(
                f"context_position is {context_position}: vl_prompting has its prompts before the class "
                "name (end)"
            )
        self.vision_depth = _depth("vision_depth", vision_depth, len(self.vision_blocks))
        self.text_depth = _depth("text_depth", text_depth, len(self.text_blocks))
        self.vision_prompts: nn.Parameter | None = None
        if vision_prompts:
            shape = (self.vision_depth, vision_prompts, self.width)
            self.vision_prompts = nn.Parameter(torch.randn(shape) * prompt_std)
        self.text_prompts: nn.Parameter | None = None
        if self.context is not None and self.text_depth > 1:
            shape = (self.text_depth - 1, context_length, self.text_width)
            self.text_prompts = nn.Parameter(torch.randn(shape) * prompt_std)

    # -- video --------------------------------------------------------------------------------

    def layer_prompts(self, layer: int, t: int, drawn: LayerDraws) -> VLLayerPrompts:
        del t, drawn
        if self.vision_prompts is None:
            return VLLayerPrompts(None, keep=False)
        last = len(self.vision_blocks) - 1
        keep = self.vision_depth - 1 <= layer < last
        if layer >= self.vision_depth:
            return VLLayerPrompts(None, keep)
        vectors = self.vision_prompts[layer]
        if layer == 0:
            vectors = self.image_tower.norm_pre(vectors[None])[0]
        return VLLayerPrompts(vectors, keep)

    def vision_layer(
        self, call: LayerCall, prompts: VLLayerPrompts, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Frames' tokens (B·T, N or N + G, D), with the prompts where their outputs go on, → the same.

        The last layer's are the frames' alone.
        """
        if prompts.vectors is not None and prompts.keep:
            vectors = prompts.vectors.to(tokens.dtype).expand(len(tokens), -1, -1)
            tokens = torch.cat([tokens, vectors], 1)
        elif not prompts.keep and call.num_queries is None:
            call = replace(call, num_queries=self.image_tower.num_tokens)
        return super().vision_layer(call, prompts, tokens)

    def attended(
        self, call: LayerCall, prompts: VLLayerPrompts, tokens: torch.Tensor
    ) -> torch.Tensor:
        n, block = self.image_tower.num_tokens, call.block
        if (
            tokens.shape[1] == n
        ):  # prompts without outputs: keys and values, as `prompt_kv` has them
            return super().attended(call, prompts, tokens)
        frames, beside = block.norm(tokens).split([n, tokens.shape[1] - n], 1)
        queries, kv = block.project_qkv(frames, call.num_queries, call.positions)
        if prompts.keep:
            own, prompt_kv = block.project_qkv(beside)
            queries = torch.cat([queries, own], 1)
        else:
            prompt_kv = block.project_kv(beside)
        kvs = [kv, prompt_kv]
        return attend(
            queries, kvs, block.heads, dropout=call.drawn.rate, maps=call.maps, name="space"
        )

    def prompt_kv(
        self, call: LayerCall, prompts: VLLayerPrompts, tokens: torch.Tensor
    ) -> list[torch.Tensor]:
        """The layer's own prompts, the same for all frames."""
        if prompts.vectors is None:
            return []
        kv = call.block.project_kv(call.block.norm(prompts.vectors))
        return [kv.expand(len(tokens), -1, -1).contiguous()]

    # -- text ---------------------------------------------------------------------------------

    def before_text_layer(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        """Put the layer's prompts (M, W) in the place of what the layer before made of its own."""
        if self.text_prompts is None or not 1 <= layer < self.text_depth:
            return x
        vectors = self.text_prompts[layer - 1].to(x.dtype).expand(len(x), -1, -1)
        first = len(self.backbone.tokenizer.start)
        return torch.cat([x[:, :first], vectors, x[:, first + vectors.shape[1] :]], 1)


def _depth(name: str, depth: int | None, layers: int) -> int:
    """How many layers have prompts of their own. Raises UserError for a number that the tower has not."""
    if depth is None:
        return layers
    if not 1 <= depth <= layers:
        raise UserError(
            f"{name} is {depth}: give a number of layers from 1 to {layers}, or null: all"
        )
    return depth
