"""What an exported file says of itself: JSON under the key `vidprompt` of an ONNX or a .pt2 file.

Read without torch, ONNX or a model's code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vidprompt.system.errors import UserError

KEY = "vidprompt"
FORMAT_VERSION = 1
INPUT = "clips"
FEATURES, PROBABILITIES, TEXT_FEATURES = "features", "probabilities", "text_features"


@dataclass(frozen=True)
class ExportMetadata:
    """The origin of an exported model, how a video becomes its input, and its classes.

    Args:
        model: the name it was exported by.
        identity: hex hash of what determines an embedding (checkpoint, backbone, transform, code).
        method: its name, as `ez_clip`.
        backbone: open_clip's name and tag.
        num_frames: T, the frames of a clip; fixed.
        image_size: S, the height and width of a frame in pixels.
        feature_size: E, the width of a feature.
        input_type: of the pixels, "float32" or "uint8"; both are values in [0, 255].
        precision: of the computation, "float32" or "float16".
        input: how a video becomes clips (`prediction.clip_input.ClipInput.to_dict`).
        class_names: in the order of `probabilities`; empty in a file without classes.
        text_source: what stood for the classes ("learned context", "descriptions", "prompts", …).
        prompts_per_class: P; 0 without classes.
        logit_scale: the factor of cosine similarities.
        ensemble: of several prompts a class, "softmax_sum" or "mean_feature".
        unknown: the threshold for "none of the classes" (`metrics.unknown.UnknownThreshold`), or {}.
        opset: of an ONNX file; 0 in a .pt2 file.
        version: of VidPrompt.
    """

    model: str
    identity: str
    method: str
    backbone: str
    num_frames: int
    image_size: int
    feature_size: int
    input_type: str = "float32"
    precision: str = "float32"
    input: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    text_source: str = ""
    prompts_per_class: int = 0
    logit_scale: float = 100.0
    ensemble: str = "softmax_sum"
    unknown: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 0
    version: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, with the version of this format."""
        return {"format": FORMAT_VERSION, **asdict(self)}

    def to_json(self) -> str:
        """As text with sorted keys: equal values give equal texts."""
        return json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | None, file: str) -> ExportMetadata:
        """Of the text in a file; `file` is for messages.

        Raises UserError without a text, and for one that this version cannot read.
        """
        if not text:
            raise UserError(f"{file} was not written by `vidprompt export`: it has no metadata")
        try:
            values = json.loads(text)
            version = values.pop("format")
            if version != FORMAT_VERSION:
                raise UserError(
                    f"{file} has format {version} of `vidprompt export`, and this version of "
                    f"VidPrompt reads {FORMAT_VERSION}: export the model again"
                )
            known = {one.name for one in fields(cls)}
            values = {name: value for name, value in values.items() if name in known}
            return cls(**values | {"class_names": tuple(values["class_names"])})
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{file}: its metadata is damaged: {error!r}") from error
