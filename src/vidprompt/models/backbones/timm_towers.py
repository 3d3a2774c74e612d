"""timm's vision transformers within open_clip's `TimmModel`.

`VisionTransformer`: SigLIP, SigLIP 2, MobileCLIP-B, ViTamin. `Eva`: PE-Core, EVA-CLIP.
"""

from __future__ import annotations

from typing import Any

import torch
from open_clip.timm_model import TimmModel
from timm.layers import Attention, AttentionPoolLatent, AttentionRope, PatchEmbed
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block as VitBlock
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vidprompt.models.backbones.interface import Block, ImageTower, average, register_image_tower
from vidprompt.models.backbones.open_clip_towers import embed_patches
from vidprompt.models.layers.attention import AttentionMaps, InProjection, attend
from vidprompt.models.layers.frozen_weights import layer_norm, linear
from vidprompt.models.layers.low_rank import dropped_low_rank

POOLS = ("token", "avg", "map")


class TimmBlock(Block):
    """timm's `Block` of `VisionTransformer`."""

    def __init__(self, block: Any) -> None:
        self.block, self.attn = block, block.attn
        self.heads = block.attn.num_heads

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        return layer_norm(self.block.norm1, x)

    def in_projection(self) -> InProjection:
        qkv = self.attn.qkv
        return InProjection(qkv.weight, qkv.bias, dropped_low_rank(qkv, "weight"))

    def qkv_matrices(self) -> list[tuple[nn.Module, str, int]]:
        return [(self.attn.qkv, "weight", 3)]

    def output_projection(self, attended: torch.Tensor) -> torch.Tensor:
        """The projection of the heads' outputs, with the norm before it that EVA-02 has."""
        normed = layer_norm(self.attn.norm, attended)
        return linear(normed, self.attn.proj.weight, self.attn.proj.bias)

    def attention_output(self, attended: torch.Tensor) -> torch.Tensor:
        return self.block.ls1(self.output_projection(attended))

    def mlp(self, x: torch.Tensor) -> torch.Tensor:
        return self.block.ls2(self.block.mlp(layer_norm(self.block.norm2, x)))


class TimmEvaBlock(TimmBlock):
    """timm's `EvaBlock`: rotary positions of the patches, and one, or three projections."""

    def in_projection(self) -> InProjection:
        if self.attn.qkv.bias is None and getattr(self.attn, "q_bias", None) is not None:
            biases = (self.attn.q_bias, self.attn.k_bias, self.attn.v_bias)
            return super().in_projection()._replace(bias=torch.cat(biases))
        return super().in_projection()

    def qkv_matrices(self) -> list[tuple[nn.Module, str, int]]:
        if self.attn.qkv is not None:
            return super().qkv_matrices()
        attn = self.attn
        return [(one, "weight", 1) for one in (attn.q_proj, attn.k_proj, attn.v_proj)]

    def project_queries(self, x: torch.Tensor) -> torch.Tensor:
        if self.attn.qkv is not None:
            return super().project_queries(x)
        return _project(self.attn.q_proj, x)

    def project_kv(self, x: torch.Tensor) -> torch.Tensor:
        if self.attn.qkv is not None:
            return super().project_kv(x)
        return torch.cat(self._keys_and_values(x), -1)

    def project_qkv(
        self, x: torch.Tensor, num_queries: int | None = None, positions: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.attn.qkv is None:
            queries = self.project_queries(x[:, :num_queries])
            keys, values = self._keys_and_values(x)
        else:
            queries, kv = super().project_qkv(x, num_queries)
            if positions is None:
                return queries, kv
            keys, values = kv.chunk(2, -1)
        if positions is not None:
            queries, keys = self._rotate(queries, positions), self._rotate(keys, positions)
        return queries, torch.cat([keys, values], -1)

    def _keys_and_values(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of separate projections, (…, length, D) each."""
        return _project(self.attn.k_proj, x), _project(self.attn.v_proj, x)

    def _rotate(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Queries or keys (n, length, D) with the positions of the patches."""
        prefix = self.attn.num_prefix_tokens
        if x.shape[1] <= prefix:
            return x
        patches = x[:, prefix:].unflatten(-1, (self.heads, -1))
        half = getattr(self.attn, "rotate_half", False)
        placed = apply_rot_embed_cat(patches, positions[: patches.shape[1], None], half=half)
        return torch.cat([x[:, :prefix], placed.to(x.dtype).flatten(2)], 1)

    def attention_output(self, attended: torch.Tensor) -> torch.Tensor:
        out, scale = self.output_projection(attended), self.block.gamma_1
        return out if scale is None else scale * out

    def mlp(self, x: torch.Tensor) -> torch.Tensor:
        out, scale = self.block.mlp(layer_norm(self.block.norm2, x)), self.block.gamma_2
        return out if scale is None else scale * out


def _project(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """A linear layer of its own for queries, keys or values: (…, D) → (…, D)."""
    low_rank = dropped_low_rank(layer, "weight")
    out = linear(x, layer.weight, layer.bias)
    return out if low_rank is None else out + low_rank.product(x)


class TimmEvaPostNormBlock(TimmEvaBlock):
    """timm's `EvaBlockPostNorm`: the norms come after attention and MLP."""

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def attention_output(self, attended: torch.Tensor) -> torch.Tensor:
        return layer_norm(self.block.norm1, self.output_projection(attended))

    def mlp(self, x: torch.Tensor) -> torch.Tensor:
        return layer_norm(self.block.norm2, self.block.mlp(x))


class TimmTower(ImageTower):
    """What timm's two transformers have in common."""

    trunk_type: type[nn.Module]
    block_types: dict[type[nn.Module], type[TimmBlock]]
    attention_types: tuple[type[nn.Module], ...]

    @classmethod
    def takes(cls, module: nn.Module) -> bool:
        return isinstance(module, TimmModel) and isinstance(module.trunk, cls.trunk_type)

    @classmethod
    def missing(cls, module: Any) -> str:
        trunk = module.trunk
        for block in trunk.blocks:
            if type(block) not in cls.block_types:
                return f"its image blocks are timm's {type(block).__name__}"
            if reason := _missing_in_attention(block.attn, cls.attention_types):
                return f"its image blocks' attention {reason}"
        if trunk.dynamic_img_size or getattr(trunk, "rope_mixed", False):
            return "its positions change with the image or from layer to layer"
        if trunk.global_pool not in POOLS or "pool" in dict(module.head.named_children()):
            return f"its image feature is pooled in another way ({trunk.global_pool or 'none'})"
        pool = trunk.attn_pool
        if pool is not None and not _plain_pool(pool):
            return f"its attention pooling ({type(pool).__name__}) is not of one query"
        return ""

    def __init__(self, module: Any) -> None:
        self.module = module
        trunk = self.trunk = module.trunk
        self.blocks = [self.block_types[type(block)](block) for block in trunk.blocks]
        self.width = int(trunk.embed_dim)
        head = [*trunk.head.modules(), *module.head.modules()]
        widths = [self.width, *(one.out_features for one in head if isinstance(one, nn.Linear))]
        self.feature_width = int(widths[-1])
        self.image_size, self.grid = trunk.patch_embed.img_size, trunk.patch_embed.grid_size
        self.prefix = int(trunk.num_prefix_tokens)
        self.reads_class_token = trunk.global_pool == "token"

    def embed_patches(self, images: torch.Tensor) -> torch.Tensor:
        layer = self.trunk.patch_embed
        if type(layer) is PatchEmbed:
            return layer_norm(layer.norm, embed_patches(layer.proj, images))
        return layer(images)

    def prefix_tokens(self) -> torch.Tensor | None:
        tokens = [one[0] for one in (self.trunk.cls_token, self.trunk.reg_token) if one is not None]
        if not tokens:
            return None
        joint = torch.cat(tokens)
        positions = self.trunk.pos_embed
        if positions is None or self.trunk.no_embed_class:
            return joint
        return joint + positions[0, : self.prefix]

    def patch_positions(self) -> torch.Tensor | None:
        positions = self.trunk.pos_embed
        if positions is None:
            return None
        return positions[0] if self.trunk.no_embed_class else positions[0, self.prefix :]

    def norm_pre(self, tokens: torch.Tensor) -> torch.Tensor:
        return layer_norm(self.trunk.norm_pre, tokens)

    def pool(self, tokens: torch.Tensor, maps: AttentionMaps | None = None) -> torch.Tensor:
        tokens = layer_norm(self.trunk.norm, tokens)
        if self.reads_class_token:
            pooled = tokens[:, 0]
        elif self.trunk.attn_pool is not None:
            pooled = self.attention_pool(tokens, maps)
        else:
            first = 0 if getattr(self.trunk, "pool_include_prefix", False) else self.prefix
            pooled = average(tokens, first, maps)
        return self.module.head(self.trunk.head(layer_norm(self.trunk.fc_norm, pooled)))

    def attention_pool(self, tokens: torch.Tensor, maps: AttentionMaps | None) -> torch.Tensor:
        """The one output (n, D) of timm's `AttentionPoolLatent`."""
        pool = self.trunk.attn_pool
        first = 0 if self.pools_prefix else self.prefix
        queries = pool.q(pool.latent).expand(len(tokens), -1, -1)
        kv = linear(tokens[:, first:], pool.kv.weight, pool.kv.bias)
        attended = attend(queries.to(kv.dtype), kv, pool.num_heads, maps=maps, name="pool")
        out = linear(attended, pool.proj.weight, pool.proj.bias)
        return (out + pool.mlp(layer_norm(pool.norm, out)))[:, 0]

    @property
    def pools_prefix(self) -> bool:
        """True if the tokens before the patches take part in the attention pooling."""
        return bool(getattr(self.trunk, "pool_include_prefix", False))


@register_image_tower
class TimmVisionTransformer(TimmTower):
    """timm's `VisionTransformer`."""

    trunk_type = VisionTransformer
    block_types = {VitBlock: TimmBlock}  # noqa: RUF012
    attention_types = (Attention,)


@register_image_tower
class TimmEva(TimmTower):
    """timm's `Eva`."""

    trunk_type = Eva
    block_types = {EvaBlock: TimmEvaBlock, EvaBlockPostNorm: TimmEvaPostNormBlock}  # noqa: RUF012
    attention_types = (AttentionRope, EvaAttention)

    def positions(self) -> torch.Tensor | None:
        rope = self.trunk.rope
        if rope is None:
            return None
        return rope.get_embed() if hasattr(rope, "feat_shape") else rope.get_embed(shape=self.grid)

    @property
    def pools_prefix(self) -> bool:
        return True


def _missing_in_attention(attention: Any, known: tuple[type[nn.Module], ...]) -> str:
    """What an attention has that `Block` does not: "" if nothing."""
    if type(attention) not in known:
        return f"is timm's {type(attention).__name__}"
    if getattr(attention, "gate", None) is not None:
        return "is gated"
    if getattr(attention, "num_kv_groups", 1) > 1:
        return "shares keys and values among heads"
    for norm in ("q_norm", "k_norm"):
        if not isinstance(getattr(attention, norm), nn.Identity):
            return "normalises queries and keys"
    return ""


def _plain_pool(pool: Any) -> bool:
    return (
        isinstance(pool, AttentionPoolLatent)
        and pool.latent_len == 1
        and pool.pos_embed is None
        and pool.mlp is not None
        and isinstance(pool.q_norm, nn.Identity)
        and isinstance(pool.k_norm, nn.Identity)
    )
