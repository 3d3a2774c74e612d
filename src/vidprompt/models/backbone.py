"""Backbones: an open_clip ViT with its own causal text transformer, by tag or from local files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import load_file
from torch import nn

from vidprompt.atomic import sha256
from vidprompt.errors import UserError


@dataclass
class Backbone:
    """A CLIP, its tokenizer, and where its weights came from."""

    clip: open_clip.CLIP
    tokenizer: Any  # callable: list[str] → (n, context length) int64
    tag: str
    checksum: str  # SHA-256 of the weights file; of nothing ("") for named open_clip weights
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def load_backbone(spec: str | Mapping[str, Any]) -> Backbone:
    """Load a backbone.

    `spec` is an open_clip name ("ViT-B-16", random weights), or a mapping with either
    `{name, pretrained}` (open_clip's registry) or `{name, config: file, weights: file}` (an open_clip
    model config as JSON and a safetensors file). Raises UserError when a file is missing or the model
    is not a ViT with a text transformer of its own.
    """
    if isinstance(spec, str):
        spec = {"name": spec}
    name = str(spec.get("name", ""))
    if spec.get("weights"):
        clip, checksum, context = _from_files(spec)
        tokenizer: Any = open_clip.SimpleTokenizer(context_length=context)
    else:
        if name not in open_clip.list_models():
            raise UserError(
                f"backbone {name!r} is not an open_clip model; `python -c 'import open_clip; "
                "print(open_clip.list_models())'` lists them"
            )
        clip = open_clip.create_model(name, pretrained=spec.get("pretrained") or None)
        tokenizer, checksum = open_clip.get_tokenizer(name), ""
    _refuse_what_does_not_fit(clip, name)
    clip.requires_grad_(False)
    size = clip.visual.image_size
    return Backbone(
        clip=clip,
        tokenizer=tokenizer,
        tag=":".join(str(part) for part in (name, spec.get("pretrained")) if part),
        checksum=checksum,
        image_size=size[0] if isinstance(size, tuple) else int(size),
        mean=tuple(getattr(clip.visual, "image_mean", None) or open_clip.OPENAI_DATASET_MEAN),
        std=tuple(getattr(clip.visual, "image_std", None) or open_clip.OPENAI_DATASET_STD),
    )


def _from_files(spec: Mapping[str, Any]) -> tuple[open_clip.CLIP, str, int]:
    weights, config_file = Path(spec["weights"]), Path(spec.get("config") or "")
    for path in (weights, config_file):
        if not path.is_file():
            raise UserError(
                f"backbone file {path} is not there; `dvc pull data.dvc` fetches the demo's"
            )
    config = json.loads(config_file.read_text())
    clip = open_clip.CLIP(**config)
    state = {key: value.float() for key, value in load_file(weights).items()}
    clip.load_state_dict(state)
    context = config["text_cfg"].get("context_length", 77)
    return clip, sha256(weights), context


def _refuse_what_does_not_fit(clip: nn.Module, name: str) -> None:
    visual = getattr(clip, "visual", None)
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    if blocks is None or not hasattr(visual, "class_embedding"):
        raise UserError(
            f"backbone {name!r}: its image tower is {type(visual).__name__}, and the methods need a "
            "ViT with a class token (open_clip's VisionTransformer)"
        )
    if not isinstance(clip, open_clip.CLIP):
        raise UserError(
            f"backbone {name!r} ({type(clip).__name__}) has no causal text transformer of CLIP's own, "
            "which the text adapters and learned contexts go into"
        )


def text_width(clip: open_clip.CLIP) -> int:
    """Width of the text transformer."""
    return int(clip.token_embedding.weight.shape[1])


def encode_embedded(
    clip: open_clip.CLIP,
    embedded: torch.Tensor,
    tokens: torch.Tensor,
    layers: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Texts given as embeddings (n, context, W) through `layers` → features (n, E), not normalised.

    `tokens` (n, context) tell where each text ends. Positions after the last end-of-text are cut off:
    the mask is causal, so nothing changes.
    """
    ends = tokens.argmax(-1)  # the end-of-text token has the highest id
    length = int(ends.max()) + 1
    x = embedded[:, :length] + clip.positional_embedding[:length]
    x = layers(x, clip.attn_mask[:length, :length].to(x.dtype))
    x = x[torch.arange(len(x), device=x.device), ends]
    return clip.ln_final(x) @ clip.text_projection
