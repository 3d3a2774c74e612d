"""Find the model that a MODEL string names: its checkpoint, and what its backbone is built from.

MODEL is one of
    a file                       models/demo/ez_clip/supervised_split1/model.safetensors, or its folder
    a run of this project        demo/ez_clip/supervised_split1
    a registered version         ez-clip-demo@v0.1.0, @latest, or @STAGE (production)
    one of the Hugging Face Hub  hf://OWNER/NAME, hf://OWNER/NAME@REVISION (branch, tag or commit)
    a bare backbone              open_clip:ViT-B-16-quickgelu:openai, open_clip:hf-hub:ORG/NAME,
                                 open_clip:local-dir:FOLDER, or such a folder

The project is that of the current folder: itself or the nearest one above it with params/ and dvc.yaml,
or the one that the variable VIDPROMPT_PROJECT names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vidprompt.files.hashes import sha256
from vidprompt.models.backbones.local_files import (
    PACKAGED,
    tokenizer_digest,
    tokenizer_files,
)
from vidprompt.models.checkpoint_metadata import CheckpointMetadata, read_metadata
from vidprompt.prediction.hub_model import PREFIX, WEIGHTS, fetch_hub_model
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

OPEN_CLIP = "open_clip:"
_HUB = "hf-hub:"
PROJECT_VARIABLE = "VIDPROMPT_PROJECT"
_FOREIGN = (".pt", ".pth", ".bin", ".ckpt", ".tar")


@dataclass(frozen=True)
class ModelSource:
    """What a model is loaded from.

    `checkpoint` and `metadata` are None for a bare backbone. `backbone`: for `load_backbone`; its weights,
    if they are a file, are on this machine.
    """

    name: str
    backbone: Mapping[str, Any]
    checkpoint: Path | None = None
    metadata: CheckpointMetadata | None = None
    # version and commit of a registered one; hub and revision (its commit there) of one of the Hub
    about: Mapping[str, Any] = field(default_factory=dict)


def find_model_source(
    model: str | Path, *, weights: Path | str | None = None, project: Path | str | None = None
) -> ModelSource:
    """Find what `model` names. `weights`: the backbone's file, where it is not found by itself.

    Raises UserError, with what to do, where nothing fits or a file is missing.
    """
    text = str(model).strip()
    if not text:
        raise UserError(f"no model is named: {_FORMS}")
    if text.startswith(OPEN_CLIP):
        return _bare(text.removeprefix(OPEN_CLIP), weights)
    if text.startswith(PREFIX):
        return _from_hub(text, weights)
    path = Path(text).expanduser()
    if (path / WEIGHTS).is_file() or path.is_file():
        return _checkpoint(path if path.is_file() else path / WEIGHTS, text, weights)
    if (path / "open_clip_config.json").is_file():
        return _bare(f"local-dir:{path}", weights)
    root = find_project(project)
    if "@" in text:
        return _registered(text, root, weights)
    if root is not None and (root / "models" / text / WEIGHTS).is_file():
        return _checkpoint(root / "models" / text / WEIGHTS, text, weights)
    raise UserError(f"there is no model {text!r}: {_hint(text, root)}")


_FORMS = (
    "name a checkpoint file, a run (DATASET/METHOD/RUN), a registered version (NAME@STAGE), a model of the "
    "Hugging Face Hub (hf://OWNER/NAME) or a backbone (open_clip:NAME:TAG)"
)


def find_project(project: Path | str | None = None) -> Path | None:
    """The project's root: as given, as VIDPROMPT_PROJECT says, or around the current folder; or None."""
    named = project or os.environ.get(PROJECT_VARIABLE)
    if named:
        root = Path(named).expanduser()
        if not (root / "params").is_dir():
            raise UserError(f"{root} is no project of VidPrompt: it has no params/")
        return root.absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params").is_dir() and (folder / "dvc.yaml").is_file():
            return folder
    return None


def _hint(text: str, root: Path | None) -> str:
    """What could have been meant."""
    if root is None:
        return (
            f"{_FORMS}. Runs and versions are found in a project: this folder is in none, and "
            f"{PROJECT_VARIABLE} can name one"
        )
    runs = sorted(
        file.parent.relative_to(root / "models").as_posix()
        for file in root.glob(f"models/*/*/*/{WEIGHTS}")
    )
    if not runs:
        return f"{_FORMS}. {root / 'models'} has no run yet: `dvc repro` trains them"
    return f"{suggestion(text, runs)}; or {_FORMS}"


def _bare(name: str, weights: Path | str | None) -> ModelSource:
    """A backbone of open_clip without a method: frozen CLIP."""
    if name.startswith((_HUB, "local-dir:")):
        backbone: dict[str, Any] = {"name": name}
    else:
        first, _, tag = name.partition(":")
        backbone = {"name": first, "pretrained": tag or None}
        if not tag and not weights:
            import open_clip

            tags = open_clip.list_pretrained_tags_by_model(first)
            valid = f"one of {', '.join(tags)}" if tags else "open_clip:NAME:TAG"
            raise UserError(f"{OPEN_CLIP}{name} says no weights, which would be random: {valid}")
    if weights:
        backbone["weights"] = str(_file(weights))
    return ModelSource(f"{OPEN_CLIP}{name}", backbone)


def _registered(text: str, root: Path | None, weights: Path | str | None) -> ModelSource:
    """A version of the registry, with its files fetched into cache/registry."""
    from vidprompt.registry.model_files import fetch_version
    from vidprompt.registry.versions import resolve

    if root is None:
        raise UserError(
            f"{text} is a registered version, and versions are found in a project: this folder is in "
            f"none. Go into it, or set {PROJECT_VARIABLE}"
        )
    files = fetch_version(resolve(root, text), root)
    version = files.version
    metadata = read_metadata(files.checkpoint)
    backbone = {**metadata.backbone_spec, **files.backbone}
    if weights:
        backbone["weights"] = str(_file(weights))
    elif backbone.get("weights"):
        backbone["weights"] = str(_backbone_weights(metadata, backbone, files.checkpoint))
    backbone["tokenizer"] = _tokenizer(backbone, files.checkpoint)
    about = {"version": version.selector, "commit": version.commit}
    return ModelSource(text, backbone, files.checkpoint, metadata, about)


def _from_hub(text: str, weights: Path | str | None) -> ModelSource:
    """A model of the Hub, named by its commit: the branch may be at another one tomorrow."""
    model = fetch_hub_model(text)
    source = _checkpoint(model.folder / WEIGHTS, model.address, weights, alone=True)
    return replace(source, about={"hub": model.repo, "revision": model.commit})


def _checkpoint(
    path: Path, text: str, weights: Path | str | None, *, alone: bool = False
) -> ModelSource:
    """A checkpoint's file. `alone`: it is a stranger's, and files are taken from its folder only."""
    if path.suffix in _FOREIGN:
        raise UserError(
            f"{path} is no checkpoint of VidPrompt's: `vidprompt import-checkpoint {path} OUT` converts "
            "those of EZ-CLIP, T2L and Vita-CLIP; then name OUT"
        )
    metadata = read_metadata(path)
    backbone = dict(metadata.backbone_spec) or _spec_beside(path, metadata)
    if alone:
        _check_spec(metadata, text)
    if weights:
        backbone["weights"] = str(_file(weights))
    elif backbone.get("weights"):
        from_hub = str(backbone.get("name")).startswith(_HUB)
        if from_hub and (alone or not Path(backbone["weights"]).is_file()):
            del backbone["weights"]  # in the cache of another machine: from the Hub, then
        else:
            backbone["weights"] = str(_backbone_weights(metadata, backbone, path, alone=alone))
    backbone["tokenizer"] = _tokenizer(backbone, path, alone=alone)
    return ModelSource(text, backbone, path, metadata)


def _check_spec(metadata: CheckpointMetadata, text: str) -> None:
    """Raises UserError where a stranger's checkpoint names files of this machine for its backbone."""
    spec = metadata.backbone_spec
    local = str(spec.get("name")).startswith("local-dir:") and not spec.get("weights")
    if local or not isinstance(spec.get("config"), Mapping | None):
        raise UserError(
            f"{text} does not bring its backbone: it names a file of the machine where it was trained"
        )


def _spec_beside(path: Path, metadata: CheckpointMetadata) -> dict[str, Any]:
    """The backbone of a checkpoint that does not say how it is built: imported, or of an older version."""
    folder = path.parent
    if (folder / "backbone.json").is_file():
        files = {"config": folder / "backbone.json", "weights": folder / "backbone.safetensors"}
        return {"name": metadata.backbone, **{key: str(file) for key, file in files.items()}}
    name, _, tag = metadata.backbone.partition("@")[0].partition(":")
    size = metadata.backbone.partition("@")[2]
    return {"name": name, "pretrained": tag or None, "image_size": int(size) if size else None}


def _backbone_weights(
    metadata: CheckpointMetadata,
    backbone: Mapping[str, Any],
    checkpoint: Path,
    *,
    alone: bool = False,
) -> Path:
    """The file of the backbone's weights, found by its checksum where its path does not lead to it."""
    recorded, wanted = Path(str(backbone["weights"])), metadata.backbone_checksum
    beside = [checkpoint.parent / recorded.name, checkpoint.parent / "backbone" / recorded.name]
    places = beside if alone else _places(recorded, checkpoint, *beside)
    present = [place for place in places if place.is_file()]
    for place in present:
        if not wanted or sha256(place) == wanted:
            return place
    problem = (
        f"{present[0]} has other content (another version of it)"
        if present
        else f"{recorded} is not on this machine"
    )
    in_project = not (alone or recorded.is_absolute())
    get = "`dvc pull data.dvc` in the project fetches it" if in_project else ""
    raise UserError(
        f"{checkpoint} needs its backbone {metadata.backbone} (sha256 {wanted[:12]}), and {problem}: "
        + "; or ".join(
            [*([get] if get else []), "name the file with --weights (weights=… in Python)"]
        )
    )


def _tokenizer(backbone: Mapping[str, Any], checkpoint: Path, *, alone: bool = False) -> str | None:
    """The folder of the backbone's tokenizer; as recorded where it is not found, which matters to texts only.

    It is looked for as the weights are. Raises UserError where another tokenizer is in its place.
    """
    recorded, wanted = backbone.get("tokenizer"), backbone.get("tokenizer_digest")
    beside = checkpoint.parent / PACKAGED
    places = [beside] if alone else _places(recorded, checkpoint, beside)
    present = [place for place in places if tokenizer_files(place)]
    for place in present:
        if not wanted or tokenizer_digest(place) == wanted:
            return str(place)
    if present:
        raise UserError(
            f"{checkpoint} was trained with another tokenizer than that in {present[0]}: copy its own there"
        )
    return None if recorded is None else PACKAGED if alone else str(recorded)


def _places(recorded: str | Path | None, checkpoint: Path, *beside: Path) -> list[Path]:
    """Where a backbone's file or folder may be: as its path says, from here and from the folders above the
    checkpoint, then in places beside it."""
    if recorded is None:
        return list(beside)
    above = checkpoint.absolute().parents
    return [Path(recorded), *(folder / recorded for folder in above), *beside]


def _file(path: Path | str) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"there is no file {file} of weights")
    return file
