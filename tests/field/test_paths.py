"""Folders as people name them: in overrides, options, and the commands that are printed to be copied."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import open_clip
import pytest
import yaml
from hydra.errors import HydraException
from omegaconf import OmegaConf
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.config.compose import compose
from vidprompt.config.overrides import override_of, parse_value, split_override
from vidprompt.models import create_model
from vidprompt.models.backbones.loading import Backbone, from_clip
from vidprompt.pipeline.sandbox import input_paths
from vidprompt.published import export_published
from vidprompt.published.conversion import import_to_folder
from vidprompt.sweep.plan import Configurations, make_plan, slug
from vidprompt.system.errors import UserError

ROOT = Path(__file__).parents[2]
NAMES = (
    *(
        "vids (2024)",
        "a=b",
        "it's",
        "日本",
        "100%",
        "#1",
        "a,b",
        "[x]",
        "{x}",
        "$HOME",
        "-x",
        "--root",
    ),
    *(
        'say "hi"',
        "'tis",
        "'quoted'",
        "a\\b",
        "ends\\",
        "2024",
        "1e5",
        "null",
        "true",
        "a:b",
        "x;y",
        "a&b",
    ),
    *(
        "*",
        "?",
        "!x",
        " a  b ",
        "a\nb",
        "é",
        "😀",
        "${HOME}",
        "\\${x}",
        "${x",
        "<x>",
        "a|b",
        "`x`",
        "@x",
        ".",
    ),
)
READ_BY_HYDRA = {"null", "'quoted'", "${HOME}", "\\${x}"}


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def published_backbone() -> Backbone:
    vision = {"image_size": 32, "layers": 1, "width": 128, "patch_size": 16}
    text = {"context_length": 30, "width": 64, "heads": 1, "layers": 1}
    return from_clip(open_clip.CLIP(48, vision, text, quick_gelu=True), "small", "")


def resolved(override: str) -> object:
    """What a configuration has for an override's key."""
    return OmegaConf.to_container(
        OmegaConf.create({"key": parse_value(*split_override(override))}), resolve=True
    )["key"]


@pytest.mark.parametrize("name", NAMES)
def test_an_override_holds_every_text(name: str) -> None:
    assert resolved(override_of("dataset.root", name)) == name
    assert resolved(override_of("dataset.name", name)) == name


@pytest.mark.parametrize("name", sorted({*NAMES} - READ_BY_HYDRA))
def test_a_path_is_taken_as_it_is_written(name: str) -> None:
    assert resolved(f"dataset.root={name}") == name


def test_a_configuration_has_it() -> None:
    name = "it's (2024) a=b #1 100% [x] {y} ${z} 日本, -z"
    assert compose([override_of("dataset.root", name)]).dataset.root == name
    assert compose([f"dataset.root={name.replace('$', '')}"]).dataset.root == name.replace("$", "")


def test_hydras_ways_to_write_a_path_stay() -> None:
    assert compose(["dataset.root='a b'"]).dataset.root == "a b"
    assert compose(['dataset.root="a\'b"']).dataset.root == "a'b"
    assert compose(["dataset.root=cache/${dataset.name}"]).dataset.root == "cache/demo"
    assert compose(["dataset.archives=null"]).dataset.archives is None


def test_other_texts_need_no_quotes_either_and_other_types_stay() -> None:
    assert compose(["dataset=own", "dataset.sources.own.folder=日本 (1)"]).dataset.sources[
        "own"
    ].folder == ("日本 (1)")
    assert parse_value("trainer.lr", "1e-3") == 1e-3
    assert parse_value("views.crops", "[1,2]") == [1, 2]
    with pytest.raises(HydraException):
        parse_value("views.crops", "[1,2")
    with pytest.raises(UserError, match=r"trainer.lr=1\)"):
        compose(["trainer.lr=1)"])


def test_the_home_folder_unless_something_has_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert compose(["dataset.root=~/videos"]).dataset.root == "/home/me/videos"
    assert compose(["dataset.root=a/~"]).dataset.root == "a/~"
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "~").mkdir()
    monkeypatch.chdir(tmp_path)
    assert compose(["dataset.root=~"]).dataset.root == "~"


def test_a_file_of_a_group_may_have_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "it's (a=b) #1 100%/params")
    monkeypatch.chdir(tmp_path / "it's (a=b) #1 100%")
    own = (ROOT / "params/backbone/vit_b_16.yaml").read_text("utf-8")
    Path("params/backbone/日本 (1).yaml").write_text(own, "utf-8")
    assert compose(["backbone=日本 (1)"]).backbone == compose(["backbone=vit_b_16"]).backbone


@pytest.mark.parametrize("name", ["vids (2024)", "it's", "--root", "null", "${HOME}"])
def test_options_take_a_path_in_every_command(name: str) -> None:
    arguments = ["config", f"--root={name}", "--weights", name, "seed=7"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    values = yaml.safe_load(result.output)
    assert values["dataset"]["root"] == values["backbone"]["weights"] == name
    assert values["seed"] == 7


def test_every_command_with_overrides_has_the_options() -> None:
    with_overrides = {
        "config",
        "doctor",
        "parameters",
        "multirun",
        "reproduce",
        "evaluate-registered",
    }
    with_overrides |= {"manifest", "splits", "validate", "frames", "train", "features", "evaluate"}
    for command in sorted(with_overrides):
        output = CliRunner().invoke(app, [command, "--help"]).output
        assert "--root" in output, command
        assert "--weights" in output, command


def test_an_empty_option_is_an_error() -> None:
    with pytest.raises(UserError, match="--root is empty"):
        CliRunner().invoke(app, ["config", "--root", ""], catch_exceptions=False)


@pytest.mark.parametrize("name", ["vids (2024)", "it's", "[x]", "日本"])
def test_a_multiruns_steps_get_the_path(name: str) -> None:
    for override in (f"dataset.root={name}", override_of("dataset.root", name)):
        configurations = Configurations()
        plan = make_plan(["method=ez_clip", override, "seed=1,2"], configurations)
        for job in plan.jobs:
            assert configurations.get(*job.overrides).dataset.root == name
            assert shlex.split(shlex.join(job.overrides)) == list(job.overrides)


def test_a_folders_name_has_so_many_bytes() -> None:
    assert len(slug("日本" * 60).encode()) <= 100
    assert slug("日本" * 60) != slug("日本" * 61)


def test_what_a_sandbox_links_to_of_the_paths() -> None:
    def linked(*overrides: str) -> set[str]:
        return input_paths(compose(["dataset=own", "backbone=vit_b_16", *overrides]))

    assert linked() == {"data"}
    assert linked("dataset.root=/a (1)/b") == set()
    assert linked("dataset.root=vids (2024)/x") == {
        "vids (2024)",
    }
    assert linked("dataset.root=./data", "prompts.descriptions=params/x.csv") == {"data"}
    files = linked("backbone.weights=models/it's/w.safetensors", "backbone.config=a=b/c.json")
    assert files == {"data", "models/it's/w.safetensors", "a=b"}
    with pytest.raises(UserError, match="dataset.root=../x leads out of the project"):
        linked("dataset.root=../x")


def test_the_command_that_an_import_prints_can_be_pasted(tmp_path: Path) -> None:
    model = create_model("ez_clip", published_backbone(), num_frames=2)
    export_published(model, tmp_path / "a.pt")
    out = tmp_path / "it's (a=b) 日本"
    [_, line] = import_to_folder(tmp_path / "a.pt", out, "", None)
    words = shlex.split(line.removeprefix("its CLIP: "))
    result = CliRunner().invoke(app, ["config", *words])
    assert result.exit_code == 0, result.output
    backbone = yaml.safe_load(result.output)["backbone"]
    assert backbone["config"] == str(out / "backbone.json")
    assert backbone["weights"] == str(out / "backbone.safetensors")
    assert backbone["pretrained"] is None
