"""The towers of a CLIP: which adapter takes them, or why none does.

Another library's tower is one file with an `ImageTower` and `register_image_tower` (or a `TextTower`);
importing it is enough, and an installed package names it in the entry point group `vidprompt.towers`.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel

# importing them registers their adapters
import vidprompt.models.backbones.timm_towers  # noqa: F401
from vidprompt.models.backbones.interface import ImageTower, TextTower
from vidprompt.system.errors import UserError

GROUP = "vidprompt.towers"


def image_tower(clip: Any) -> ImageTower:
    """The image tower of a model. Raises UserError if no adapter takes it."""
    adapter = _image_adapter(clip.visual)
    reason = _no_image_adapter(clip.visual) if adapter is None else adapter.missing(clip.visual)
    if adapter is None or reason:
        raise UserError(reason)
    return adapter(clip.visual)


def text_tower(clip: Any) -> TextTower:
    """The text tower of a model. Raises UserError if no adapter takes it."""
    _load_entry_points()
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


@cache
def _load_entry_points() -> None:
    for entry in entry_points(group=GROUP):
        entry.load()


def _image_adapter(visual: Any) -> type[ImageTower] | None:
    _load_entry_points()
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
