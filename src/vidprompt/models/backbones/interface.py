"""What the methods need of a CLIP's towers and of their layers, whichever library built them.

An adapter is a view of a library's module: it computes with the module's parameters and buffers, and has none
of its own. It keeps the module and no tensor, so that moving or copying the module needs no other step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from vidprompt.models.layers.attention import (
    AttentionMaps,
    InProjection,
    attend,
    project_kv,
    project_qkv,
    project_queries,
)
from vidprompt.system.errors import UserError


class Block(ABC):
    """A transformer layer: x + attention(norm(x)), then x + MLP(x).

    `attend` and `mlp` return what is added to the tokens, with the layer's own scale or norm of it.
    """

    block: Any  # the library's module
    heads: int

    @abstractmethod
    def norm(self, x: torch.Tensor) -> torch.Tensor:
        """The norm before the attention; the tokens themselves where it comes after."""

    @abstractmethod
    def in_projection(self) -> InProjection:
        """Weights of queries, keys and values."""

    def qkv_matrices(self) -> list[tuple[nn.Module, str, int]]:
        """Where the weights of `in_projection` are: module, name, and how many matrices are joined there.

        Raises UserError where the adapter does not say.
        """
        raise UserError(
            f"{type(self).__name__} does not say which its matrices of queries, keys and values are: "
            "choose lora_matrices=all"
        )

    @abstractmethod
    def attention_output(self, attended: torch.Tensor) -> torch.Tensor:
        """Heads' outputs (n, q, D) → what the layer adds to its tokens: output projection, layer scale."""

    @abstractmethod
    def mlp(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (…, D) after the attention → what the MLP with its norm and scale adds to them."""

    def project_queries(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised tokens (n, length, D) → queries (n, length, D)."""
        return project_queries(self.in_projection(), x)

    def project_kv(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised tokens (…, length, D) → keys and values concatenated, (…, length, 2·D)."""
        return project_kv(self.in_projection(), x)

    def project_qkv(
        self, x: torch.Tensor, num_queries: int | None = None, positions: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries (n, num_queries, D) of the first normalised tokens (default: all), `project_kv` of all.

        `positions` are the tower's (`ImageTower.positions`), where x are all tokens of an image; prompts,
        which are at no place in it, have none.
        """
        del positions
        return project_qkv(self.in_projection(), x, num_queries)

    def attend(
        self,
        queries: torch.Tensor,
        kv: torch.Tensor | Sequence[torch.Tensor],
        *,
        mask: torch.Tensor | None = None,
        causal: bool = False,
        dropout: float = 0.0,
        maps: AttentionMaps | None = None,
        name: str = "",
    ) -> torch.Tensor:
        """What the attention adds to the tokens, (n, q, D); see `layers.attention.attend`."""
        attended = attend(
            queries, kv, self.heads, mask=mask, causal=causal, dropout=dropout, maps=maps, name=name
        )
        return self.attention_output(attended)


class ImageTower(ABC):
    """A vision transformer: patches, layers, and a feature read from the last layer's tokens.

    The tokens of an image are its class token, if the tower has one, other tokens of no place (registers),
    then the patches, row by row.
    """

    registered: ClassVar[list[type[ImageTower]]] = []

    blocks: list[Block]
    width: int  # D, of the tokens
    feature_width: int  # E, of the joint space
    image_size: tuple[int, int]  # height, width
    grid: tuple[int, int]  # rows and columns of patches
    prefix: int  # tokens before the patches
    reads_class_token: bool  # the feature depends on the first token of the last layer only

    @classmethod
    def takes(cls, module: nn.Module) -> bool:
        """True for the modules that this class adapts; not asked where a `CLIPModel` gives its adapter."""
        del module
        return False

    @classmethod
    def missing(cls, module: nn.Module) -> str:
        """What a module that it takes lacks or has in another way, as a sentence; "" if it can be adapted."""
        del module
        return ""

    @abstractmethod
    def __init__(self, module: nn.Module) -> None: ...

    @abstractmethod
    def embed_patches(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, 3, H, W) → patches (n, rows·columns, D) without positions."""

    @abstractmethod
    def prefix_tokens(self) -> torch.Tensor | None:
        """The tokens before the patches with their positions, (prefix, D)."""

    @abstractmethod
    def patch_positions(self) -> torch.Tensor | None:
        """Position embeddings that are added to the patches, (rows·columns, D)."""

    @abstractmethod
    def norm_pre(self, tokens: torch.Tensor) -> torch.Tensor:
        """The norm before the first layer."""

    @abstractmethod
    def pool(self, tokens: torch.Tensor, maps: AttentionMaps | None = None) -> torch.Tensor:
        """Tokens of the last layer (n, N or `num_read`, D) → image features (n, E), not normalised.

        Unless the class token is read, `maps` gets the weights of the last tokens, (n, heads, 1, N or fewer),
        as "pool".
        """

    def positions(self) -> torch.Tensor | None:
        """Rotary positions of the patches, for `Block.project_qkv`; None without them."""
        return None

    @property
    def num_tokens(self) -> int:
        """N, tokens of an image."""
        return self.prefix + self.grid[0] * self.grid[1]

    @property
    def num_read(self) -> int | None:
        """How many of the first tokens of the last layer the feature depends on; None: on all."""
        return 1 if self.reads_class_token else None

    @property
    def patch_size(self) -> tuple[int, int]:
        """Pixels of the image a patch, (height, width)."""
        return self.image_size[0] // self.grid[0], self.image_size[1] // self.grid[1]

    def embed(
        self,
        images: torch.Tensor,
        time: torch.Tensor | None = None,
        patch_bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Images (n, 3, H, W) → tokens of the first layer, (n, N, D).

        `time` (T, D) is added to all tokens of an image, the images being n / T videos' frames in their
        order; `patch_bias` (D,) to all patches.
        """
        patches, positions = self.embed_patches(images), self.patch_positions()
        if patch_bias is not None:
            positions = patch_bias if positions is None else positions + patch_bias
        if positions is not None:
            patches = patches + positions.to(patches.dtype)
        prefix, tokens = self.prefix_tokens(), patches
        if prefix is not None:
            first = prefix.to(patches.dtype).expand(len(patches), -1, -1)
            tokens = torch.cat([first, patches], 1)
        if time is not None:
            tokens = tokens + time.to(tokens.dtype).repeat(len(tokens) // len(time), 1)[:, None]
        return self.norm_pre(tokens)

    def summary(self, tokens: torch.Tensor) -> torch.Tensor:
        """One token for a whole image, (n, N, D) → (n, D): the class token, or the mean without one."""
        return tokens[:, 0] if self.prefix else tokens.mean(1)

    def summary_weights(self) -> torch.Tensor:
        """The share that each token has in `summary`, (N,)."""
        if self.prefix:
            return torch.eye(1, self.num_tokens)[0]
        return torch.full((self.num_tokens,), 1 / self.num_tokens)


def register_image_tower(adapter: type[ImageTower]) -> type[ImageTower]:
    """Make an adapter known; a class decorator. Those registered later are asked first."""
    ImageTower.registered.insert(0, adapter)
    return adapter


class TextTower(ABC):
    """A text transformer, whose feature is read at one position of a text."""

    registered: ClassVar[list[type[TextTower]]] = []

    blocks: list[Block]
    width: int  # W, of the tokens
    context_length: int  # tokens of a text
    causal: bool  # a token attends to itself and earlier ones only

    @classmethod
    def takes(cls, clip: nn.Module) -> bool:
        """True for the models whose text tower this class adapts; not asked as in `ImageTower.takes`."""
        del clip
        return False

    @classmethod
    def missing(cls, clip: nn.Module) -> str:
        """What the text tower lacks or has in another way, as a sentence; "" if it can be adapted."""
        del clip
        return ""

    @abstractmethod
    def __init__(self, clip: nn.Module) -> None: ...

    @abstractmethod
    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids (n, length) → token embeddings (n, length, W) without positions."""

    @abstractmethod
    def positions(self) -> torch.Tensor:
        """Position embeddings (context length, W)."""

    @abstractmethod
    def read_at(self, tokens: torch.Tensor) -> torch.Tensor:
        """The position (n,) at which the feature of each text (n, context length) is read."""

    @abstractmethod
    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (n, W) of the last layer → text features (n, E), not normalised."""

    def needed_length(self, ends: torch.Tensor) -> int:
        """How many first tokens the features of texts that are read at `ends` (n,) depend on."""
        return int(ends.max()) + 1 if self.causal else self.context_length


def register_text_tower(adapter: type[TextTower]) -> type[TextTower]:
    """Make an adapter known; a class decorator. Those registered later are asked first."""
    TextTower.registered.insert(0, adapter)
    return adapter


def average(tokens: torch.Tensor, first: int, maps: AttentionMaps | None = None) -> torch.Tensor:
    """Mean (n, D) of the tokens (n, N, D) from `first` on; `maps` gets its weights as "pool"."""
    if maps is None:
        return tokens[:, first:].mean(1)
    count = tokens.shape[1] - first
    # an explanation asks for the gradient of the weights
    maps["pool"] = tokens.new_full((len(tokens), 1, 1, count), 1 / count).requires_grad_()
    return (maps["pool"][:, 0] @ tokens[:, first:])[:, 0]
