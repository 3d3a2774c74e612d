"""What an exported file says of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vidprompt.export.metadata import ExportMetadata
from vidprompt.system.errors import UserError


def metadata(**values: Any) -> ExportMetadata:
    return ExportMetadata("demo/ez", "0123", "ez_clip", "small", 2, 32, 32, **values)


def test_metadata_survive_json() -> None:
    said = metadata(class_names=("öffnen", "a, b"), unknown={"cosine": 0.2}, input={"whole": False})
    assert ExportMetadata.from_json(said.to_json(), "f.onnx") == said


def test_a_newer_version_may_add_keys() -> None:
    values = metadata().to_dict() | {"added_later": 1}
    assert ExportMetadata.from_json(json.dumps(values), "f.onnx") == metadata()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not written by `vidprompt export`"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format": 1}', "damaged"),
        ('{"format": 99}', "format 99"),
    ],
)
def test_what_is_no_metadata_is_refused_in_a_sentence(text: str | None, message: str) -> None:
    with pytest.raises(UserError, match=rf"f\.onnx.*{message}") as raised:
        ExportMetadata.from_json(text, "f.onnx")
    assert "\n" not in str(raised.value)
