"""Load a backbone: a CLIP of open_clip's, by tag or from local files, or a whole model of a plug-in."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from inspect import signature
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import load_checkpoint
from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from vidprompt.config.plugins import find_plugin
from vidprompt.files.hashes import sha256
from vidprompt.models.backbones.clip_model import CLIPModel, Tokenize
from vidprompt.models.backbones.interface import ImageTower, TextTower
from vidprompt.models.backbones.local_files import tokenizer_digest
from vidprompt.models.backbones.specification import (
    Spec,
    as_mapping,
    existing_file,
    model_config,
    pixels_of_all_tags,
    weights_file,
)
from vidprompt.models.backbones.tokenizer import Tokenizer
from vidprompt.models.backbones.towers import (
    BACKBONES,
    build_model,
    errors_of,
    image_tower,
    text_tower,
    use_towers,
    why_refused,
)
from vidprompt.models.foreign_checkpoint import harmless_objects, why_not_loaded
from vidprompt.system.cores import available_cores
from vidprompt.system.errors import UserError, first_line


@dataclass
class Backbone:
    """A CLIP, its tokenizer, the origin of its weights, and the size and statistics of its pixels."""

    clip: open_clip.CLIP | open_clip.CustomTextCLIP | CLIPModel
    tokenizer: Tokenizer
    tag: str  # name[:pretrained][@image size]
    checksum: str  # SHA-256 of the weights file; "" for random weights until `identity` is called
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    spec: Mapping[str, Any] = field(default_factory=dict)  # builds it again, see `load_backbone`

    @cached_property
    def image_tower(self) -> ImageTower:
        return image_tower(self.clip)

    @cached_property
    def text_tower(self) -> TextTower:
        return text_tower(self.clip)

    def identity(self) -> str:
        """The checksum; for random or imported weights one over all tensors, computed once."""
        if not self.checksum:
            self.checksum = weights_digest(self.clip.state_dict())
        return self.checksum

    def copy(self) -> Backbone:
        """A backbone with weights of its own, for a model that trains them; `identity` stays the same."""
        if not self.clip.logit_scale.is_meta:  # without values there is no checksum
            self.identity()
        return replace(self, clip=deepcopy(self.clip))


def load_backbone(spec: Spec) -> Backbone:
    """Load a backbone.

    Args:
        spec: an open_clip name ("ViT-B-16": random weights; "ViT-B-16:openai": pretrained;
            "hf-hub:ORG/NAME": of the Hugging Face Hub; "local-dir:PATH": a folder with such files), or a
            mapping with `name` and any of
            `pretrained`: a tag of open_clip's registry;
            `weights`: a local file instead (safetensors, or PyTorch's with `weights_only`);
            `config`: an open_clip model config, or a JSON file with one (also a folder's
            open_clip_config.json), for a name not in the registry;
            `image_size`: another input size; the position embeddings are interpolated;
            `quick_gelu`: the activation of a local file (a tag has its own);
            `tokenizer`: a folder with the files of the tokenizer, where it is not CLIP's own;
            `towers`: a plug-in whose adapters take the model's towers;
            `loader`: a plug-in that builds the whole model instead of open_clip, with its `options`; then
            `pretrained` is a name of its weights, and `name` any text;
            `mean`, `std`: the statistics of its pixels, where they are not OpenAI's or the tag's.

    Raises UserError when a file is missing or damaged, a name or tag unknown, or the methods do not run on
    the model (`unsupported_reason`).
    """
    _limit_threads()
    spec = as_mapping(spec)
    if spec.get("loader"):
        return _load_plugin(spec)
    if spec.get("towers"):
        use_towers(str(spec["towers"]))
    if spec.get("options"):
        raise UserError(
            "backbone.options are of a plug-in that builds a model: name it by backbone.loader"
        )
    name, pretrained = str(spec.get("name", "")), str(spec.get("pretrained") or "")
    config = model_config(name, spec.get("config"))
    reason = unsupported_reason(config)
    if reason:
        raise UserError(f"backbone {name!r} does not fit: {reason}")
    file, pretrained_cfg = weights_file(name, pretrained, spec.get("weights"))
    quick_gelu = spec.get("quick_gelu")
    if quick_gelu is None and pretrained_cfg:
        quick_gelu = bool(pretrained_cfg.get("quick_gelu", False))
        if quick_gelu != bool(config.get("quick_gelu", False)):
            activation = "QuickGELU" if quick_gelu else "GELU"
            warnings.warn(
                f"{name}: the weights {pretrained!r} were trained with {activation}, which is used",
                stacklevel=2,
            )
    if quick_gelu is not None:
        config["quick_gelu"] = quick_gelu
    size = int(spec["image_size"]) if spec.get("image_size") else None
    try:
        if size:
            config["vision_cfg"]["image_size"] = size
        clip = build_clip(config)
    except (TypeError, ValueError) as error:
        raise UserError(f"backbone {name!r} cannot be built: {error}") from error
    if file is not None:
        _load_weights(clip, file, name)
    if size and hasattr(clip.visual, "set_input_size"):  # timm's, after its weights
        clip.visual.set_input_size(size)
    tag = ":".join(str(part) for part in (name, pretrained) if part)
    if spec.get("image_size"):
        tag += f"@{spec['image_size']}"
    pixels = {key: spec[key] for key in ("mean", "std") if spec.get(key)}
    pixels = (pretrained_cfg or pixels_of_all_tags(name)) | pixels
    folder = str(spec["tokenizer"]) if spec.get("tokenizer") else None
    tokenizer = Tokenizer(config["text_cfg"], text_tower(clip).context_length, folder)
    backbone = from_clip(clip, tag, sha256(file) if file else "", pixels, tokenizer)
    weights = str(spec["weights"]) if spec.get("weights") else None
    own = {"name": name, "pretrained": pretrained or None, "config": config, "weights": weights}
    own |= {"image_size": spec.get("image_size"), "quick_gelu": quick_gelu, "tokenizer": folder}
    if spec.get("towers"):
        own["towers"] = str(spec["towers"])
    if folder:
        own["tokenizer_digest"] = tokenizer_digest(Path(folder))
    return replace(backbone, spec=own | {"mean": list(backbone.mean), "std": list(backbone.std)})


def _limit_threads() -> None:
    """Give PyTorch no more threads than cores, unless OMP_NUM_THREADS says how many.

    It counts the machine's; where a container's CPU time is limited, more of them wait for each other.
    """
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > available_cores():
        torch.set_num_threads(available_cores())


def _load_plugin(spec: Mapping[str, Any]) -> Backbone:
    """The backbone of a plug-in's `CLIPModel`, with the weights of a file, of a name, or random ones."""
    loader, options = str(spec["loader"]), dict(spec.get("options") or {})
    for key in ("config", "image_size", "quick_gelu", "towers"):
        if spec.get(key) is not None:
            raise UserError(
                f"backbone.{key} is of models that open_clip builds: this one has the loader {loader}, with "
                "backbone.options"
            )
    if loader not in BACKBONES and (origin := str(spec.get("plugin") or "")):
        package = origin.partition(" ")[0]
        raise UserError(
            f"the backbone {loader} is a plug-in of {origin}, which is not installed: pip install {package}"
        )
    clip = build_model(loader, options)
    name, pretrained = str(spec.get("name") or loader), str(spec.get("pretrained") or "")
    weights, file = spec.get("weights"), None
    if weights:
        file = existing_file(weights)
    elif pretrained:
        with errors_of(loader, "cannot be loaded"):
            file = existing_file(clip.weights_file(pretrained))
    if file is not None:
        _load_weights(clip, file, name)
    tag = ":".join(part for part in (name, pretrained) if part)
    folder = str(spec["tokenizer"]) if spec.get("tokenizer") else None
    with errors_of(loader, "cannot be used"):
        length = clip.text_tower().context_length
        tokenizer = Tokenizer({}, length, folder, partial(_tokenizer_of, clip, loader))
        backbone = from_clip(clip, tag, sha256(file) if file else "", spec, tokenizer)
    plugin = find_plugin("backbones", loader)
    own: dict[str, Any] = {
        "name": name,
        "pretrained": pretrained or None,
        "weights": str(weights) if weights else None,
    }
    own |= {"tokenizer": folder, "loader": loader, "options": options}
    own |= {"plugin": plugin.origin} if plugin else {}
    own |= {"tokenizer_digest": tokenizer_digest(Path(folder))} if folder else {}
    return replace(backbone, spec=own | {"mean": list(backbone.mean), "std": list(backbone.std)})


def _tokenizer_of(clip: CLIPModel, loader: str) -> Tokenize | None:
    with errors_of(loader, "has a tokenizer that cannot be loaded"):
        return clip.tokenizer()


def from_clip(
    clip: open_clip.CLIP | open_clip.CustomTextCLIP | CLIPModel,
    tag: str,
    checksum: str,
    pretrained_cfg: Mapping[str, Any] | None = None,
    tokenizer: Tokenizer | None = None,
) -> Backbone:
    """The backbone of a built CLIP, with the pixel mean and std of open_clip's `pretrained_cfg` if given.

    Mean, std and `tokenizer` are by default those of a `CLIPModel`, OpenAI's for others. Raises UserError if
    the methods do not run on the model, or its input is not square.
    """
    cfg = pretrained_cfg or {}
    own = clip if isinstance(clip, CLIPModel) else None
    if reason := why_refused(clip):
        raise UserError(f"backbone {tag} does not fit: {reason}")
    size = image_tower(clip).image_size
    if size[0] != size[1]:
        raise UserError(f"backbone {tag}: frames are square here, and it takes {size[0]}×{size[1]}")
    make = own.tokenizer if own else None
    return Backbone(
        clip=clip.requires_grad_(False).eval(),
        tokenizer=tokenizer or Tokenizer({}, text_tower(clip).context_length, make=make),
        tag=tag,
        checksum=checksum,
        image_size=int(size[0]),
        mean=tuple(cfg.get("mean") or (own.mean if own else open_clip.OPENAI_DATASET_MEAN)),
        std=tuple(cfg.get("std") or (own.std if own else open_clip.OPENAI_DATASET_STD)),
    )


def unsupported_reason(config: Mapping[str, Any]) -> str:
    """Why the methods do not run on a model of this open_clip config; "" if they do.

    What its configuration does not tell is asked of the model, built without memory for its weights.
    """
    if reason := _no_two_towers(config):
        return reason
    try:
        with torch.device("meta"):
            return why_refused(build_clip(config))
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        return f"open_clip cannot build it: {first_line(error)}"


def _no_two_towers(config: Mapping[str, Any]) -> str:
    """What of an open_clip config is not an image tower and a text tower of open_clip's; "" if all is."""
    parts = {"vision_cfg": CLIPVisionCfg, "text_cfg": CLIPTextCfg}
    for part, known in parts.items():
        if not isinstance(config.get(part), Mapping):
            return (
                f"its configuration has no {part}: it is no CLIP of an image tower and a text tower"
            )
        unknown = sorted(set(config[part]) - {one.name for one in fields(known)})
        if unknown:
            return f"its {part} has {unknown[0]}, which this version of open_clip does not know"
    unknown = sorted(set(config) - {"custom_text", *signature(open_clip.CLIP).parameters})
    if unknown:
        return (
            f"its configuration has {unknown[0]}: it is more than an image tower and a text tower"
        )
    if config["text_cfg"].get("hf_model_name"):
        return (
            f"its text tower is Hugging Face's {config['text_cfg']['hf_model_name']}, and not a "
            "transformer of open_clip's"
        )
    return ""


def build_clip(config: Mapping[str, Any]) -> open_clip.CLIP | open_clip.CustomTextCLIP:
    """A model of an open_clip config with random weights; of timm's tower too."""
    own = deepcopy(dict(config))
    kind = open_clip.CustomTextCLIP if own.pop("custom_text", False) else open_clip.CLIP
    own["vision_cfg"]["timm_model_pretrained"] = False
    return kind(**own)


def hub_tokenizer(spec: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer that the Hugging Face Hub has for a backbone's specification; None where it is
    CLIP's own or lies in a folder."""
    if spec.get("tokenizer") or spec.get("loader"):
        return None
    spec = as_mapping(spec)
    text_cfg = model_config(str(spec.get("name", "")), spec.get("config"))["text_cfg"]
    tokenizer = Tokenizer(text_cfg, CLIPTextCfg.context_length)
    return tokenizer if tokenizer.name else None


def weights_digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the names, shapes and values of tensors."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _load_weights(clip: torch.nn.Module, file: Path, name: str) -> None:
    """Load weights as float32; open_clip interpolates positions of another image size."""
    try:
        with harmless_objects():
            if isinstance(clip, CLIPModel):
                clip.load_weights(file)
            else:
                load_checkpoint(clip, str(file), strict=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(why_not_loaded(file, error)) from error
    except Exception as error:  # torch, safetensors and open_clip each raise their own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(f"{file} does not fit {name}: {' '.join(lines[:2])[:300]}") from error
    clip.float()
