"""Small CLIPs of each family with random weights, built by open_clip's and timm's own constructors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

import open_clip
import timm
import torch
from open_clip.factory import get_model_config

from vidprompt.models.backbones.loading import Backbone, build_clip, from_clip
from vidprompt.models.backbones.tokenizer import Tokenizer

SMALL = {"embed_dim": 64, "num_heads": 4, "depth": 3, "img_size": 64}
WORDS = 500  # ids of the small vocabulary


@dataclass
class Family:
    """A registered name, and how its image tower becomes small."""

    name: str
    vision: dict[str, Any] = field(
        default_factory=dict
    )  # of timm's constructor, or open_clip's config
    context: int = 12


FAMILIES = {
    family.name: family
    for family in (
        Family("ViT-B-16"),
        Family("ViT-B-16-quickgelu"),
        Family("ViT-M-16-alt"),  # layer scale
        Family("PE-Core-B-16", SMALL | {"attn_pool_num_heads": 2}),
        Family("EVA02-B-16", SMALL),
        Family("EVA01-g-14", SMALL | {"patch_size": 16}),
        Family("EVA02-E-14", SMALL | {"patch_size": 16}),  # norms after attention and MLP
        Family("MobileCLIP-B", {"depth": 2, "img_size": 32}),
        Family("MobileCLIP2-L-14", SMALL | {"patch_size": 16}),  # its text is not causal
        Family("ViT-B-16-SigLIP", SMALL),
        Family("ViT-B-16-SigLIP2", SMALL),
        Family("ViT-L-14-CLIPA"),
        Family("ViT-H-14-worldwide-quickgelu"),
        Family("vit_medium_patch16_gap_256", SMALL),
        Family("ViTamin-S", {"depth": 2, "img_size": 64}),
    )
}


class Words(Tokenizer):
    """A tokenizer of words with the start, end and padding of a family's own."""

    def __init__(self, context: int, start: Sequence[int], end: int, pad: int) -> None:
        super().__init__({}, context)
        self.known: dict[str, int] = {}
        self.parts = (list(start), end, pad)

    def __call__(
        self, texts: str | Sequence[str], context_length: int | None = None
    ) -> torch.Tensor:
        start, end, pad = self.parts
        context = context_length or self.context_length
        rows = []
        for text in [texts] if isinstance(texts, str) else texts:
            words = text.replace(".", " .").split()
            ids = [self.known.setdefault(word, 10 + len(self.known)) for word in words]
            line = [*[*start, *ids][: context - 1], end]
            rows.append(line + [pad] * (context - len(line)))
        return torch.tensor(rows)


def tokenizer(name: str, context: int) -> Tokenizer:
    """CLIP's own, or one of words in the form of the family's: T5's, Gemma's, BERT's, XLM's, mT5's."""
    if "SigLIP2" in name:
        return Words(context, [], end=1, pad=0)
    if "SigLIP" in name:
        return Words(context, [], end=1, pad=1)
    if "CLIPA" in name:
        return Words(context, [7], end=0, pad=0)  # the separator is stripped
    if "worldwide" in name:
        return Words(context, [0], end=2, pad=1)
    return Tokenizer({}, context)


def small_config(family: Family) -> dict[str, Any]:
    """The registered configuration with a small text tower, and a small image tower of open_clip's."""
    config = get_model_config(family.name)
    assert config is not None
    text = config["text_cfg"]
    text |= {"width": 64, "heads": 2, "layers": 2, "context_length": family.context, "mlp_ratio": 2}
    if text.get("hf_tokenizer_name"):
        text["vocab_size"] = WORDS
    config["embed_dim"] = 32 if config["vision_cfg"].get("timm_proj") != "none" else 64
    if family.name == "MobileCLIP-B":
        config["embed_dim"] = 32
    if not config["vision_cfg"].get("timm_model_name"):
        config["vision_cfg"] |= {"width": 64, "layers": 3, "head_width": 16, "patch_size": 16}
        config["vision_cfg"]["image_size"] = 64
    return config


def small_family(name: str) -> Backbone:
    """A small model of the family, 64×64 pixels in patches of 16 (MobileCLIP-B: 32×32)."""
    family = FAMILIES[name]
    torch.manual_seed(0)
    create = partial(timm.create_model, **family.vision)
    with mock.patch("open_clip.timm_model.timm.create_model", create):
        clip = build_clip(small_config(family))
    randomise(clip)
    backbone = from_clip(clip, name, "", tokenizer=tokenizer(name, family.context))
    assert isinstance(clip, open_clip.CLIP | open_clip.CustomTextCLIP)
    return backbone


def randomise(module: torch.nn.Module) -> None:
    """Give values to what starts at zero, one or almost: tests would pass without it."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.ndim < 2 or "token" in name or "latent" in name:
                value.add_(0.1 * torch.randn_like(value))
        for one in module.modules():
            if isinstance(one, torch.nn.Linear) and one.weight.std() < 0.03:  # timm's start
                one.weight.mul_(4)
            if isinstance(one, torch.nn.BatchNorm2d):
                one.running_mean.add_(0.1 * torch.randn_like(one.running_mean))
                one.running_var.mul_(1 + 0.3 * torch.rand_like(one.running_var))
