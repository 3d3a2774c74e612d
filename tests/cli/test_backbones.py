"""`vidprompt backbones`: what is configured, and what of open_clip is taken."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.reproduce.backbones.catalogue import configured, registered

PARAMS = Path(__file__).parents[2] / "params/backbone"


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["backbones", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_each_backbone_has_a_row_and_its_sources_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PARAMS.parents[1])
    lines = shown().splitlines()
    row = next(line.split() for line in lines if line.startswith("pe_core_b_16 "))
    assert row[1:-2] == ["PE-Core-B-16:meta", "224", "448", "35.6", "apache-2.0", "78.4"]
    assert f"{row[-1]:>3}  github facebookresearch/perception_models, apps/pe/README.md" in lines
    found = json.loads(shown("--json"))
    assert [one["file"] for one in found] == [one.file for one in configured(PARAMS)]
    known = next(one["figures"] for one in found if one["file"] == "vit_b_16")
    assert (known["imagenet"], known["kinetics400"], known["pixels"]) == (68.3, None, 224)
    assert known["licence_source"] == "github openai/CLIP, LICENSE"


def test_all_of_open_clips_models_are_taken_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From any folder."""
    monkeypatch.chdir(tmp_path)
    lines = shown("--all").splitlines()
    taken = sum(not reason for reason in registered().values())
    assert lines[0] == f"Models of open_clip: {taken} of {len(registered())} are taken"
    assert any(line.split() == ["ViT-B-16-SigLIP2", "taken"] for line in lines)
    found = json.loads(shown("--all", "--json"))
    assert found["PE-Core-B-16"] == {"refused": None}
    assert "ModifiedResNet" in found["RN50"]["refused"]
    assert set(found) == set(registered())
    result = CliRunner().invoke(app, ["backbones"])
    assert "there is no params/backbone here" in str(result.exception)
