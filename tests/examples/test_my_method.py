"""The example package: a method outside of the tree, found, checked, and exact."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.models.small import small_backbone
from tests.pipeline.project import edit
from tests.plugins.packages import install

from vidprompt.config.compose import compose
from vidprompt.contract import check_method
from vidprompt.metrics.scores import class_probabilities
from vidprompt.models.factory import create_model
from vidprompt.models.methods.video_clip import VideoCLIP

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/my_method"
NAMES = ["opening a door", "closing a door", "moving left"]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package on the search path, as pip would leave it."""
    entries = {"methods": {"linear_probe": "my_method:LinearProbe"}}
    folder = install(tmp_path, "my-method", entries, {})
    shutil.copytree(EXAMPLE / "my_method", folder, dirs_exist_ok=True)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_method", None)


def trained_probe() -> VideoCLIP:
    """A probe with values as after a training."""
    model = create_model("linear_probe", small_backbone(), num_frames=2, class_names=NAMES).eval()
    generator = torch.Generator().manual_seed(3)
    for parameter in (model.weight, model.bias):
        parameter.data = torch.randn(parameter.shape, generator=generator) * 5
    return model


def clips() -> torch.Tensor:
    return torch.randn(4, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_the_example_is_short() -> None:
    files = [p for p in EXAMPLE.rglob("*") if p.suffix in (".py", ".toml", ".yaml")]
    assert sum(len(file.read_text("utf-8").splitlines()) for file in files) <= 150


def test_its_logits_are_a_linear_layer_of_the_frozen_features(installed: None) -> None:
    model, frozen = trained_probe(), create_model("frozen_clip", small_backbone(), num_frames=2)
    with torch.no_grad():
        features = F.normalize(frozen.eval().encode_video(clips())[1], dim=-1)
        start = F.normalize(frozen.encode_classes(NAMES)[:, 0], dim=-1)
        weight = frozen.logit_scale * start + model.weight
        expected = F.linear(features, weight, model.bias)
        assert torch.allclose(model(clips(), NAMES), expected, rtol=1e-4, atol=1e-3)
        stored, text = model.encode_video(clips())[1], model.encode_classes(NAMES)
        found = class_probabilities(
            stored[:, None].numpy(), text.numpy(), float(model.logit_scale), "softmax_sum"
        )
    assert np.allclose(found, expected.softmax(1).numpy(), atol=1e-4)


def test_classes_that_were_not_trained_keep_their_text(installed: None) -> None:
    model, frozen = trained_probe(), create_model("frozen_clip", small_backbone(), num_frames=2)
    others = ["turning right", "waving"]
    with torch.no_grad():
        expected = frozen.eval()(clips(), others)
        assert torch.allclose(model(clips(), others), expected, rtol=1e-4, atol=1e-3)
        both = model(clips(), [*NAMES, *others])
    assert torch.allclose(both[:, 3:], expected, rtol=1e-4, atol=1e-3)


def test_it_holds_the_contract(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no project: the options are those of the package
    quick = ["shapes", "gradients", "backbone unchanged", "start", "determinism"]
    quick += ["state round trip", "other lengths", "meta device", "recompute"]
    found = check_method("linear_probe", only=quick)
    assert {one.status for one in found} == {"passed"}, [one.line for one in found]


def test_its_parameters_are_composed(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = compose(["method=linear_probe", "split=few_shot_2shot_seed1"])
    assert (config.method.objective, config.trainer.length) == ("cross_entropy", 150)


@pytest.mark.slow
def test_it_is_installed_trained_evaluated_and_used(tmp_path: Path) -> None:
    """As a user does it: pip install, a project, DVC, a prediction, a check, a registered version."""
    pytest.importorskip("setuptools")
    site, project = tmp_path / "site", tmp_path / "project"
    source = shutil.copytree(EXAMPLE, tmp_path / "source")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--quiet", "--target", str(site), str(source)], check=True)
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}

    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            words, cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def vidprompt(*words: str, code: int = 0) -> str:
        return run(sys.executable, "-m", "vidprompt.cli.main", *words, code=code)

    project.mkdir()
    vidprompt("init", "--demo", ".")
    assert "my-method" in vidprompt("plugins")
    checked = vidprompt("check-method", "linear_probe")
    assert "torch.export" in checked
    assert "FAILED" not in checked
    one_training = {"base_to_novel": None, "few_shot": None, "reid": None}
    edit(project / "params/dataset/demo.yaml", protocols=one_training)
    edit(project / "params/pipeline.yaml", trained=["linear_probe"])
    recipe = project / "params/recipe/demo/linear_probe.yaml"
    recipe.write_text("# @package _global_\ntrainer: {length: 3, warmup: 1, lr: 0.1}\n")
    model = "models/demo/linear_probe/supervised_split1/model.safetensors"
    lines = f"  probe: {{path: {model}, type: model, desc: A probe.}}\n"
    dvc_yaml = project / "dvc.yaml"
    text = dvc_yaml.read_text("utf-8").partition("artifacts:")[0]
    dvc_yaml.write_text(f"{text}artifacts:\n{lines}", "utf-8")
    gates = {"candidate": {"minimum": {"supervised": {"top1": 0.0}}}}
    edit(project / "params/registry.yaml", models={"probe": gates})
    vidprompt("activate")
    assert (project / "plugins/my_method/__init__.py").is_file()
    tests = [f"evaluate@demo-linear_probe-{name}" for name in ("supervised", "zero_shot")]
    run(sys.executable, "-m", "dvc", "repro", *tests, "validate@demo")
    results = project / "results/demo/linear_probe"
    found = json.loads((results / "supervised/metrics.json").read_text("utf-8"))
    assert found["plugins"] == {"methods/linear_probe": "my-method 0.1.0"}
    assert "changed" not in run(sys.executable, "-m", "dvc", "status", *tests)
    video = next((project / "cache/unpacked/demo").rglob("*.mp4"))
    predict = ("predict", "--model", "demo/linear_probe/supervised_split1", str(video))
    assert video.name in vidprompt(*predict)

    run(sys.executable, "-m", "dvc", "push", "-r", "sample", model)
    for key, value in (("user.name", "a"), ("user.email", "a@example.org")):
        run("git", "config", key, value)  # of the commit and of the version's tag
    run("git", "add", "-A")
    run("git", "commit", "--quiet", "-m", "Train a probe")
    assert "plugins" not in run("git", "ls-files")
    assert "probe@v0.1.0" in vidprompt("register", "probe", "--stage", "candidate")
    code = site / "my_method/__init__.py"
    code.write_text(code.read_text("utf-8") + "\n# an edit\n")
    train = "train@demo-linear_probe-supervised_split1"
    assert "plugins/my_method" in run(sys.executable, "-m", "dvc", "status", train)
    refused = vidprompt("register", "probe", "--stage", "candidate", "--check", code=1)
    assert "plugins/my_method" in refused
    shutil.rmtree(site)
    refused = vidprompt(*predict, code=2)
    assert "a plug-in of my-method 0.1.0, which is not installed: pip install my-method" in refused
