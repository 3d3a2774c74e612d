"""The published implementations' numbers, through the importer of their checkpoints."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.published.parity import check_parity
from vidprompt.system.errors import UserError

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["ezclip_small", "vitaclip_small"])
def test_outputs_losses_and_gradients_are_the_published_ones(name: str) -> None:
    result = check_parity(GOLDEN / f"{name}.json")
    assert result["passed"], result["largest"]
    assert result["largest"]["output"] < 1e-5
    assert result["largest"]["gradient_norm"] < 1e-5
    assert result["largest"]["gradient_head"] < 1e-4
    counts = result["trainable_parameters"]
    assert counts["found"] == counts["expected"]
    assert "loss" in result["outputs"]


def test_a_changed_number_does_not_pass(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "ezclip_small.json", tmp_path)
    with np.load(GOLDEN / "ezclip_small.npz") as content:
        arrays = dict(content)
    arrays["out/loss_motion"] = arrays["out/loss_motion"] * 1.001
    np.savez(tmp_path / "ezclip_small.npz", **arrays)
    result = check_parity(tmp_path / "ezclip_small.json")
    assert not result["passed"]
    assert result["outputs"]["loss_motion"] > 1e-4


def test_a_gradient_that_is_not_there_does_not_pass(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "vitaclip_small.json", tmp_path)
    with np.load(GOLDEN / "vitaclip_small.npz") as content:
        arrays = dict(content)
    del arrays["gradnorm/visual.time_embed"]
    np.savez(tmp_path / "vitaclip_small.npz", **arrays)
    result = check_parity(tmp_path / "vitaclip_small.json")
    assert result["gradients_unexpected"] == ["visual.time_embed"]
    assert not result["passed"]


def test_the_command_prints_json_and_exits_1_above_tolerance(tmp_path: Path) -> None:
    good = CliRunner().invoke(app, ["parity", str(GOLDEN / "vitaclip_small.json")])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["passed"] is True
    shutil.copy(GOLDEN / "vitaclip_small.json", tmp_path)
    with np.load(GOLDEN / "vitaclip_small.npz") as content:
        arrays = dict(content)
    arrays["out/loss"] = arrays["out/loss"] + 0.01
    np.savez(tmp_path / "vitaclip_small.npz", **arrays)
    bad = CliRunner().invoke(app, ["parity", str(tmp_path / "vitaclip_small.json")])
    assert bad.exit_code == 1
    assert json.loads(bad.stdout)["passed"] is False


def test_what_is_no_golden_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        check_parity(tmp_path / "nothing.json")
    (tmp_path / "other.json").write_text('{"model": "ezclip"}')
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    with pytest.raises(UserError, match="is no golden: it needs"):
        check_parity(tmp_path / "other.json")
