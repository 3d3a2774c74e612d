"""The towers of a CLIP: which adapter takes them, or why none does.

Another library's tower is one file with an `ImageTower` and `register_image_tower` (or a `TextTower`);
importing it is enough. In an installed package it is a plug-in: an entry point of the group
`vidprompt.backbones` names the class, and a backbone's parameters name the plug-in (`towers: NAME`).
"""

from __future__ import annotations

from typing import Any

from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel

# importing them registers their adapters
import vidprompt.models.backbones.timm_towers  # noqa: F401
from vidprompt.config.plugins import Registry
from vidprompt.models.backbones.interface import ImageTower, TextTower
from vidprompt.system.errors import UserError


def _problem(found: Any) -> str:
    if isinstance(found, type) and issubclass(found, ImageTower | TextTower):
        return ""
    return "is no subclass of ImageTower or TextTower (vidprompt.models.backbones.interface)"


# Ours are registered by their decorators, and asked whatever a backbone's parameters name
BACKBONES: Registry[type[ImageTower] | type[TextTower]] = Registry("backbones", {}, _problem)


def use_towers(name: str) -> None:
    """Make the adapters of a plug-in known. Raises UserError where there is none, or it does not work."""
    adapter = BACKBONES[name]
    kind = ImageTower if issubclass(adapter, ImageTower) else TextTower
    if adapter not in kind.registered:
        kind.registered.insert(0, adapter)  # type: ignore[arg-type]


def image_tower(clip: Any) -> ImageTower:
    """The image tower of a model. Raises UserError if no adapter takes it."""
    adapter = _image_adapter(clip.visual)
    reason = _no_image_adapter(clip.visual) if adapter is None else adapter.missing(clip.visual)
    if adapter is None or reason:
        raise UserError(reason)
    return adapter(clip.visual)


def text_tower(clip: Any) -> TextTower:
    """The text tower of a model. Raises UserError if no adapter takes it."""
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
