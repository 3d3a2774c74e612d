"""open_clip's own vision transformer and text transformer."""

from __future__ import annotations

from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import (
    QuickGELU,
    ResidualAttentionBlock,
    TextTransformer,
    VisionTransformer,
)
from torch import nn

from vidprompt.models.backbones.interface import (
    Block,
    ImageTower,
    TextTower,
    average,
    register_image_tower,
    register_text_tower,
)
from vidprompt.models.layers.attention import AttentionMaps, InProjection, in_projection, on_cpu
from vidprompt.models.layers.frozen_weights import layer_norm, linear, weight_of


class OpenClipBlock(Block):
    """open_clip's `ResidualAttentionBlock`."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        self.block = block
        self.heads = block.attn.num_heads

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        return layer_norm(self.block.ln_1, x)

    def in_projection(self) -> InProjection:
        return in_projection(self.block.attn)

    def qkv_matrices(self) -> list[tuple[nn.Module, str, int]]:
        return [(self.block.attn, "in_proj_weight", 3)]

    def attention_output(self, attended: torch.Tensor) -> torch.Tensor:
        out = self.block.attn.out_proj
        return self.block.ls_1(linear(attended, out.weight, out.bias))

    def mlp(self, x: torch.Tensor) -> torch.Tensor:
        return self.block.ls_2(_mlp(self.block.mlp, layer_norm(self.block.ln_2, x)))


def _mlp(layers: Any, x: torch.Tensor) -> torch.Tensor:
    """A frozen MLP on normalised tokens, (…, D) → (…, D).

    QuickGELU, x·σ(1.702·x), is computed as silu(1.702·x) / 1.702 with the factors folded into the matrix
    products: one pass over the wide activations instead of three, and a third of the memory that autograd
    would keep.
    """
    if not isinstance(layers.gelu, QuickGELU):
        return layers(x)
    scale, flat = 1.702, x.reshape(-1, x.shape[-1])
    first, last = layers.c_fc, layers.c_proj
    # A bias of factor 1 is part of the product. Inductor drops `alpha` of the sum below (PyTorch 2.13).
    if not on_cpu(x) or torch.compiler.is_compiling():
        hidden = F.linear(x, weight_of(first.weight, scale), weight_of(first.bias, scale))
        return F.linear(F.silu(hidden), weight_of(last.weight, 1 / scale), weight_of(last.bias))
    hidden = torch.addmm(first.bias, flat, first.weight.T, beta=scale, alpha=scale)
    out = F.silu(hidden) @ last.weight.T
    # under autocast the bias is cast: a sum with float32 would be float32, and so all later layers
    return torch.add(last.bias.to(out.dtype), out, alpha=1 / scale).reshape(x.shape)


def _missing_in_blocks(transformer: Any, side: str) -> str:
    blocks = {type(block).__name__ for block in transformer.resblocks}
    other = blocks - {ResidualAttentionBlock.__name__}
    return f"its {side} blocks are not CLIP's ({', '.join(sorted(other))})" if other else ""


def embed_patches(conv: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    """Images (n, 3, H, W) → patches (n, rows·columns, D) of a convolution.

    On a GPU as a matrix product: cuDNN's convolution of patches took ten times as long in half precision.
    """
    if on_cpu(images) or conv.stride != conv.kernel_size or any(conv.padding):
        return conv(images).flatten(2).transpose(1, 2)
    weight = weight_of(conv.weight)
    height, width = conv.kernel_size
    rows, columns = images.shape[-2] // height, images.shape[-1] // width
    pixels = images[..., : rows * height, : columns * width].to(weight.dtype)
    pixels = pixels.unflatten(-1, (columns, width)).unflatten(-3, (rows, height))
    pixels = pixels.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    return F.linear(pixels, weight.flatten(1), conv.bias)


@register_image_tower
class OpenClipImageTower(ImageTower):
    """open_clip's `VisionTransformer`, read at its class token or from the mean of its patches."""

    @classmethod
    def takes(cls, module: nn.Module) -> bool:
        return isinstance(module, VisionTransformer)

    @classmethod
    def missing(cls, module: Any) -> str:
        if module.attn_pool is not None or module.pool_type not in ("tok", "avg"):
            return (
                "its image feature is read through several queries, of which CLIP's loss sees one"
            )
        return _missing_in_blocks(module.transformer, "image")

    def __init__(self, module: Any) -> None:
        self.module = module
        self.blocks = [OpenClipBlock(block) for block in module.transformer.resblocks]
        self.feature_width = int(module.proj.shape[1])
        self.width = int(module.class_embedding.shape[0])
        self.image_size, self.grid = module.image_size, module.grid_size
        self.prefix = 1
        self.reads_class_token = module.pool_type == "tok"

    def embed_patches(self, images: torch.Tensor) -> torch.Tensor:
        return embed_patches(self.module.conv1, images)

    def prefix_tokens(self) -> torch.Tensor:
        return (self.module.class_embedding + self.module.positional_embedding[0])[None]

    def patch_positions(self) -> torch.Tensor:
        return self.module.positional_embedding[1:]

    def norm_pre(self, tokens: torch.Tensor) -> torch.Tensor:
        return layer_norm(self.module.ln_pre, tokens)

    def pool(self, tokens: torch.Tensor, maps: AttentionMaps | None = None) -> torch.Tensor:
        norm, projection = self.module.ln_post, self.module.proj
        if self.reads_class_token:
            return layer_norm(norm, tokens[:, 0]) @ projection
        if self.module.final_ln_after_pool:
            return layer_norm(norm, average(tokens, self.prefix, maps)) @ projection
        return average(layer_norm(norm, tokens), self.prefix, maps) @ projection


def eot_positions(tokens: torch.Tensor) -> torch.Tensor:
    """Position of CLIP's end-of-text token (the highest id) of each text: (n, context) → (n,)."""
    return tokens.argmax(-1)


@register_text_tower
class OpenClipTextTower(TextTower):
    """open_clip's text transformer: part of its `CLIP`, or a `TextTransformer` of its own."""

    @classmethod
    def takes(cls, clip: Any) -> bool:
        return isinstance(clip, open_clip.CLIP) or isinstance(clip.text, TextTransformer)

    @classmethod
    def missing(cls, clip: Any) -> str:
        tower, pool = _owner(clip)
        if getattr(tower, "cls_emb", None) is not None or getattr(tower, "use_pad_mask", False):
            return (
                "its text feature is read from a token after the text, with a mask of the padding"
            )
        if pool not in ("argmax", "eos", "first", "last"):
            return f"its text feature is read in another way ({pool}) than from one token"
        return _missing_in_blocks(tower.transformer, "text")

    def __init__(self, clip: Any) -> None:
        self.module, self.pool_type = _owner(clip)
        self.blocks = [OpenClipBlock(block) for block in self.module.transformer.resblocks]
        self.width = int(self.module.token_embedding.weight.shape[1])
        self.context_length = int(self.module.context_length)
        self.causal = self.module.attn_mask is not None

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.module.token_embedding(tokens)

    def positions(self) -> torch.Tensor:
        return self.module.positional_embedding

    def read_at(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.pool_type == "argmax":
            return eot_positions(tokens)
        if self.pool_type == "eos":
            module = self.module
            end = module.text_eos_id if isinstance(module, open_clip.CLIP) else module.eos_id
            return (tokens == end).int().argmax(-1)
        last = tokens.shape[1] - 1 if self.pool_type == "last" else 0
        return torch.full_like(tokens[:, 0], last)

    def project(self, x: torch.Tensor) -> torch.Tensor:
        features = layer_norm(self.module.ln_final, x)
        projection = self.module.text_projection
        if projection is None:
            return features
        if isinstance(projection, nn.Linear):
            return projection(features)
        return features @ projection


def _owner(clip: Any) -> tuple[Any, str]:
    """The module with the text tower's parts, and how its feature is read."""
    if isinstance(clip, open_clip.CLIP):
        return clip, clip.text_pool_type
    return clip.text, clip.text.pool_type
