"""Load a backbone: a CLIP of open_clip's, by tag or from local files."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import get_model_config, load_checkpoint
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from open_clip.pretrained import (
    download_pretrained,
    download_pretrained_from_hf,
    get_pretrained_cfg,
)

from vidprompt.files.hashes import sha256
from vidprompt.models.backbones.interface import ImageTower, TextTower
from vidprompt.models.backbones.local_files import (
    FOLDER_CONFIG,
    FOLDER_WEIGHTS,
    LOCAL_DIR,
    TOKENIZER_CONFIG,
    tokenizer_digest,
)
from vidprompt.models.backbones.tokenizer import Tokenizer
from vidprompt.models.backbones.towers import image_tower, text_tower, use_towers, why_refused
from vidprompt.models.foreign_checkpoint import harmless_objects, why_not_loaded
from vidprompt.system.cores import available_cores
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

Spec = str | Mapping[str, Any]
HUB = "hf-hub:"  # open_clip's prefix, as LOCAL_DIR, of names with files of their own


@dataclass
class Backbone:
    """A CLIP, its tokenizer, the origin of its weights, and the size and statistics of its pixels."""

    clip: open_clip.CLIP | open_clip.CustomTextCLIP
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
            `mean`, `std`: the statistics of its pixels, where they are not OpenAI's or the tag's.

    Raises UserError when a file is missing or damaged, a name or tag unknown, or the methods do not run on
    the model (`unsupported_reason`).
    """
    _limit_threads()
    spec = as_mapping(spec)
    if spec.get("towers"):
        use_towers(str(spec["towers"]))
    name, pretrained = str(spec.get("name", "")), str(spec.get("pretrained") or "")
    config = _model_config(name, spec.get("config"))
    reason = unsupported_reason(config)
    if reason:
        raise UserError(f"backbone {name!r} does not fit: {reason}")
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
    pixels = (pretrained_cfg or _pixels_of_all_tags(name)) | pixels
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


def as_mapping(spec: Spec) -> Mapping[str, Any]:
    """The mapping of a name; of one with files of its own, with what these files say."""
    if isinstance(spec, str):
        prefixed = spec.startswith((HUB, LOCAL_DIR))
        name, _, pretrained = (spec, "", "") if prefixed else spec.partition(":")
        spec = {"name": name, "pretrained": pretrained}
    name, config = str(spec.get("name", "")), spec.get("config")
    pixels = {key: spec[key] for key in ("mean", "std") if spec.get(key)}  # over those of files
    if not name.startswith((HUB, LOCAL_DIR)) or (config and spec.get("weights")):
        is_file = config and not isinstance(config, Mapping)
        return {**spec, **_described(_existing(config)), **pixels} if is_file else spec
    config, weights = _hub_files(name) if name.startswith(HUB) else _folder_files(name)
    files = {**_described(config), "weights": spec.get("weights") or weights}
    if name.startswith(LOCAL_DIR) and (config.parent / TOKENIZER_CONFIG).is_file():
        files["tokenizer"] = config.parent
    return {**spec, **files, **pixels}


def _described(path: Path) -> dict[str, Any]:
    """What a JSON file says: an open_clip model config, or a folder's open_clip_config.json, which has the
    statistics of pixels beside it. Raises UserError."""
    content = _read_json(path)
    config = content.get("model_cfg", content)
    if not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
        raise UserError(f"{path} is no open_clip model config: embed_dim, vision_cfg, text_cfg")
    pixels = content.get("preprocess_cfg") or {}
    return {"config": config} | {key: pixels[key] for key in ("mean", "std") if pixels.get(key)}


def _hub_files(name: str) -> tuple[Path, Path]:
    """The configuration and weights of `hf-hub:ORG/NAME`, downloaded unless they are in the Hub's cache."""
    model = name.removeprefix(HUB)
    try:
        config = Path(download_pretrained_from_hf(model, filename=FOLDER_CONFIG))
        return config, Path(download_pretrained_from_hf(model))
    except Exception as error:  # of the network, the Hub or its cache: each has its own
        raise UserError(
            f"backbone {name} cannot be fetched ({_first_line(error)}); without internet, copy a folder "
            f"that `huggingface-cli download {model} --local-dir DIR` wrote and name it {LOCAL_DIR}DIR"
        ) from error


def _folder_files(name: str) -> tuple[Path, Path]:
    folder = Path(name.removeprefix(LOCAL_DIR))
    files = [folder / file for file in FOLDER_WEIGHTS if (folder / file).is_file()]
    if not (folder / FOLDER_CONFIG).is_file() or not files:
        raise UserError(
            f"{folder} is no folder of an open_clip model: it needs {FOLDER_CONFIG} and "
            f"{FOLDER_WEIGHTS[0]} (or {', '.join(FOLDER_WEIGHTS[1:])})"
        )
    return folder / FOLDER_CONFIG, files[0]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def from_clip(
    clip: open_clip.CLIP | open_clip.CustomTextCLIP,
    tag: str,
    checksum: str,
    pretrained_cfg: Mapping[str, Any] | None = None,
    tokenizer: Tokenizer | None = None,
) -> Backbone:
    """The backbone of a built CLIP, with the pixel mean and std of open_clip's `pretrained_cfg` if given.

    `tokenizer` is CLIP's own by default. Raises UserError if the methods do not run on the model, or its
    input is not square.
    """
    cfg = pretrained_cfg or {}
    if reason := why_refused(clip):
        raise UserError(f"backbone {tag} does not fit: {reason}")
    size = image_tower(clip).image_size
    if size[0] != size[1]:
        raise UserError(f"backbone {tag}: frames are square here, and it takes {size[0]}×{size[1]}")
    return Backbone(
        clip=clip.requires_grad_(False).eval(),
        tokenizer=tokenizer or Tokenizer({}, text_tower(clip).context_length),
        tag=tag,
        checksum=checksum,
        image_size=int(size[0]),
        mean=tuple(cfg.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        std=tuple(cfg.get("std") or open_clip.OPENAI_DATASET_STD),
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
        return f"open_clip cannot build it: {_first_line(error)}"


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
    if spec.get("tokenizer"):
        return None
    spec = as_mapping(spec)
    text_cfg = _model_config(str(spec.get("name", "")), spec.get("config"))["text_cfg"]
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


def _model_config(name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A given open_clip config, or that of a registered name."""
    if given:
        return deepcopy(dict(given))
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


def _pixels_of_all_tags(name: str) -> dict[str, Any]:
    """Mean and std of a registered name's pixels, where all its tags have the same."""
    tags = [get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    found = [{key: cfg[key] for key in ("mean", "std") if cfg.get(key)} for cfg in tags]
    return found[0] if found and all(one == found[0] for one in found) else {}


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


def _load_weights(clip: torch.nn.Module, file: Path, name: str) -> None:
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
