"""Which tensors of the published checkpoints make up each of ours.

One of ours is one or several of theirs, joined along the first dimension: they keep queries, keys and
values apart, and a tensor a layer where we keep one for all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from vidprompt.models.methods.video_clip import VideoCLIP

_QKV = "qkv"

# our name (a whole-string pattern) → their names; `*` stands for every layer
_EZ_CLIP: list[tuple[str, list[str]]] = [
    (r"clip\.(.+)", [r"\1"]),
    (r"temporal_prompts", ["visual.transformer.T_prompt_embeddings"]),
    (r"temporal_embedding", ["visual.temporal_embedding"]),
    (r"vision_adapters\.(\d+)\.down\.(.+)", [r"visual.transformer.resblocks.\1.Adapter.D_fc1.\2"]),
    (r"vision_adapters\.(\d+)\.up\.(.+)", [r"visual.transformer.resblocks.\1.Adapter.D_fc2.\2"]),
    (r"text_adapters\.(\d+)\.down\.(.+)", [r"transformer.resblocks.\1.Adapter.D_fc1.\2"]),
    (r"text_adapters\.(\d+)\.up\.(.+)", [r"transformer.resblocks.\1.Adapter.D_fc2.\2"]),
]

_BLOCK = r"clip\.visual\.transformer\.resblocks\.(\d+)\."
_VITA_CLIP: list[tuple[str, list[str]]] = [
    (r"(?:clip\.logit_scale|log_scale)", ["logit_scale"]),
    (r"clip\.visual\.class_embedding", ["visual.cls_token"]),
    (r"clip\.visual\.positional_embedding", ["visual.pos_embed"]),
    (r"clip\.visual\.conv1\.weight", ["visual.patch_embed.proj.weight"]),
    (r"patch_bias", ["visual.patch_embed.proj.bias"]),
    (
        _BLOCK + r"attn\.in_proj_(weight|bias)",
        [rf"visual.blocks.\1.attn.{part}_proj.\2" for part in _QKV],
    ),
    (_BLOCK + r"ln_(\d)\.(.+)", [r"visual.blocks.\1.norm\2.\3"]),
    (_BLOCK + r"mlp\.c_fc\.(.+)", [r"visual.blocks.\1.mlp.fc1.\2"]),
    (_BLOCK + r"mlp\.c_proj\.(.+)", [r"visual.blocks.\1.mlp.fc2.\2"]),
    (_BLOCK + r"(.+)", [r"visual.blocks.\1.\2"]),
    (r"clip\.visual\.(.+)", [r"visual.\1"]),
    (r"clip\.(.+)", [r"textual.\1"]),
    (r"time_embedding", ["visual.time_embed"]),
    (r"global_prompts", ["visual.global_prompts"]),
    (r"local_prompts", ["visual.blocks.*.local_prompts"]),
    (r"class_projections\.(\d+)\.(.+)", [r"visual.blocks.\1.cls_proj.\2"]),
    (r"summaries\.(\d+)\.norm\.(.+)", [r"visual.blocks.\1.summary_ln.\2"]),
    (
        r"summaries\.(\d+)\.attention\.in_proj_(weight|bias)",
        [rf"visual.blocks.\1.summary_attn_layer.{part}_proj.\2" for part in _QKV],
    ),
    (r"summaries\.(\d+)\.attention\.(.+)", [r"visual.blocks.\1.summary_attn_layer.\2"]),
    (r"context\.vectors", ["prompt_learner.ctx"]),
]
_RULES = {"ez_clip": _EZ_CLIP, "vita_clip": _VITA_CLIP}


def published_names(method: str, name: str, layers: int) -> list[str]:
    """Their names for our tensor `name` of a model with `layers` vision layers."""
    for pattern, theirs in _RULES[method]:
        found = re.fullmatch(pattern, name)
        if found:
            names = [found.expand(their) for their in theirs]
            if "*" in names[0]:
                return [names[0].replace("*", str(layer)) for layer in range(layers)]
            return names
    raise KeyError(name)


def to_published(model: VideoCLIP, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors under our names (of parameters, or their gradients) → under the published names."""
    layers = len(model.vision_blocks)
    out: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        names = published_names(model.method, name, layers)
        pieces = [value] if len(names) == 1 else value.chunk(len(names))
        if name == "context.vectors" and model.context is not None and model.context.shared:
            pieces = [value[0]]
        out |= {their: piece.contiguous() for their, piece in zip(names, pieces, strict=True)}
    return out


def from_published(
    model: VideoCLIP, state: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str], list[str]]:
    """Published tensors → under our names, in float32; and what is missing, and what is left over."""
    layers = len(model.vision_blocks)
    ours, used, missing = {}, set(), []
    for name, value in model.state_dict().items():
        names = published_names(model.method, name, layers)
        absent = [their for their in names if their not in state]
        if absent:
            missing += absent
            continue
        used |= set(names)
        pieces = [state[their].float() for their in names]
        joined = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        if [n for n in joined.shape if n != 1] != [n for n in value.shape if n != 1]:
            missing.append(f"{names[0]} of shape {tuple(value.shape)}, found {tuple(joined.shape)}")
            continue
        ours[name] = joined.reshape(value.shape)
    return ours, missing, sorted(set(state) - used)
