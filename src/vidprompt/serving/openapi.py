"""The fields of requests for OpenAPI, with examples: forms are read by hand (forms.py), not by FastAPI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidprompt.serving import schemas
from vidprompt.serving.forms import VIDEO

Schema = dict[str, Any]

_CLASSES: Schema = {
    "type": "array",
    "items": {"type": "string"},
    "description": (
        "Names: repeat the field, or one field with commas or lines between them, or a JSON list; a JSON "
        "object gives descriptions (name → text or list of texts). Default: the classes of the training."
    ),
    "example": ["open door", "close door"],
}
_TEXT: Schema = {
    "type": "array",
    "items": {"type": "string"},
    "description": "Sentences: repeat the field for several.",
    "example": ["somebody opens a door"],
}
_PROMPTS: Schema = {
    "type": "array",
    "items": {"type": "string"},
    "description": "Templates with one {} for the class's name, instead of the model's.",
    "example": ["a video of a person {}."],
}

PREDICT_FIELDS: dict[str, Schema] = {
    "classes": _CLASSES,
    "prompts": _PROMPTS,
    "top": {
        "type": "integer",
        "default": 5,
        "description": "How many classes to return.",
        "example": 5,
    },
    "unknown": {
        "type": "boolean",
        "default": False,
        "description": "Also judge whether the video shows none of the classes.",
    },
}
SEGMENT_FIELDS: dict[str, Schema] = {
    "classes": _CLASSES,
    "prompts": _PROMPTS,
    "window": {
        "type": "number",
        "default": 2,
        "description": "Seconds that are looked at together.",
    },
    "stride": {
        "type": "number",
        "default": 1,
        "description": "Seconds from one window to the next.",
    },
    "unknown": {
        "type": "boolean",
        "default": False,
        "description": "Leave out what shows none of the classes.",
    },
}
EMBED_FIELDS: dict[str, Schema] = {"text": _TEXT}
SEARCH_FIELDS: dict[str, Schema] = {
    "text": _TEXT,
    "top": {
        "type": "integer",
        "default": 20,
        "description": "How many hits to return.",
        "example": 10,
    },
    "overlapping": {
        "type": "boolean",
        "default": False,
        "description": "Also return windows that overlap a better one of the same video.",
    },
}
EXPLAIN_FIELDS: dict[str, Schema] = {
    "text": {
        "type": "string",
        "description": "Explain how the video fits this text; without it, the video's feature itself.",
        "example": "somebody opens a door",
    },
    "pictures": {
        "type": "boolean",
        "default": True,
        "description": "Return what the model sees of each frame.",
    },
}

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Error, "description": description}
    for status, description in {
        400: "The body is broken.",
        401: "The token is missing or wrong.",
        408: "The upload stopped for too long.",
        413: "The upload, the video's length or its pictures are over a limit.",
        415: "The body is of another type.",
        422: "The file is no video that can be decoded, or a field has a wrong value.",
        429: "The server works on as many requests as it takes: come again after Retry-After seconds.",
        503: "The server is stopping, or cannot store the upload.",
        504: "The request took too long.",
    }.items()
}


def form_body(fields: Mapping[str, Schema], video: bool) -> Schema:
    """The body of a request; `video`: it needs one (else it may also be JSON)."""
    file = {"type": "string", "format": "binary", "description": "The video file."}
    form = {
        "type": "object",
        "properties": {VIDEO: file, **fields},
        "required": [VIDEO] if video else [],
    }
    # repeated fields, not one field with commas
    encoding = {name: {"style": "form", "explode": True} for name in fields}
    content: Schema = {"multipart/form-data": {"schema": form, "encoding": encoding}}
    if not video:
        content["application/json"] = {"schema": {"type": "object", "properties": dict(fields)}}
    return {"required": True, "content": content}
