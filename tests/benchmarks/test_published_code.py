"""The benchmark beside the published code: what is no checkout, stored runs, and intervals over seeds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.published_code import main, planned, results, stored_result
from benchmarks.side_by_side.checkouts import (
    REPOSITORIES,
    STAND_INS,
    Attributes,
    check_checkout,
    checkout_version,
)
from benchmarks.side_by_side.setting import CONTEXT, SETTINGS, dimensions, published_values
from benchmarks.side_by_side.summary import compare, difference, picture, table
from tests.models.small import small_backbone

from vidprompt.models import create_model
from vidprompt.models.text.tower import eot_positions
from vidprompt.system.errors import UserError


def checkout(folder: Path, method: str) -> Path:
    for name in REPOSITORIES[method].files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


def git(folder: Path, *command: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", "-C", str(folder), *own, *command], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_folder_that_is_no_checkout_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="--ez-clip .* is no checkout of .*EZ-CLIP: it has no clip"):
        check_checkout("ez_clip", tmp_path)
    other = checkout(tmp_path / "vita", "vita_clip")
    with pytest.raises(UserError, match="is no checkout"):  # of the other repository
        check_checkout("ez_clip", other)
    assert check_checkout("vita_clip", other) == other
    monkeypatch.setattr(sys, "argv", ["published_code.py", "--ez-clip", str(tmp_path)])
    with pytest.raises(SystemExit, match="^published_code: --ez-clip .* is no checkout .*py$"):
        main()
    monkeypatch.setattr(sys, "argv", ["published_code.py"])
    with pytest.raises(SystemExit, match="give at least one checkout"):
        main()


def test_a_checkout_is_named_by_its_commit_and_changes_show(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "vita", "vita_clip")
    git(tmp_path, "init", "-q")  # a repository around it is another one's
    with pytest.raises(UserError, match="does not know the commit"):
        checkout_version("vita_clip", folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "x")
    commit = git(folder, "rev-parse", "HEAD")
    assert checkout_version("vita_clip", folder)["commit"] == commit
    (folder / "training/VitaCLIP_model.py").write_text("changed")
    assert checkout_version("vita_clip", folder)["commit"] == f"{commit}-dirty"


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_texts_padded_to_the_published_length_keep_their_features(method: str) -> None:
    model = create_model(method, small_backbone(), num_frames=2, class_names=["a", "b"])
    values = published_values(model)
    prefix = "" if method == "ez_clip" else "textual."
    positions = values[f"{prefix}positional_embedding"]
    assert len(positions) == CONTEXT
    length = int(model.clip.context_length)
    assert torch.equal(positions[:length], model.clip.positional_embedding)
    tokens = model.backbone.tokenizer(["a cat on a mat"])
    longer = torch.nn.functional.pad(tokens, (0, CONTEXT - length))
    assert torch.equal(eot_positions(longer), eot_positions(tokens))
    assert dimensions(model.backbone)["heads"] == model.vision_blocks[0].attn.num_heads


def test_both_codes_get_the_same_numbers() -> None:
    setting = SETTINGS["ez_clip"]
    overrides = dict(one.split("=", 1) for one in setting.overrides(1000, seed=2))
    assert int(overrides["trainer.length"]) == setting.steps(1000)
    assert float(overrides["trainer.lr"]) == setting.lr
    assert int(overrides["trainer.warmup"]) == setting.warmup * (1000 // setting.batch)


def test_a_stored_run_is_used_for_the_same_fingerprint_only(tmp_path: Path) -> None:
    run = planned(["ez_clip"], quick=False)[1]
    versions = {"ez_clip": {"commit": "a"}}
    fingerprint = run.fingerprint(versions)
    file = run.file(tmp_path)
    file.parent.mkdir()
    file.write_text(json.dumps({"fingerprint": fingerprint, "result": {"top1": 0.5}}))
    assert stored_result(file, fingerprint) == {"top1": 0.5}
    assert stored_result(file, run.fingerprint({"ez_clip": {"commit": "b"}})) is None
    assert stored_result(tmp_path / "none.json", fingerprint) is None


def run_result(top1: float, loss: float) -> dict[str, Any]:
    right = [1] * round(top1 * 100) + [0] * round((1 - top1) * 100)
    times = {"step_ms": 10.0, "data_ms": 1.0, "peak_gb": 1.0}
    return {"loss": [4.0] * 50 + [loss] * 50, "right": right, "top1": top1, **times}


def test_trainings_are_the_same_only_where_zero_is_in_both_intervals() -> None:
    near = {1: run_result(0.50, 2.0), 2: run_result(0.54, 2.1), 3: run_result(0.52, 2.2)}
    same = compare({"published": near, "ours": {k + 1: v for k, v in near.items()}})
    assert same["same"] is True
    far = {1: run_result(0.50, 3.0), 2: run_result(0.54, 3.1), 3: run_result(0.52, 3.2)}
    other = compare({"published": near, "ours": far})
    assert other["same"] is False
    low, high = other["ours - published"]["last fifth's loss"]["ci95"]
    assert low < 1.0 < high
    assert low > 0
    assert other["ours"]["top1"]["mean"] == pytest.approx(0.52)
    one = compare({"published": {1: near[1]}, "ours": {1: far[1]}})
    assert one["same"] is None  # a single seed says nothing of chance


def test_the_interval_of_a_difference_is_welchs() -> None:
    # means 0.6 and 0.5, variances 0.01 of three each: half width = t(0.975, 4) * sqrt(2 * 0.01 / 3)
    found = difference([0.5, 0.6, 0.7], [0.4, 0.5, 0.6])
    half = 2.7764 * (2 * 0.01 / 3) ** 0.5
    assert found["ci95"] == pytest.approx([0.1 - half, 0.1 + half], abs=2e-4)
    assert difference([0.5, 0.5], [0.5, 0.5])["ci95"] == [0, 0]


def test_results_name_checkouts_stand_ins_and_every_method() -> None:
    runs = planned(["vita_clip"], quick=False)
    found = {
        run.name: run_result(0.5, 2.0)
        if run.code != "without_chance"
        else {"largest difference of a loss": 1e-6}
        for run in runs
    }
    versions = {"vita_clip": {"repository": "r", "commit": "c"}}
    result = results(runs, found, versions)
    assert result["checkouts"] == versions
    assert result["stand-ins"] == {"vita_clip": STAND_INS["vita_clip"]}
    assert len(result["training"]["vita_clip"]["ours"]["curves"]) == 3
    assert table(result).count("Vita-CLIP") == 3
    assert picture(result["training"]).startswith(b"\x89PNG")


def test_attributes_reach_nested_values_and_miss_nothing() -> None:
    config = Attributes({"prompt": {"use": True}})
    assert config.prompt.use is True
    assert not config.network.fix_text
