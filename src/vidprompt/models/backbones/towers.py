"""The towers of a CLIP: which adapter takes them, or why none does; and the plug-ins of backbones.

Another library's tower is one file with an `ImageTower` and `register_image_tower` (or a `TextTower`);
importing it is enough. In an installed package it is a plug-in: an entry point of the group
`vidprompt.backbones` names the class, and a backbone's parameters name the plug-in (`towers: NAME`). A whole
model is a `CLIPModel`, named by `loader: NAME`, and gives its towers itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel

# importing them registers their adapters
import vidprompt.models.backbones.timm_towers  # noqa: F401
from vidprompt.config.plugins import Registry, find_plugin
from vidprompt.models.backbones.clip_model import CLIPModel
from vidprompt.models.backbones.interface import ImageTower, TextTower
from vidprompt.system.errors import UserError, first_line, named_first_line
from vidprompt.system.suggestions import suggestion


def _problem(found: Any) -> str:
    if isinstance(found, type) and issubclass(found, ImageTower | TextTower | CLIPModel):
        return ""
    return (
        "is no subclass of ImageTower or TextTower (vidprompt.models.backbones.interface), nor of CLIPModel "
        "(vidprompt.models.backbones.clip_model)"
    )


# Ours are registered by their decorators, and asked whatever a backbone's parameters name
BACKBONES: Registry[type[ImageTower] | type[TextTower] | type[CLIPModel]] = Registry(
    "backbones", {}, _problem
)


def build_model(name: str, options: Mapping[str, Any]) -> CLIPModel:
    """The whole model of a plug-in, with random weights.

    Raises UserError where there is none, it does not work, or does not take an option.
    """
    kind = BACKBONES[name]
    if not issubclass(kind, CLIPModel):
        raise UserError(f"{title_of(name)} is an adapter of towers: name it by backbone.towers")
    parameters = inspect.signature(kind).parameters.values()
    valid = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    for option in options:
        if option not in valid:
            choices = suggestion(option, valid) if valid else "it has no options"
            raise UserError(f"backbone.options: {title_of(name)} does not take {option}: {choices}")
    with errors_of(name, "cannot be built"):
        model = kind(**options)
        if not isinstance(getattr(model, "visual", None), torch.nn.Module):
            raise UserError("it has no `visual`, the module of its image tower")
        for tower, base in ((model.image_tower(), ImageTower), (model.text_tower(), TextTower)):
            if not isinstance(tower, base):
                raise UserError(f"{type(tower).__name__} is no {base.__name__}")
    return model


def title_of(name: str) -> str:
    """`the backbone my_clip of my-clip 0.1.0`."""
    plugin = find_plugin("backbones", name)
    return plugin.title if plugin else f"the backbone {name}"


@contextmanager
def errors_of(name: str, what: str) -> Iterator[None]:
    """Turn what the code of a plug-in raises into a UserError that names it."""
    try:
        yield
    except Exception as error:
        said = first_line if isinstance(error, UserError) else named_first_line
        raise UserError(f"{title_of(name)} {what}: {said(error)}") from error


def use_towers(name: str) -> None:
    """Make the adapters of a plug-in known. Raises UserError where there is none, or it does not work."""
    adapter = BACKBONES[name]
    if issubclass(adapter, CLIPModel):
        raise UserError(f"{title_of(name)} is a whole model: name it by backbone.loader")
    kind = ImageTower if issubclass(adapter, ImageTower) else TextTower
    if adapter not in kind.registered:
        kind.registered.insert(0, adapter)  # type: ignore[arg-type]


def image_tower(clip: Any) -> ImageTower:
    """The image tower of a model. Raises UserError if no adapter takes it."""
    if isinstance(clip, CLIPModel):
        return clip.image_tower()
    adapter = _image_adapter(clip.visual)
    reason = _no_image_adapter(clip.visual) if adapter is None else adapter.missing(clip.visual)
    if adapter is None or reason:
        raise UserError(reason)
    return adapter(clip.visual)


def text_tower(clip: Any) -> TextTower:
    """The text tower of a model. Raises UserError if no adapter takes it."""
    if isinstance(clip, CLIPModel):
        return clip.text_tower()
    adapter = next((one for one in TextTower.registered if one.takes(clip)), None)
    reason = _no_text_adapter(clip) if adapter is None else adapter.missing(clip)
    if adapter is None or reason:
        raise UserError(reason)
    return adapter(clip)


def why_refused(clip: Any) -> str:
    """Why the methods do not run on a model, as a sentence; "" if they do."""
    try:
        image_tower(clip)
        text_tower(clip)
    except UserError as error:
        return str(error)
    return ""


def _image_adapter(visual: Any) -> type[ImageTower] | None:
    return next((one for one in ImageTower.registered if one.takes(visual)), None)


def _no_image_adapter(visual: Any) -> str:
    module = visual.trunk if isinstance(visual, TimmModel) else visual
    library = "timm" if isinstance(visual, TimmModel) else "open_clip"
    return (
        f"its image tower is {library}'s {type(module).__name__}, and prompts and adapters go into the "
        "layers of a plain vision transformer, in which all tokens attend to each other"
    )


def _no_text_adapter(clip: Any) -> str:
    kind = "Hugging Face's" if isinstance(clip.text, HFTextEncoder) else type(clip.text).__name__
    return f"its text tower is {kind}, and not a transformer of open_clip's"
