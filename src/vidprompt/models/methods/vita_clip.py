"""Vita-CLIP (arXiv 2304.03307, CVPR 2023): global, local and summary prompts, learned text context."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from vidprompt.models.backbones.loading import Backbone
from vidprompt.models.layers.attention import (
    AttentionMaps,
    attend_with,
    in_projection,
    project_qkv,
)
from vidprompt.models.layers.stochastic_depth import LayerDraws
from vidprompt.models.layers.temporal_prompts import ramp, resample, uniform
from vidprompt.models.methods.video_clip import LayerCall, VideoCLIP
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice


class SummaryAttention(nn.Module):
    """s = c + MHA(LN(c)) over the T frames' projected summaries c, (B, T, D) (section 3.2).

    With `xavier` queries, keys, values and output start Xavier-uniform each, and their biases at zero, as
    released (`Attention` of VitaCLIP_vision_encoder_utils.py); otherwise as PyTorch's attention.
    """

    def __init__(self, width: int, heads: int, *, xavier: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        if xavier:
            for weight in (
                *self.attention.in_proj_weight.detach().chunk(3),
                self.attention.out_proj.weight,
            ):
                nn.init.xavier_uniform_(weight)

    def forward(self, c: torch.Tensor, maps: AttentionMaps | None = None) -> torch.Tensor:
        queries, kv = project_qkv(in_projection(self.attention), self.norm(c))
        return c + attend_with(self.attention, queries, kv, maps=maps, name="time")


class VitaLayerPrompts(NamedTuple):
    """Vita-CLIP's additions to one vision layer; None = switched off."""

    class_projection: nn.Module | None
    summary: nn.Module | None
    local_prompts: torch.Tensor | None  # (T, D)
    global_prompts: torch.Tensor | None  # (G, D)


class VitaCLIP(VideoCLIP):
    """Vita-CLIP on any backbone.

    Of a tower without a class token, the mean of a frame's tokens stands for it (`ImageTower.summary`).

    Args:
        class_names: annotated names of the training classes, for class-specific contexts.
        global_prompts: G, the number of global prompts a layer (8); 0 = none.
        use_local: local prompts, one a frame (for ablations; the published method has all three types).
        use_summary: summary tokens, one a frame (likewise). What is switched off has no parameters.
        context_length: M learned vectors before the class name (8 in the released script, 16 its default).
        context: "class" (vectors for each class; other classes use plain class names), "shared" or
            "none".
        train_cls_proj: True = paper, False = released code, which never trains the random class projection.
        prompt_start: initial values. "released": prompts uniform (`temporal_prompts.uniform`), the time
            embedding normal, the summaries' attention Xavier-uniform; "normal": prompts normal too, and that
            attention as PyTorch's; "ramp": time embedding and local prompts a ramp over the frames
            (`temporal_prompts.ramp`), global prompts normal. The class projection is PyTorch's in all.
        prompt_std: standard deviation of what starts normal (0.02 as released), and of a ramp.
        initial_temperature: exp(-log scale) at the start of training. None: CLIP's own, 0.01. The released
            constructor writes 0.07, and then loads a CLIP checkpoint (`strict=False`), which replaces it if
            it has a tensor `logit_scale`, as OpenAI's has; the file of the released script is not public.
        options: other options of the text context (see VideoCLIP).

    Raises UserError for an unknown prompt_start, a negative number of global prompts, or a temperature that
    is not above 0.
    """

    method = "vita_clip"
    start = (
        "prompts, at random values, join the attention of every layer; so do contexts in the texts"
    )

    def __init__(
        self,
        backbone: Backbone,
        num_frames: int,
        *,
        class_names: Sequence[str] = (),
        global_prompts: int = 8,
        use_local: bool = True,
        use_summary: bool = True,
        context_length: int = 8,
        context: str = "class",
        train_cls_proj: bool = False,
        prompt_start: str = "released",
        prompt_std: float = 0.02,
        initial_temperature: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            backbone,
            num_frames,
            class_names=class_names,
            context=context,
            context_length=context_length,
            **options,
        )
        layers, width = len(self.vision_blocks), self.width
        check_choice("prompt_start", prompt_start, ("released", "normal", "ramp"))
        if global_prompts < 0:
            raise UserError(f"global_prompts is {global_prompts}; give a number of prompts, or 0")
        patch = self.image_tower.patch_size
        time = torch.randn(1 + layers, num_frames, width) * prompt_std
        local, shared = time[1:], torch.randn(layers, global_prompts, width) * prompt_std
        if prompt_start == "ramp":
            time = ramp(1 + layers, num_frames, width, prompt_std)
            local = time[1:]
        elif prompt_start == "released":
            local, shared = (uniform(tuple(one.shape), patch) for one in (local, shared))
        self.time_embedding = nn.Parameter(time[0].clone())
        self.local_prompts = nn.Parameter(local.clone()) if use_local else None
        self.global_prompts = nn.Parameter(shared) if global_prompts else None
        projected = range(layers if use_local or use_summary else 0)
        self.class_projections = nn.ModuleList(nn.Linear(width, width) for _ in projected)
        self.class_projections.requires_grad_(train_cls_proj)
        heads = self.vision_blocks[0].heads
        summarised = range(layers if use_summary else 0)
        xavier = prompt_start != "normal"
        self.summaries = nn.ModuleList(
            SummaryAttention(width, heads, xavier=xavier) for _ in summarised
        )
        log_scale = self.clip.logit_scale.detach().clone().reshape(())
        if initial_temperature is not None:
            if initial_temperature <= 0:
                raise UserError(f"initial_temperature is {initial_temperature}; give one above 0")
            log_scale.fill_(-math.log(initial_temperature))
        self.log_scale = nn.Parameter(log_scale)
        # The released patch embedding has a bias, CLIP's has none: zero unless a checkpoint has one.
        self.patch_bias: torch.Tensor
        self.register_buffer("patch_bias", torch.zeros(width))

    @property
    def logit_scale(self) -> torch.Tensor:
        """exp of the trained log scale, a scalar."""
        return self.log_scale.exp()

    @property
    def switched_off(self) -> list[str]:
        """Names of the prompt types that are switched off."""
        types = {
            "global prompts": self.global_prompts is not None,
            "local prompts": self.local_prompts is not None,
            "summaries": len(self.summaries) > 0,
        }
        return [name for name, present in types.items() if not present]

    def temporal_positions(self, t: int) -> torch.Tensor:
        """The learned time embedding (t, D), for another T by nearest neighbour as released."""
        return resample(self.time_embedding, t)

    def embedding_bias(self) -> torch.Tensor:
        """The bias of the released patch embedding, (D,)."""
        return self.patch_bias

    def layer_prompts(self, layer: int, t: int, drawn: LayerDraws) -> VitaLayerPrompts:
        del drawn
        local, shared = self.local_prompts, self.global_prompts
        return VitaLayerPrompts(
            self.class_projections[layer] if self.class_projections else None,
            self.summaries[layer] if self.summaries else None,
            None if local is None else resample(local[layer], t),
            None if shared is None else shared[layer],
        )

    def prompt_kv(
        self, call: LayerCall, prompts: VitaLayerPrompts, tokens: torch.Tensor
    ) -> list[torch.Tensor]:
        """T local prompts (the same for all frames of a video), G global prompts, one summary a frame.

        The released layer also computes outputs of these tokens and drops them. Here they are keys and
        values only, and what frames or videos have in common is projected once.
        """
        block, t = call.block, call.t
        local, shared, summary = [], [], []
        if prompts.class_projection is not None:
            c = prompts.class_projection(self.image_tower.summary(tokens))
            c = c.unflatten(0, (-1, t))
            if prompts.summary is not None:
                token = prompts.summary(c, call.maps).flatten(0, 1)[:, None]
                summary = [block.project_kv(block.norm(token))]
            if prompts.local_prompts is not None:
                by_video = block.project_kv(block.norm(prompts.local_prompts + c))
                local = [by_video.repeat_interleave(t, 0)]
        if prompts.global_prompts is not None:
            kv = block.project_kv(block.norm(prompts.global_prompts))
            shared = [
                kv.expand(len(tokens), -1, -1).contiguous()
            ]  # to join those that are is faster
        return [*local, *shared, *summary]

    def prompt_relevance(
        self, relevance: torch.Tensor, time: torch.Tensor | None, n: int
    ) -> torch.Tensor:
        """Local prompts and summaries hand on to the tokens of `summary`; global prompts to no token."""
        del n
        out = relevance.new_zeros(relevance.shape[:2])
        if self.local_prompts is not None:
            out += relevance[..., : relevance.shape[1]].sum(1)
        if time is not None:  # attention of the summaries
            summary = relevance[..., -1]
            out += (summary + torch.einsum("bt,bts->bs", summary, time)) / 2
        return out[..., None] * self.image_tower.summary_weights().to(out)
