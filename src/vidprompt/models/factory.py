"""Create a model from a method's name, a backbone and options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from vidprompt.config.plugins import Registry, subclass_problem
from vidprompt.config.schema import BackboneTraining, Config
from vidprompt.models.backbones.loading import Backbone, load_backbone
from vidprompt.models.methods.clip_lora import CLIPLoRA
from vidprompt.models.methods.ez_clip import EZCLIP
from vidprompt.models.methods.frozen_clip import FrozenCLIP
from vidprompt.models.methods.tip_adapter import TipAdapter, TipAdapterF
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.methods.vifi_clip import ViFiCLIP
from vidprompt.models.methods.vita_clip import VitaCLIP
from vidprompt.models.methods.vl_prompting import VLPrompting
from vidprompt.models.text.prompts import context_options
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

# One of ours is a line here and a name in config/names.py, with params/method/NAME.yaml; one of another
# package is an entry point of the group `vidprompt.methods` (docs/plugins.md).
METHODS: Registry[type[VideoCLIP]] = Registry(
    "methods",
    {
        "frozen_clip": FrozenCLIP,
        "ez_clip": EZCLIP,
        "vita_clip": VitaCLIP,
        "vifi_clip": ViFiCLIP,
        "vl_prompting": VLPrompting,
        "clip_lora": CLIPLoRA,
        "tip_adapter": TipAdapter,
        "tip_adapter_f": TipAdapterF,
    },
    subclass_problem(VideoCLIP),
)


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
        method: one of METHODS, a plug-in's too.
        backbone: an open_clip name, a specification for `load_backbone`, or a loaded Backbone.
        num_frames: T.
        class_names: annotated names of the training classes, for class-specific contexts.
        options: keyword options of the method's class.

    Raises UserError for an unknown method or option, and for a plug-in that does not work.
    """
    kind, valid = METHODS[method], method_options(method)
    unknown = sorted(set(options) - set(valid))
    if unknown:
        raise UserError(f"{method} does not take {unknown[0]}: {suggestion(unknown[0], valid)}")
    loaded = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
    model = kind(loaded, num_frames, class_names=list(class_names or ()), **options)
    model.method, model.options = method, options
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


def untrained_model(config: Config, backbone: Backbone) -> VideoCLIP:
    """The model of a method with nothing to train.

    An experiment may set options of another method, and its backbone's training: they are left out.
    """
    method = config.method
    taken = set(method_options(method.name)) - set(BackboneTraining.__dataclass_fields__)
    options = {key: value for key, value in method.options.items() if key in taken}
    return create_model(method.name, backbone, num_frames=method.num_frames, **options)


def method_options(method: str) -> list[str]:
    """Option names of a method: its class's, then those of the classes that it hands `**options` on to."""
    names: dict[str, None] = {}
    for kind in METHODS[method].__mro__:
        if "__init__" not in vars(kind):
            continue
        parameters = inspect.signature(vars(kind)["__init__"]).parameters.values()
        names |= {p.name: None for p in parameters if p.kind is p.KEYWORD_ONLY}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    names.pop("class_names", None)
    return list(names)
