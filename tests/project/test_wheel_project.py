"""A new user with the wheel alone: a project, its own clips, a training, a prediction, an upgrade."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.data.make_videos import write_video
from tests.installed_wheel import ROOT, build_wheel, make_environment, run

from vidprompt.project.skeleton import skeleton

pytestmark = pytest.mark.slow
MOST_BYTES = 1_500_000  # of the wheel
DEMO = "from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
SMALL = "pipeline: {backbone: demo_clip, frames: demo, prompts: demo, trainer: demo}"
TRAIN = "train@own-ez_clip-supervised_split1"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-c", f"import sys; {DEMO}", str(out)]
    subprocess.run(command, cwd=ROOT / "tools/demo_package", check=True, capture_output=True)
    return make_environment(tmp_path_factory.mktemp("environment"), wheel, *out.glob("*.whl"))


@pytest.fixture(scope="module")
def project(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    said, _ = run(environment, folder, "vidprompt", "init", "my clips", "--demo")
    assert said.startswith("my clips: ")
    return folder / "my clips"


def test_the_wheel_has_every_project_file_and_is_small(wheel: Path) -> None:
    start = "vidprompt/project/skeleton/"
    with zipfile.ZipFile(wheel) as content:
        names = {n.removeprefix(start) for n in content.namelist() if n.startswith(start)}
        assert all(content.read(start + n) == (ROOT / n).read_bytes() for n in names)
    own = {"README.md", "pyproject.toml", ".github/workflows/ci.yml"}  # the templates
    assert names - {"params/stages.yaml"} == skeleton("any").keys() - own
    assert wheel.stat().st_size < MOST_BYTES


def test_a_project_is_complete_and_says_what_is_missing(
    environment: Path, project: Path, tmp_path: Path
) -> None:
    assert (project / "data/demo/backbone/demo_clip.safetensors").is_file()
    said, _ = run(environment, project, "dvc", "repro", "unpack@demo")
    assert "vidprompt unpack" in said
    run(environment, project, "vidprompt", "activate", "--check")
    said, _ = run(environment, project, "vidprompt", "upgrade")
    assert "all files are up to date" in said
    run(environment, tmp_path, "vidprompt", "init", "without")
    said, _ = run(environment, tmp_path / "without", "dvc", "repro")
    assert "up to date" in said
    refused = run(environment, tmp_path, "vidprompt", "init", "without", code=2)[1]
    assert refused.startswith("vidprompt: without is not empty (it has ")
    assert refused.count("\n") == 1


def test_own_clips_are_trained_on_and_a_new_one_predicted(environment: Path, project: Path) -> None:
    for seed, name in ((0, "wide waves"), (4, "narrow_waves")):
        for number in range(4):
            path = project / f"data/own/{name}/{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, 12 + number, kind="h264.mp4", seed=seed)
    file = project / "params/dataset/own.yaml"
    lines = file.read_text("utf-8").splitlines()
    changed = [SMALL if line.startswith("pipeline:") else line for line in lines]
    file.write_text("\n".join(changed) + "\n", "utf-8")
    recipe = project / "params/recipe/demo/ez_clip.yaml"
    recipe.write_text(recipe.read_text("utf-8").replace("length: 400", "length: 4"), "utf-8")
    said, _ = run(environment, project, "vidprompt", "activate", "own")
    assert "own: " in said
    run(environment, project, "dvc", "repro", TRAIN)
    model = ("--model", "own/ez_clip/supervised_split1")
    said, _ = run(environment, project, "vidprompt", "predict", "data/own/wide waves/1.mp4", *model)
    assert "narrow_waves" in said
    assert "wide waves" in said


def test_dvc_sees_an_upgraded_package(environment: Path, project: Path) -> None:
    said, _ = run(environment, project, "dvc", "status", "unpack@demo")
    assert "up to date" in said
    package = (project / "src/vidprompt").resolve()
    assert "site-packages" in package.parts
    changed = package / "pipeline/stages/unpack.py"
    before = changed.read_bytes()
    try:
        changed.write_bytes(before + b"# another version\n")
        said, _ = run(environment, project, "dvc", "status", "unpack@demo")
        assert "src/vidprompt/pipeline/stages/unpack.py" in said
    finally:
        changed.write_bytes(before)
    said, _ = run(environment, project, "dvc", "status", "unpack@demo")
    assert "up to date" in said


def test_a_clone_of_the_project_finds_its_code_again(
    environment: Path, project: Path, tmp_path: Path
) -> None:
    git = ("git", "-c", "user.name=u", "-c", "user.email=u@example.org")
    run(environment, project, *git, "add", ".")
    run(environment, project, *git, "commit", "-qm", "begin")
    run(environment, tmp_path, *git, "clone", "-q", str(project), "clone")
    clone = tmp_path / "clone"
    assert not (clone / "src").exists()
    run(environment, clone, "vidprompt", "activate")
    run(environment, clone, "dvc", "pull", "data.dvc")
    said, _ = run(environment, clone, "dvc", "status", "unpack@demo")
    assert "src/vidprompt" not in said
    shutil.rmtree(clone)
