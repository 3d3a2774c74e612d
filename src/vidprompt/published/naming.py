"""Map tensor names between VidPrompt's models and the published checkpoints.

A tensor here is one or several published tensors, concatenated along the first dimension: the published code
has separate queries, keys and values, and one tensor a layer where VidPrompt has one for all layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from vidprompt.models.methods.video_clip import VideoCLIP

_QKV = "qkv"

# VidPrompt's name (a full-match pattern) → published names; `*` stands for every layer
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
    """Published names of tensor `name` of a model with `layers` vision layers; raises KeyError if unknown."""
    for pattern, templates in _RULES[method]:
        match = re.fullmatch(pattern, name)
        if match:
            names = [match.expand(template) for template in templates]
            if "*" in names[0]:
                return [names[0].replace("*", str(layer)) for layer in range(layers)]
            return names
    raise KeyError(name)


def to_published(model: VideoCLIP, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename tensors (parameters, or their gradients) of a model to the published names."""
    layers = len(model.vision_blocks)
    out: dict[str, torch.Tensor] = {}
    for own_name, value in tensors.items():
        names = published_names(model.method, own_name, layers)
        pieces = [value] if len(names) == 1 else value.chunk(len(names))
        if own_name == "context.vectors" and model.context is not None and model.context.shared:
            pieces = [value[0]]
        out |= {name: piece.contiguous() for name, piece in zip(names, pieces, strict=True)}
    return out


def from_published(
    model: VideoCLIP, state: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str], list[str]]:
    """Rename published tensors to a model's names, in float32; also the missing and the unused names."""
    layers = len(model.vision_blocks)
    tensors, used, missing = {}, set(), []
    for name, value in model.state_dict().items():
        names = published_names(model.method, name, layers)
        absent = [published for published in names if published not in state]
        if absent:
            missing += absent
            continue
        used |= set(names)
        pieces = [state[published].float() for published in names]
        joined = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        if [n for n in joined.shape if n != 1] != [n for n in value.shape if n != 1]:
            missing.append(f"{names[0]} of shape {tuple(value.shape)}, found {tuple(joined.shape)}")
            continue
        tensors[name] = joined.reshape(value.shape)
    return tensors, missing, sorted(set(state) - used)
