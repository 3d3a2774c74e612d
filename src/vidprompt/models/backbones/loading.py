"""Load a backbone: an open_clip ViT with CLIP's causal text transformer, by tag or from local files."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import get_model_config, load_checkpoint
from open_clip.pretrained import (
    download_pretrained,
    download_pretrained_from_hf,
    get_pretrained_cfg,
)

from vidprompt.files.hashes import sha256
from vidprompt.models.foreign_checkpoint import harmless_objects, why_not_loaded
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

Spec = str | Mapping[str, Any]
HUB, FOLDER = "hf-hub:", "local-dir:"  # open_clip's prefixes of names with files of their own
FOLDER_CONFIG = "open_clip_config.json"
_FOLDER_WEIGHTS = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors",
    "open_clip_pytorch_model.bin", "pytorch_model.bin",
)  # fmt: skip


@dataclass
class Backbone:
    """A CLIP, its tokenizer, the origin of its weights, and the size and statistics of its pixels."""

    clip: open_clip.CLIP
    tokenizer: Any  # callable: list[str] → (n, context length) int64
    tag: str  # name[:pretrained][@image size]
    checksum: str  # SHA-256 of the weights file; "" for random weights until `identity` is called
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    spec: Mapping[str, Any] = field(default_factory=dict)  # builds it again, see `load_backbone`

    def identity(self) -> str:
        """The checksum; for random or imported weights one over all tensors, computed once."""
        if not self.checksum:
            self.checksum = weights_digest(self.clip.state_dict())
        return self.checksum

    def copy(self) -> Backbone:
        """A backbone with weights of its own, for a model that trains them; `identity` stays the same."""
        if not self.clip.positional_embedding.is_meta:  # without values there is no checksum
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
            `config`: an open_clip model config, or a JSON file with one, for a name not in the registry;
            `image_size`: another input size; the position embeddings are interpolated;
            `quick_gelu`: the activation of a local file (a tag has its own);
            `mean`, `std`: the statistics of its pixels, where they are not OpenAI's or the tag's.

    Raises UserError when a file is missing or damaged, a name or tag unknown, or the model is not a
    ViT with a causal text transformer of its own.
    """
    spec = _as_mapping(spec)
    name, pretrained = str(spec.get("name", "")), str(spec.get("pretrained") or "")
    config = _model_config(name, spec.get("config"))
    reason = unsupported_reason(config)
    if reason:
        raise UserError(f"backbone {name!r} does not fit: {reason}")
    config.pop("custom_text", None)
    file, pretrained_cfg = _weights_file(name, pretrained, spec.get("weights"))
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
    try:
        if spec.get("image_size"):
            config["vision_cfg"]["image_size"] = int(spec["image_size"])
        clip = open_clip.CLIP(**config)
    except (TypeError, ValueError) as error:
        raise UserError(f"backbone {name!r} cannot be built: {error}") from error
    if file is not None:
        _load_weights(clip, file, name)
    tag = ":".join(str(part) for part in (name, pretrained) if part)
    if spec.get("image_size"):
        tag += f"@{spec['image_size']}"
    pixels = {key: spec[key] for key in ("mean", "std") if spec.get(key)}
    backbone = from_clip(clip, tag, sha256(file) if file else "", pretrained_cfg | pixels)
    weights = str(spec["weights"]) if spec.get("weights") else None
    own = {"name": name, "pretrained": pretrained or None, "config": config, "weights": weights}
    own |= {"image_size": spec.get("image_size"), "quick_gelu": quick_gelu}
    return replace(backbone, spec=own | {"mean": list(backbone.mean), "std": list(backbone.std)})


def _as_mapping(spec: Spec) -> Mapping[str, Any]:
    """The mapping of a name; of one with files of its own, with these files."""
    if isinstance(spec, str):
        prefixed = spec.startswith((HUB, FOLDER))
        name, _, pretrained = (spec, "", "") if prefixed else spec.partition(":")
        spec = {"name": name, "pretrained": pretrained}
    name = str(spec.get("name", ""))
    if not name.startswith((HUB, FOLDER)) or (spec.get("config") and spec.get("weights")):
        return spec
    config, weights = _hub_files(name) if name.startswith(HUB) else _folder_files(name)
    content = _read_json(config)
    pixels = content.get("preprocess_cfg") or {}
    files = {
        "config": content.get("model_cfg", content),
        "weights": spec.get("weights") or weights,
        "mean": pixels.get("mean"),
        "std": pixels.get("std"),
    }
    return {**spec, **files}


def _hub_files(name: str) -> tuple[Path, Path]:
    """The configuration and weights of `hf-hub:ORG/NAME`, downloaded unless they are in the Hub's cache."""
    model = name.removeprefix(HUB)
    try:
        config = Path(download_pretrained_from_hf(model, filename=FOLDER_CONFIG))
        return config, Path(download_pretrained_from_hf(model))
    except Exception as error:  # of the network, the Hub or its cache: each has its own
        raise UserError(
            f"backbone {name} cannot be fetched ({_first_line(error)}); without internet, copy a folder "
            f"that `huggingface-cli download {model} --local-dir DIR` wrote and name it {FOLDER}DIR"
        ) from error


def _folder_files(name: str) -> tuple[Path, Path]:
    folder = Path(name.removeprefix(FOLDER))
    files = [folder / file for file in _FOLDER_WEIGHTS if (folder / file).is_file()]
    if not (folder / FOLDER_CONFIG).is_file() or not files:
        raise UserError(
            f"{folder} is no folder of an open_clip model: it needs {FOLDER_CONFIG} and "
            f"{_FOLDER_WEIGHTS[0]} (or {', '.join(_FOLDER_WEIGHTS[1:])})"
        )
    return folder / FOLDER_CONFIG, files[0]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def from_clip(
    clip: open_clip.CLIP, tag: str, checksum: str, pretrained_cfg: Mapping[str, Any] | None = None
) -> Backbone:
    """The backbone of a built CLIP, with the pixel mean and std of open_clip's `pretrained_cfg` if given.

    Raises UserError if the input is not square.
    """
    cfg = pretrained_cfg or {}
    size = clip.visual.image_size
    if size[0] != size[1]:
        raise UserError(f"backbone {tag}: frames are square here, and it takes {size[0]}×{size[1]}")
    return Backbone(
        clip=clip.requires_grad_(False),
        tokenizer=open_clip.SimpleTokenizer(context_length=clip.context_length),
        tag=tag,
        checksum=checksum,
        image_size=int(size[0]),
        mean=tuple(cfg.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        std=tuple(cfg.get("std") or open_clip.OPENAI_DATASET_STD),
    )


def unsupported_reason(config: Mapping[str, Any]) -> str:
    """Why the methods do not support a model of this open_clip config; "" if they do."""
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    if vision.get("timm_model_name"):
        return (
            f"its image tower is timm's {vision['timm_model_name']}, and the methods put prompts and "
            "adapters between attention and MLP of open_clip's own ViT blocks"
        )
    if not isinstance(vision.get("layers", 12), int):
        return "its image tower is a ResNet, without the layers of tokens that prompts and adapters go into"
    if vision.get("attentional_pool") or vision.get("pool_type", "tok") != "tok":
        return "its image feature is not read from a class token, which frames' features come from"
    for side, tower in (("image", vision), ("text", text)):
        custom = [key for key in _CUSTOM_ATTENTION if tower.get(key)]
        if tower.get("block_type") == "custom" or custom:
            return f"its {side} blocks are not CLIP's ({', '.join(custom) or 'custom'})"
    if text.get("hf_model_name"):
        return (
            f"its text tower is Hugging Face's {text['hf_model_name']}, and the methods need a causal "
            "text transformer of CLIP's own"
        )
    if text.get("no_causal_mask") or text.get("embed_cls") or config.get("multimodal_cfg"):
        return "its text transformer is not causal, so no text is read at its end-of-text token"
    if text.get("hf_tokenizer_name") or text.get("pool_type", "argmax") != "argmax":
        return "its tokenizer is not CLIP's, whose end-of-text token texts are read at"
    return ""


_CUSTOM_ATTENTION = (
    "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc",
)  # fmt: skip


def weights_digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the names, shapes and values of tensors."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _model_config(name: str, given: Any) -> dict[str, Any]:
    """A given open_clip config or that in a JSON file, or else of a registered name."""
    if isinstance(given, Mapping):
        return deepcopy(dict(given))
    if given:
        path = _existing(given)
        config = _read_json(path)
        if not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
            raise UserError(f"{path} is no open_clip model config: embed_dim, vision_cfg, text_cfg")
        return config
    registered = get_model_config(name)
    if registered is None:
        raise UserError(
            f"backbone {name!r} is not an open_clip model; `python -c 'import open_clip; "
            "print(open_clip.list_models())'` lists them"
        )
    return deepcopy(registered)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no open_clip model config: it holds no mapping")
    return content


def _weights_file(name: str, pretrained: str, weights: Any) -> tuple[Path | None, dict[str, Any]]:
    """The file with the weights, and open_clip's configuration of the tag `pretrained`."""
    cfg: dict[str, Any] = {}
    if pretrained:
        cfg = dict(get_pretrained_cfg(name, pretrained))
        if not cfg and not weights:
            tags = open_clip.list_pretrained_tags_by_model(name)
            raise UserError(f"{name} has no weights {pretrained!r}: {suggestion(pretrained, tags)}")
    if weights:
        return _existing(weights), cfg
    if not pretrained:
        return None, cfg
    try:
        return Path(download_pretrained(cfg)), cfg
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"the weights {pretrained!r} of {name} cannot be fetched ({_first_line(error)}); "
            "without internet, set backbone.weights to a local safetensors file (an option --weights, in "
            "Python weights=)"
        ) from error


def _existing(file: Any) -> Path:
    path = Path(file)
    if not path.is_file():
        raise UserError(f"no backbone file {path}; `dvc pull data.dvc` fetches the demo's")
    return path


def local_weights(spec: Mapping[str, Any]) -> Path | None:
    """The weights' file if it is on this machine, given or downloaded before; nothing is loaded."""
    from huggingface_hub import try_to_load_from_cache

    if spec.get("weights"):
        path = Path(str(spec["weights"]))
        return path if path.is_file() else None
    cfg = get_pretrained_cfg(str(spec.get("name")), str(spec.get("pretrained") or ""))
    model, _, name = str(cfg.get("hf_hub") or "").rpartition("/")
    names = [name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    cached = [try_to_load_from_cache(model, name) for name in names] if model else []
    if cfg.get("url"):
        cached.append(str(Path.home() / ".cache/clip" / Path(str(cfg["url"])).name))
    return next((Path(c) for c in cached if isinstance(c, str) and Path(c).is_file()), None)


def _load_weights(clip: open_clip.CLIP, file: Path, name: str) -> None:
    """Load weights as float32; open_clip interpolates positions of another image size."""
    try:
        with harmless_objects():
            load_checkpoint(clip, str(file), strict=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(why_not_loaded(file, error)) from error
    except Exception as error:  # torch, safetensors and open_clip each raise their own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(f"{file} does not fit {name}: {' '.join(lines[:2])[:300]}") from error
    clip.float()
