"""Create a model from a method's name, a backbone and options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from vidprompt.config.schema import Config
from vidprompt.models.backbones.loading import Backbone, load_backbone
from vidprompt.models.methods.ez_clip import EZCLIP
from vidprompt.models.methods.frozen_clip import FrozenCLIP
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.methods.vifi_clip import ViFiCLIP
from vidprompt.models.methods.vita_clip import VitaCLIP
from vidprompt.models.text.prompts import context_options
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice, suggestion

METHODS: dict[str, type[VideoCLIP]] = {
    "frozen_clip": FrozenCLIP,
    "ez_clip": EZCLIP,
    "vita_clip": VitaCLIP,
    "vifi_clip": ViFiCLIP,
}


def create_model(
    method: str,
    backbone: str | Mapping[str, Any] | Backbone,
    *,
    num_frames: int,
    class_names: Sequence[str] | None = None,
    **options: Any,
) -> VideoCLIP:
    """Build a method on a backbone.

    Args:
        method: one of METHODS.
        backbone: an open_clip name, a specification for `load_backbone`, or a loaded Backbone.
        num_frames: T.
        class_names: annotated names of the training classes, for class-specific contexts.
        options: keyword options of the method's class.

    Raises UserError for an unknown method or option.
    """
    check_choice("method", method, METHODS)
    loaded = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
    unknown = sorted(set(options) - set(method_options(method)))
    if unknown:
        valid = suggestion(unknown[0], method_options(method))
        raise UserError(f"{method} does not take {unknown[0]}: {valid}")
    model = METHODS[method](loaded, num_frames, class_names=list(class_names or ()), **options)
    model.options = options
    return model


def configured_model(
    config: Config, class_names: Sequence[str], backbone: Backbone | None = None
) -> VideoCLIP:
    """Build the model of a composed configuration: method, backbone, and the prompts' learned context."""
    method = config.method
    return create_model(
        method.name,
        backbone or load_backbone(vars(config.backbone)),
        num_frames=method.num_frames,
        class_names=class_names,
        **{**method.options, **context_options(vars(config.prompts))},
    )


def method_options(method: str) -> list[str]:
    """Option names of a method: its own, then those of the text context."""
    names: dict[str, None] = {}
    for kind in (METHODS[method], VideoCLIP):
        parameters = inspect.signature(kind.__init__).parameters.values()
        names |= {p.name: None for p in parameters if p.kind is p.KEYWORD_ONLY}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    names.pop("class_names", None)
    return list(names)
