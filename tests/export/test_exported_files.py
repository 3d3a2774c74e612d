"""Exported files: the model's numbers, for any number of clips, and nothing else in them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from PIL import Image
from tests.docs.pages import blocks
from tests.export.small_export import CLASSES, FRAMES, SIZE, WIDTH, small_export

from vidprompt.data.frames.sampling import Views
from vidprompt.export import writing
from vidprompt.export.cropping import crop_frames
from vidprompt.export.module import ExportedModel
from vidprompt.export.onnx_encoder import OnnxEncoder
from vidprompt.export.onnx_model import OnnxModel
from vidprompt.export.writing import (
    Program,
    read_torch_export,
    trace_program,
    write_onnx,
    write_torch_export,
)
from vidprompt.metrics.scores import class_probabilities
from vidprompt.prediction.clip_input import ClipInput
from vidprompt.prediction.clips import video_clips
from vidprompt.prediction.results import Failure, Prediction
from vidprompt.system.errors import DataError, UserError

ROOT = Path(__file__).parents[2]


def random_clips(n: int, dtype: str = "float32") -> np.ndarray:
    values = np.random.default_rng(n).integers(0, 256, (n, FRAMES, 3, SIZE, SIZE))
    return values.astype(dtype)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def assert_same_as_torch(path: Path, module: ExportedModel, dtype: str = "float32") -> None:
    encoder = OnnxEncoder(path, ["CPUExecutionProvider"])
    names = ["features", "probabilities", "text_features"]
    assert [output.name for output in encoder.session.get_outputs()] == names
    for n in (1, 2, 5):
        clips = random_clips(n, dtype)
        with torch.no_grad():
            expected = module(torch.from_numpy(clips))
        written = dict(zip(names, encoder.session.run(names, {"clips": clips}), strict=True))
        assert written["features"].shape == (n, WIDTH)
        assert relative(written["features"], expected["features"].numpy()) < 1e-4
        np.testing.assert_allclose(
            written["probabilities"], expected["probabilities"].numpy(), atol=1e-5
        )
        np.testing.assert_array_equal(written["text_features"], module.text.numpy())
        reference = class_probabilities(
            written["features"][:, None], module.text.numpy(), module.logit_scale
        )
        np.testing.assert_allclose(written["probabilities"], reference, atol=1e-5)


@pytest.fixture(scope="module")
def program() -> Program:
    return trace_program(*small_export("vita_clip"))


@pytest.fixture(scope="module")
def vita(program: Program, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportedModel]:
    path = tmp_path_factory.mktemp("onnx") / "vita.onnx"
    check = write_onnx(path, program)
    assert check.features < 1e-5
    return path, program.module


def test_vita_clip_is_the_same_as_with_torch(vita: tuple[Path, ExportedModel]) -> None:
    assert_same_as_torch(*vita)


def test_a_file_says_its_sizes_and_holds_no_path_of_this_machine(
    vita: tuple[Path, ExportedModel],
) -> None:
    path, _ = vita
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert {one.domain: one.version for one in model.opset_import} == {"": 18}
    sizes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert sizes == {
        "clips": ["n", FRAMES, 3, SIZE, SIZE],
        "features": ["n", WIDTH],
        "probabilities": ["n", len(CLASSES)],
        "text_features": [len(CLASSES), 2, WIDTH],
    }
    assert str(Path(writing.__file__).parents[3]).encode() not in path.read_bytes()
    assert b"site-packages" not in path.read_bytes()
    said = json.loads(path.with_name("vita.onnx.json").read_text("utf-8"))
    assert said == OnnxEncoder(path).metadata.to_dict() | {"class_names": list(CLASSES)}
    assert (said["opset"], said["method"], said["class_names"]) == (18, "vita_clip", list(CLASSES))


def video(folder: Path, frames: int = 9) -> Path:
    folder.mkdir(parents=True)
    for i in range(frames):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_predictions_are_those_of_the_features(
    vita: tuple[Path, ExportedModel], tmp_path: Path
) -> None:
    path, module = vita
    model = OnnxModel(path)
    assert model.input == ClipInput(FRAMES, SIZE, Views(clips=2))
    one = video(tmp_path / "v")
    predicted = model.predict(one)
    assert isinstance(predicted, Prediction)
    clips = video_clips(model.input.decode(one), model.input, "v").clips
    with torch.no_grad():
        features = module(clips)["features"].numpy()
    expected = class_probabilities(features[None], module.text.numpy(), module.logit_scale)
    np.testing.assert_allclose(predicted.probabilities, expected[0], atol=1e-5)
    assert (predicted.classes, predicted.text) == (CLASSES, "prompts")

    fewer = model.predict(one, ["MovingLeft", "opening"])
    assert isinstance(fewer, Prediction)
    rows = [2, 0]
    expected = class_probabilities(features[None], module.text.numpy()[rows], module.logit_scale)
    np.testing.assert_allclose(fewer.probabilities, expected[0], atol=1e-5)
    assert fewer.classes == ("MovingLeft", "opening")
    judged = model.predict(one, unknown=True)
    assert isinstance(judged, Prediction)
    assert judged.label == "unknown"


def test_the_example_of_the_documentation_gives_the_same(
    vita: tuple[Path, ExportedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, module = vita
    shutil.copy(path, tmp_path / "ez.onnx")
    pictures = np.random.default_rng(3).integers(0, 256, (FRAMES, 41, 67, 3), np.uint8)
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(tmp_path / f"frame{number}.png")
    monkeypatch.chdir(tmp_path)
    python = [one for one in blocks(ROOT / "docs/export.md") if one.language == "python"]
    example = python[0].content
    values: dict[str, Any] = {}
    exec(example, values)
    clips = crop_frames(pictures, SIZE, Views())
    np.testing.assert_array_equal(values["clips"], clips)
    with torch.no_grad():
        expected = module(torch.from_numpy(clips))["probabilities"].numpy()
    np.testing.assert_allclose(values["probabilities"], expected, atol=1e-5)


def test_a_broken_video_costs_itself_alone(
    vita: tuple[Path, ExportedModel], tmp_path: Path
) -> None:
    model = OnnxModel(vita[0])
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    results = model.predict([tmp_path / "broken.mp4", video(tmp_path / "v")])
    assert isinstance(results[0], Failure)
    assert isinstance(results[1], Prediction)
    with pytest.raises(DataError, match="broken.mp4"):
        model.predict(tmp_path / "broken.mp4")


def test_what_a_file_cannot_do_is_said_in_a_sentence(
    vita: tuple[Path, ExportedModel], tmp_path: Path
) -> None:
    model = OnnxModel(vita[0])
    with pytest.raises(UserError, match="no class 'openning'.*did you mean 'opening'"):
        model.texts(["openning"])
    with pytest.raises(UserError, match=r"takes clips of shape \(n, 2, 3, 32, 32\)"):
        model.encoder.encode(np.zeros((1, 3, 3, SIZE, SIZE)))
    with pytest.raises(UserError, match="no ONNX file"):
        OnnxModel(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(UserError, match="cannot be loaded by ONNX Runtime"):
        OnnxModel(tmp_path / "text.onnx")
    foreign = onnx.load(vita[0])
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(UserError, match="not written by `vidprompt export`"):
        OnnxModel(tmp_path / "foreign.onnx")


WITHOUT_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        roots = ("torch", "torchvision", "open_clip", "accelerate", "onnx", "onnxscript")
        if name.split(".")[0] in roots or name.startswith("vidprompt.models"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
from vidprompt.cli.main import main
main()
"""


def test_predict_needs_neither_torch_nor_the_models(
    vita: tuple[Path, ExportedModel], tmp_path: Path
) -> None:
    one = video(tmp_path / "v")
    expected = OnnxModel(vita[0]).predict(one)
    command = [sys.executable, "-c", WITHOUT_TORCH, "predict", str(one)]
    command += ["--onnx", str(vita[0]), "--json", "--workers", "0"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert isinstance(expected, Prediction)
    assert json.loads(done.stdout)[0]["label"] == expected.label


def test_a_file_that_computes_something_else_is_not_kept(
    program: Program,
    vita: tuple[Path, ExportedModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The check comes before the older file is replaced."""
    path = tmp_path / "older.onnx"
    path.write_bytes(b"older")
    monkeypatch.setattr(
        torch.onnx, "export", lambda *args, **options: SimpleNamespace(model=onnx_ir.load(vita[0]))
    )
    other, _ = small_export("frozen_clip")  # what is compared with
    with pytest.raises(UserError, match="computes other features"):
        write_onnx(path, program._replace(module=other))
    assert path.read_bytes() == b"older"
    assert [file.name for file in tmp_path.iterdir()] == ["older.onnx"]


def assert_program_is_the_model(path: Path, program: Program) -> None:
    check = write_torch_export(path, program)
    assert check.features < 1e-5
    loaded, said = read_torch_export(path)
    assert said == program.metadata
    for n in (1, 4):
        clips = torch.from_numpy(random_clips(n))
        with torch.no_grad():
            expected, written = program.module(clips), loaded(clips)
        assert written["probabilities"].shape == (n, len(CLASSES))
        for name, value in expected.items():
            torch.testing.assert_close(written[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_program_of_torch_export_is_the_model(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    assert_program_is_the_model(path, program)
    vision = sum(p.numel() for p in program.module.encoder.clip.visual.parameters())
    assert path.stat().st_size < 4 * vision + 500_000  # no text tower
    assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()


def test_a_program_of_another_origin_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), path)
    with pytest.raises(UserError, match="not written by `vidprompt export`"):
        read_torch_export(path)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ez_clip", "frozen_clip"])
def test_the_other_methods_are_the_same_as_with_torch(method: str, tmp_path: Path) -> None:
    module, metadata = small_export(method)
    path = tmp_path / "model.onnx"
    program = trace_program(module, metadata)
    write_onnx(path, program)
    assert_same_as_torch(path, module)
    assert_program_is_the_model(tmp_path / "model.pt2", program)


@pytest.mark.slow
def test_uint8_clips_and_the_mean_of_prompts(tmp_path: Path) -> None:
    module, metadata = small_export("frozen_clip", input_type="uint8", ensemble="mean_feature")
    path = tmp_path / "model.onnx"
    write_onnx(path, trace_program(module, metadata), opset=20)
    encoder = OnnxEncoder(path)
    assert encoder.session.get_inputs()[0].type == "tensor(uint8)"
    clips = random_clips(3, "uint8")
    features, probabilities = encoder.session.run(["features", "probabilities"], {"clips": clips})
    with torch.no_grad():
        expected = module(torch.from_numpy(clips))
    assert relative(features, expected["features"].numpy()) < 1e-4
    reference = class_probabilities(
        features[:, None], module.text.numpy(), module.logit_scale, "mean_feature"
    )
    np.testing.assert_allclose(probabilities, reference, atol=1e-5)


@pytest.mark.slow
def test_half_precision_is_half_as_large_and_close(tmp_path: Path) -> None:
    module, metadata = small_export("ez_clip", precision="float16")
    path = tmp_path / "half.onnx"
    check = write_onnx(path, trace_program(module, metadata))
    assert 1e-6 < check.features < 1e-2
    weights = sum(p.numel() for p in module.encoder.clip.visual.parameters())
    assert path.stat().st_size < 3 * weights
    encoded = OnnxEncoder(path).encode(random_clips(2))
    assert encoded.dtype == np.float32
    assert next(module.encoder.parameters()).dtype == torch.float32  # the model is unchanged


@pytest.mark.slow
def test_large_weights_lie_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "EXTERNAL_BYTES", 1000)
    module, metadata = small_export("frozen_clip")
    path = tmp_path / "large.onnx"
    write_onnx(path, trace_program(module, metadata))
    (data,) = tmp_path.glob("large.*.data")
    assert path.stat().st_size < data.stat().st_size
    assert_same_as_torch(path, module)
    # another model's weights replace them, whatever else lies there
    other, said = small_export("frozen_clip", identity="4567")
    (tmp_path / "large.notes.data").write_text("mine")
    write_onnx(path, trace_program(other, said))
    (new,) = (file for file in tmp_path.glob("large.*.data") if "notes" not in file.name)
    assert new.name != data.name
    assert (tmp_path / "large.notes.data").exists()
    assert_same_as_torch(path, other)
