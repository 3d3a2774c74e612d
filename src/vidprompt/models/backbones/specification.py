"""What a backbone's specification names: configuration, file of the weights, statistics of pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
from open_clip.factory import get_model_config
from open_clip.pretrained import (
    download_pretrained,
    download_pretrained_from_hf,
    get_pretrained_cfg,
)

from vidprompt.models.backbones.local_files import (
    FOLDER_CONFIG,
    FOLDER_WEIGHTS,
    LOCAL_DIR,
    TOKENIZER_CONFIG,
)
from vidprompt.system.errors import UserError, first_line
from vidprompt.system.suggestions import suggestion

Spec = str | Mapping[str, Any]
HUB = "hf-hub:"  # open_clip's prefix, as LOCAL_DIR, of names with files of their own


def as_mapping(spec: Spec) -> Mapping[str, Any]:
    """The mapping of a name; of one with files of its own, with what these files say."""
    if not isinstance(spec, str) and spec.get("loader"):
        return spec
    if isinstance(spec, str):
        prefixed = spec.startswith((HUB, LOCAL_DIR))
        name, _, pretrained = (spec, "", "") if prefixed else spec.partition(":")
        spec = {"name": name, "pretrained": pretrained}
    name, config = str(spec.get("name", "")), spec.get("config")
    pixels = {key: spec[key] for key in ("mean", "std") if spec.get(key)}  # over those of files
    if not name.startswith((HUB, LOCAL_DIR)) or (config and spec.get("weights")):
        is_file = config and not isinstance(config, Mapping)
        return {**spec, **_described(existing_file(config)), **pixels} if is_file else spec
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
            f"backbone {name} cannot be fetched ({first_line(error)}); without internet, copy a folder "
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


def model_config(name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
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


def weights_file(name: str, pretrained: str, weights: Any) -> tuple[Path | None, dict[str, Any]]:
    """The file with the weights, and open_clip's configuration of the tag `pretrained`."""
    cfg: dict[str, Any] = {}
    if pretrained:
        cfg = dict(get_pretrained_cfg(name, pretrained))
        if not cfg and not weights:
            tags = open_clip.list_pretrained_tags_by_model(name)
            raise UserError(f"{name} has no weights {pretrained!r}: {suggestion(pretrained, tags)}")
    if weights:
        return existing_file(weights), cfg
    if not pretrained:
        return None, cfg
    try:
        return Path(download_pretrained(cfg)), cfg
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"the weights {pretrained!r} of {name} cannot be fetched ({first_line(error)}); "
            "without internet, set backbone.weights to a local safetensors file (an option --weights, in "
            "Python weights=)"
        ) from error


def pixels_of_all_tags(name: str) -> dict[str, Any]:
    """Mean and std of a registered name's pixels, where all its tags have the same."""
    tags = [get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    found = [{key: cfg[key] for key in ("mean", "std") if cfg.get(key)} for cfg in tags]
    return found[0] if found and all(one == found[0] for one in found) else {}


def existing_file(file: Any) -> Path:
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
    if spec.get("loader"):
        return None
    cfg = get_pretrained_cfg(str(spec.get("name")), str(spec.get("pretrained") or ""))
    model, _, name = str(cfg.get("hf_hub") or "").rpartition("/")
    names = [name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    cached = [try_to_load_from_cache(model, name) for name in names] if model else []
    if cfg.get("url"):
        cached.append(str(Path.home() / ".cache/clip" / Path(str(cfg["url"])).name))
    return next((Path(c) for c in cached if isinstance(c, str) and Path(c).is_file()), None)
