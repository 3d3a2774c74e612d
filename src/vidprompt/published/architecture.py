"""Read the architecture of a published model from the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from vidprompt.system.errors import UserError

HEAD_WIDTH = 64  # of all CLIP ViTs that the published code supports


@dataclass
class Architecture:
    """Everything needed to build a published model again."""

    method: str
    num_frames: int
    clip: dict[str, Any]  # an open_clip model config
    options: dict[str, Any] = field(default_factory=dict)  # of the method
    classes: int = 0  # class-specific contexts; 0 = shared or none


def read_architecture(state: Mapping[str, torch.Tensor], method: str) -> Architecture:
    """Read the architecture from a published state dict. Raises UserError if a tensor is missing."""
    try:
        return _ez_clip(state) if method == "ez_clip" else _vita_clip(state)
    except KeyError as error:
        raise UserError(f"the published {method} state has no tensor {error}") from error


def _clip_config(
    state: Mapping[str, torch.Tensor],
    patches: str,
    positions: str,
    blocks: str,
    mlp: str,
    text: str,
) -> dict[str, Any]:
    conv, position = state[patches], state[positions]
    width, patch = int(conv.shape[0]), int(conv.shape[-1])
    grid = round((position.shape[-2] - 1) ** 0.5)
    context, text_width = state[f"{text}positional_embedding"].shape
    hidden = state[f"{blocks}0.mlp.{mlp}.weight"].shape[0]
    text_hidden = state[f"{text}transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    return {
        "embed_dim": int(state["visual.proj"].shape[1]),
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": grid * patch,
            "layers": _layers(state, blocks),
            "width": width,
            "head_width": HEAD_WIDTH,
            "patch_size": patch,
            "mlp_ratio": _ratio(hidden, width),
        },
        "text_cfg": {
            "context_length": int(context),
            "vocab_size": int(state[f"{text}token_embedding.weight"].shape[0]),
            "width": int(text_width),
            "heads": max(1, int(text_width) // HEAD_WIDTH),
            "layers": _layers(state, f"{text}transformer.resblocks."),
            "mlp_ratio": _ratio(text_hidden, int(text_width)),
        },
    }


def _ratio(hidden: int, width: int) -> float:
    """The mlp_ratio from which open_clip, which rounds down, computes `hidden`."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width


def _layers(state: Mapping[str, torch.Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def _ez_clip(state: Mapping[str, torch.Tensor]) -> Architecture:
    blocks = "visual.transformer.resblocks."
    clip = _clip_config(
        state, "visual.conv1.weight", "visual.positional_embedding", blocks, "c_fc", ""
    )
    middle = state[f"{blocks}0.Adapter.D_fc1.weight"]
    return Architecture(
        method="ez_clip",
        num_frames=int(state["visual.temporal_embedding"].shape[1]),
        clip=clip,
        options={
            "adapter_ratio": middle.shape[0] / middle.shape[1],
            "temporal_prompts": "visual.transformer.T_prompt_embeddings" in state,
        },
    )


def _vita_clip(state: Mapping[str, torch.Tensor]) -> Architecture:
    clip = _clip_config(
        state,
        "visual.patch_embed.proj.weight",
        "visual.pos_embed",
        "visual.blocks.",
        "fc1",
        "textual.",
    )
    contexts = state["prompt_learner.ctx"]
    shared = contexts.ndim == 2
    return Architecture(
        method="vita_clip",
        num_frames=int(state["visual.time_embed"].shape[-2]),
        clip=clip,
        options={
            "global_prompts": int(state["visual.global_prompts"].shape[-2]),
            "context": "shared" if shared else "class",
            "context_length": int(contexts.shape[-2]),
            "clean_names": False,
        },
        classes=0 if shared else len(contexts),
    )
