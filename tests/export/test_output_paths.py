"""Which files a command line of `vidprompt export` writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidprompt.export.exporting import output_paths
from vidprompt.system.errors import UserError


@pytest.mark.parametrize(
    ("model", "out", "formats", "expected"),
    [
        ("demo/ez_clip/run", None, "o", ["demo-ez_clip-run.onnx"]),
        ("demo/ez_clip/run", None, "ot", ["demo-ez_clip-run.onnx", "demo-ez_clip-run.pt2"]),
        ("ez-demo@v1.0", None, "t", ["ez-demo@v1.0.pt2"]),
        ("open_clip:ViT-B-16:openai", None, "o", ["open_clip-ViT-B-16-openai.onnx"]),
        ("/runs/my run/model.safetensors", None, "o", ["my-run.onnx"]),
        ("runs/best.safetensors", None, "o", ["best.onnx"]),
        ("m", "a.onnx", "", ["a.onnx"]),
        ("m", "a.pt2", "", ["a.pt2"]),
        ("m", "a.onnx", "o", ["a.onnx"]),
        ("m", "b/a", "ot", ["b/a.onnx", "b/a.pt2"]),
        ("m", "ez.v1.2", "o", ["ez.v1.2.onnx"]),
    ],
)
def test_names_of_files(
    model: str, out: str | None, formats: str, expected: list[str], tmp_path: Path
) -> None:
    paths = output_paths(
        model, Path(out) if out else None, onnx="o" in formats, torch_export="t" in formats
    )
    assert [path.as_posix() for path in paths] == expected


def test_an_existing_folder_gets_a_file(tmp_path: Path) -> None:
    assert output_paths("m", tmp_path, onnx=True) == [tmp_path / "m.onnx"]


@pytest.mark.parametrize(
    ("out", "formats", "message"),
    [
        (None, "", "which format"),
        ("a.bin", "", "which format"),
        ("a.onnx", "t", "--torch-export does not write a.onnx"),
        ("a.onnx", "ot", "leave out its suffix"),
    ],
)
def test_a_format_that_is_not_said_or_contradicts(out: str, formats: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        output_paths(
            "m", Path(out) if out else None, onnx="o" in formats, torch_export="t" in formats
        )
