"""A model from its registration to its rollback, and loaded in a clone that has nothing of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.pipeline.project import run
from tests.registry.project import (
    NAME,
    WEIGHTS,
    commit,
    commit_outputs,
    evaluate,
)
from typer.testing import CliRunner

import vidprompt.registry as registry
from vidprompt.cli.main import app
from vidprompt.models.checkpoint import load_checkpoint
from vidprompt.registry.listing import list_models
from vidprompt.registry.registration import register, rollback
from vidprompt.registry.versions import resolve
from vidprompt.system.errors import UserError


def command(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output or done.exception
    return done.output


def tags(root: Path) -> set[str]:
    return set(run("git", "tag", folder=root).split())


def test_versions_and_stages_are_tags(project: Path) -> None:
    first = register(NAME, "candidate")
    assert first.tags == (f"{NAME}@v0.1.0", f"{NAME}#candidate#1")
    again = register(NAME, "candidate")
    assert again.tags == ()
    assert again.version.version == "v0.1.0"
    assert register(NAME, "staging").tags == (f"{NAME}#staging#2",)
    card = f"{NAME}@v0.1.0"
    assert Path(f"cache/cards/{card}.md").read_text("utf-8") == command("card", card)
    message = run("git", "cat-file", "-p", f"{NAME}@v0.1.0", folder=project)
    assert "minimum supervised top1: 90.0 [80.4, 95.8] (lower end ≥ 30.0)" in message
    assert WEIGHTS in message
    head = commit(project, "nothing of the model's")
    assert register(NAME, "candidate", bump="patch").version.version == "v0.1.1"
    assert resolve(project, f"{NAME}@candidate").commit == head
    assert resolve(project, f"{NAME}@staging").version == "v0.1.0"
    shown = run("gto", "show", f"{NAME}#candidate", "--version", folder=project)  # it agrees
    assert "v0.1.1" in shown


def test_an_earlier_version_is_judged_by_its_own_commit(two_versions: Path) -> None:
    """What is checked out is of v0.2.0; v0.1.0 is worse than that, and has no way back to staging."""
    with pytest.raises(UserError, match="worse than that of small-demo@v0.2.0"):
        register(NAME, "staging", version="v0.1.0")
    for path in ("models", "cache"):
        shutil.rmtree(two_versions / path)
    assert register(NAME, "candidate", version="v0.1.0").version.version == "v0.1.0"
    assert resolve(two_versions, f"{NAME}@candidate").version == "v0.1.0"


def test_a_list_of_models(two_versions: Path) -> None:
    lines = [" ".join(line.split()) for line in command("models").splitlines()]
    found = json.loads(command("models", NAME, "--json"))
    commits, days = [one["commit"][:7] for one in found], [one["date"][:10] for one in found]
    assert lines[2:] == [
        "other-demo not registered – – – – –",
        f"{NAME} v0.2.0 production {commits[0]} {days[0]} supervised/top1 100.0 [95.1, 100.0]",
        f"{NAME} v0.1.0 – {commits[1]} {days[1]} supervised/top1 90.0 [80.4, 95.8]",
    ]
    assert found[1] | {"commit": "", "date": ""} == {
        "model": NAME,
        "version": "v0.1.0",
        "stages": [],
        "commit": "",
        "date": "",
        "measure": "supervised/top1",
        "value": 0.9,
        "ci95": [0.803606, 0.958462],
        "declared": True,
    }
    with pytest.raises(UserError, match="'smal-demo' is declared or registered: did you mean"):
        list_models("smal-demo")


def test_models_without_any_tag(project: Path) -> None:
    assert [one["version"] for one in json.loads(command("models", "--json"))] == ["", ""]
    assert "90.0 [80.4, 95.8]" in command("models", NAME)


def test_rollback(two_versions: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    left, now = rollback(NAME, "production")
    assert left is not None
    assert (left.version, now.version) == ("v0.2.0", "v0.1.0")
    assert f"production: v0.2.0 → v0.1.0 ({now.commit[:7]})" in caplog.messages[0]
    assert resolve(two_versions, f"{NAME}@production").version == "v0.1.0"
    with pytest.raises(UserError, match="nothing to go back to in production: .* is the first"):
        rollback(NAME, "production")  # not to the one that was left
    with pytest.raises(UserError, match="nothing to go back to in staging: nothing was ever in it"):
        rollback(NAME, "staging")
    with pytest.raises(UserError, match="no version of 'other-demo' is registered"):
        rollback("other-demo", "production")
    with pytest.raises(UserError, match="no stage 'prod'"):
        rollback(NAME, "prod")
    register(NAME, "production")  # HEAD's, and it is better
    commit(two_versions, "third")
    assert register(NAME, "production").version.version == "v0.3.0"
    run("gto", "deprecate", NAME, "v0.2.0", folder=two_versions)
    assert rollback(NAME, "production")[1].version == "v0.1.0"  # v0.2.0 is not registered any more


def test_what_others_get(two_versions: Path, tmp_path: Path) -> None:
    run("git", "clone", "-q", "--bare", ".", str(tmp_path / "origin"), folder=two_versions)
    with pytest.raises(UserError, match="no remote 'origin'"):
        rollback(NAME, "production", push=True)
    run("git", "remote", "add", "origin", str(tmp_path / "origin"), folder=two_versions)
    rollback(NAME, "production", push=True)
    commit(two_versions, "third")
    register(NAME, "candidate", push=True)
    assert tags(tmp_path / "origin") == tags(two_versions)
    shutil.rmtree(tmp_path / "origin")
    with pytest.raises(
        UserError, match="origin did not take them: `git push --atomic origin 'small-demo#"
    ):
        register(NAME, "staging", push=True)


def test_loaded_in_a_clone_with_nothing_pulled(two_versions: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run("git", "clone", "-q", str(two_versions), str(clone), folder=tmp_path)
    run("git", "checkout", "-q", "HEAD~1", folder=clone)  # what is checked out does not matter
    clips = torch.rand(1, 4, 3, 32, 32)
    found = {}
    for name in ("v0.1.0", "production", "latest"):
        model = registry.load(f"{NAME}@{name}", clone)
        assert not model.training
        with torch.inference_mode():
            found[name] = model.encode_video(clips)[1]
            assert model.encode_classes(["Run"]).shape == (1, 1, 32)
    assert torch.equal(found["latest"], found["production"])
    assert not torch.equal(found["v0.1.0"], found["production"])
    expected, _ = load_checkpoint(two_versions / WEIGHTS, model.backbone)
    assert torch.equal(expected.eval().encode_video(clips)[1], found["latest"])
    assert not (clone / "models").exists()
    assert not run("git", "status", "--porcelain", folder=clone)


def test_what_was_fetched_is_kept_and_checked(two_versions: Path) -> None:
    registry.load(f"{NAME}@latest")
    weights = Path(f"cache/registry/{NAME}/v0.2.0/model.safetensors")
    whole = weights.read_bytes()
    for path in (".store", ".dvc/cache", "cache/registry/weights", "models"):
        shutil.rmtree(path, ignore_errors=True)
    registry.load(f"{NAME}@latest")  # needs neither cache nor remote
    weights.write_bytes(whole[:-1] + b"x")
    registry.load(f"{NAME}@latest")  # a remote in the repository: its commit has them
    assert weights.read_bytes() == whole
    weights.write_bytes(whole[:-1] + b"x")
    shutil.rmtree("cache/registry/weights")
    Path(".dvc/config.local").write_text(
        "['remote \"store\"']\n    url = ../elsewhere\n", encoding="utf-8"
    )
    with pytest.raises(UserError, match=r"is nowhere \(looked in the cache, store\): .*`dvc push"):
        registry.load(f"{NAME}@latest")


@pytest.mark.parametrize(
    ("selector", "match"),
    [
        (
            "small-demo",
            "which version\\? small-demo@latest, small-demo@production, small-demo@v0.2.0",
        ),
        ("small-demo@v0.3.0", "no version 'v0.3.0'.* did you mean v0.2.0\\?"),
        ("small-demo@staging", "none is in such a stage: .*production"),
        ("smal-demo@latest", "'smal-demo' is registered here \\(did you mean small-demo"),
        ("other-demo@latest", "vidprompt register other-demo --stage candidate"),
    ],
)
def test_what_cannot_be_loaded_says_what_can(two_versions: Path, selector: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        registry.load(selector)


def test_a_card_is_a_function_of_commit_and_tags(two_versions: Path) -> None:
    card = command("card", f"{NAME}@v0.2.0")
    assert Path(f"cache/cards/{NAME}@v0.2.0.md").read_text("utf-8") == card  # as register wrote it
    for part in (
        f"# {NAME} v0.2.0",
        "| Stages | production |",
        resolve(two_versions, f"{NAME}@v0.2.0").commit,
        "| Supervised | top-1 |",
        "| demo | 100 | 1 (empty 1) | passed | MIT |",
        f'model = load("{NAME}@v0.2.0")',
        "name: tiny",  # the backbone, in the configuration
        "one training with one seed",
    ):
        assert part in card, part
    earlier = command("card", f"{NAME}@v0.1.0")
    assert "## Against small-demo@v0.2.0" in earlier
    assert "| supervised top1 | −10.0 [" in earlier
    assert "(not registered)" in command("card", NAME)
    assert command("card", NAME, "--out", "card.md") == "card.md\n"
    assert Path("card.md").is_file()


def test_gate_reports_of_a_workspace_that_is_not_committed(project: Path) -> None:
    evaluate(project, wrong=range(40))
    commit_outputs(project)
    other, small = registry.gate_reports("demo", project=project)
    assert (other.model, small.model) == ("other-demo", NAME)
    assert not other.passed
    assert "says no minimum for other-demo" in other.problems[0]
    assert small.problems == (
        "supervised top1 is 33.3 [22.3, 45.9]%, and its lower end must be at least 30.0",
    )
    evaluate(project, wrong=())
    commit_outputs(project)
    passed = registry.gate_reports("demo", project=project)[1]
    assert passed.passed
    assert passed.refusal == ""
    assert not registry.gate_reports("demo", project=project, tree=True)[1].passed
    assert registry.gate_reports("elsewhere", project=project) == []
    with pytest.raises(UserError, match="no stage"):
        registry.verdicts("demo", "prod", project=project)
