"""The wheel in an environment of its own, used in a folder with a checkpoint, its backbone and a video."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from tests.data.make_videos import write_video
from tests.installed_wheel import ROOT, build_wheel, make_environment, run
from tests.prediction.small_checkpoint import CLASSES, WEIGHTS, write_model

pytestmark = pytest.mark.slow
PYTHON = """
import sys, vidprompt
assert "site-packages" in vidprompt.__file__, vidprompt.__file__
model = vidprompt.load("model.safetensors", "cpu")
print(model.predict("video.mp4", ["a dog", "a cat"]).label)
print(model.embed(["video.mp4"]).features.shape, model.embed_text("a dog").shape)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("environment"), wheel)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint, its backbone and a video; nothing else of the project."""
    checkpoint = write_model(tmp_path / "project")
    empty = tmp_path / "used here"
    empty.mkdir()
    shutil.copy(checkpoint, empty)
    shutil.copy(tmp_path / "project" / WEIGHTS, empty)
    write_video(tmp_path / "h264.mp4", 24)
    shutil.copy(tmp_path / "h264.mp4", empty / "video.mp4")
    shutil.rmtree(tmp_path / "project")
    return empty


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    package = ROOT / "src/vidprompt"
    files = {
        f"vidprompt/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as content:
        assert files <= set(content.namelist())


def test_the_command_predicts_in_a_folder_of_its_own(environment: Path, folder: Path) -> None:
    said, _ = run(
        environment, folder, "vidprompt", "predict", "video.mp4", "-m", "model.safetensors"
    )
    assert all(name in said for name in CLASSES)
    own = ("--classes", "a dog,a cat", "--json")
    said, _ = run(environment, folder, "vidprompt", "predict", "video.mp4", "-m", ".", *own)
    (one,) = json.loads(said)
    assert {row["class"] for row in one["classes"]} == {"a dog", "a cat"}
    said, _ = run(environment, folder, "python", "-c", PYTHON)
    label, shapes = said.splitlines()
    assert label in ("a dog", "a cat")
    assert shapes == "(1, 32) (1, 32)"


def test_embedding_searching_and_explaining_need_no_project(
    environment: Path, folder: Path
) -> None:
    model = ("--model", "model.safetensors")
    (folder / "videos").mkdir()
    shutil.copy(folder / "video.mp4", folder / "videos")
    run(environment, folder, "vidprompt", "embed", "videos", "--out", "index", *model)
    said, _ = run(environment, folder, "vidprompt", "search", "index", "a dog", *model)
    assert "video.mp4" in said
    out = ("--text", "a dog", "--out", "why.png")
    run(environment, folder, "vidprompt", "explain", "video.mp4", *out, *model)
    assert (folder / "why.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_and_another_backbone_are_one_sentence(environment: Path, folder: Path) -> None:
    predict = ("vidprompt", "predict", "video.mp4", "--model", "model.safetensors")
    (folder / "tiny.safetensors").rename(folder / "elsewhere.safetensors")
    said = run(environment, folder, *predict, code=2)[1]
    assert said.startswith("vidprompt: model.safetensors needs its backbone tiny (sha256 ")
    assert "is not on this machine: `dvc pull data.dvc` in the project fetches it" in said
    assert said.count("\n") == 1
    run(environment, folder, *predict, "--weights", "elsewhere.safetensors")
    data = (folder / "elsewhere.safetensors").read_bytes()
    (folder / "tiny.safetensors").write_bytes(data[:-4] + b"abcd")
    said = run(environment, folder, *predict, code=2)[1]
    assert "tiny.safetensors has other content (another version of it): " in said
    assert said.count("\n") == 1


def test_a_mistake_has_no_traceback(environment: Path, folder: Path) -> None:
    (folder / "broken.mp4").write_bytes(b"no video at all" * 10)
    model = ("--model", "model.safetensors")
    said = run(environment, folder, "vidprompt", "predict", "video.mp4", "--model", "x/y/z", code=2)
    assert "there is no model 'x/y/z'" in said[1]
    said = run(
        environment, folder, "vidprompt", "predict", "broken.mp4", "video.mp4", *model, code=1
    )
    assert "broken.mp4" in "".join(said)
    assert "Traceback" not in "".join(said)
