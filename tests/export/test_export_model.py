"""A loaded model and the files exported from it predict the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.prediction.small_model import CLASSES, small_model

from vidprompt.data.frames.sampling import Views
from vidprompt.export.exporting import export_model
from vidprompt.export.onnx_model import OnnxModel
from vidprompt.prediction.results import Prediction
from vidprompt.system.errors import UserError


def test_what_cannot_be_exported_is_refused_before_anything_is_traced(tmp_path: Path) -> None:
    model = small_model()
    with pytest.raises(UserError, match=r"ends with \.onnx or \.pt2"):
        export_model(model, [tmp_path / "model.bin"])
    with pytest.raises(UserError, match="input=int8"):
        export_model(model, [tmp_path / "model.onnx"], input_type="int8")
    model.device = torch.device("meta")
    with pytest.raises(UserError, match="device='cpu'"):
        export_model(model, [tmp_path / "model.onnx"])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ez_clip", "frozen_clip", "lora"])
def test_predictions_are_those_of_the_model(method: str, tmp_path: Path) -> None:
    model = small_model(method, Views(clips=2, crops=3, antialias=False))
    folder = tmp_path / "video"
    folder.mkdir()
    for i in range(11):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 57, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    paths = [tmp_path / "model.onnx", tmp_path / "model.pt2"]
    files = export_model(model, paths, CLASSES, prompts=["a video of {}", "{}"])
    assert [file.path for file in files] == paths
    assert all(file.path.is_file() for file in files)
    assert "opset 18" in files[0].describe()
    assert "3 classes (prompts)" in files[1].describe()
    exported = OnnxModel(paths[0])
    assert exported.input == model.input
    assert exported.metadata.identity == model.identity
    mine = exported.predict(folder)
    theirs = model.predict(folder, CLASSES, prompts=["a video of {}", "{}"])
    assert isinstance(mine, Prediction)
    assert (mine.classes, mine.text) == (theirs.classes, theirs.text)
    np.testing.assert_allclose(mine.probabilities, theirs.probabilities, atol=1e-4)
    np.testing.assert_allclose(mine.cosines, theirs.cosines, atol=1e-5)
