"""Every refusal of `vidprompt register`, in its order; and that nothing is written then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from tests.pipeline.project import edit, run
from tests.registry.project import (
    METRICS,
    NAME,
    POLICY,
    PREDICTIONS,
    RESULT,
    WEIGHTS,
    commit,
    evaluate,
    keep,
    train,
    write_policy,
)
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.registry.registration import register
from vidprompt.system.errors import UserError


def refused(match: str, stage: str = "candidate", name: str = NAME, version: str = "") -> str:
    """The sentence; no tag is made."""
    before = run("git", "tag", folder=Path())
    with pytest.raises(UserError, match=match) as caught:
        register(name, stage, version=version)
    assert run("git", "tag", folder=Path()) == before
    assert not Path(f"cache/cards/{NAME}@v0.1.0.md").exists() or before
    return str(caught.value)


def test_outside_git(project: Path) -> None:
    shutil.rmtree(project / ".git")
    with pytest.raises(UserError, match=f"{project} is no git repository.*run this in a clone"):
        register(NAME, "candidate")


def test_a_tree_that_is_not_as_committed_is_the_first_reason(project: Path) -> None:
    for number in range(7):
        (project / f"new {number}.txt").touch()
    (project / "dvc.yaml").write_text((project / "dvc.yaml").read_text("utf-8") + "# by hand\n")
    message = refused("the tree is not as committed", name="nobody", stage="nowhere")
    assert "(dvc.yaml, new 0.txt, new 1.txt, new 2.txt, new 3.txt and 3 more)" in message
    assert "commit or remove them" in message


def test_a_model_that_is_not_declared(project: Path) -> None:
    message = refused("declares no model 'smal-demo'", name="smal-demo", stage="nowhere")
    assert "did you mean small-demo? valid: other-demo, small-demo" in message  # data is no model
    assert "`smal-demo: {path: models/DATASET/METHOD/RUN/model.safetensors, type: model" in message
    content = (project / "dvc.yaml").read_text("utf-8")
    (project / "dvc.yaml").write_text(content.replace("params/config.yaml, type: data", "x.pt"))
    commit(project, "another artifact")
    refused(r"artifacts\.lists\.path is 'x\.pt'.*which a train stage writes")


def test_a_stage_that_is_none(project: Path) -> None:
    (project / METRICS).write_text("{}")
    commit(project, "out of date as well")
    refused("has no stage 'prod'.*valid: candidate, staging, production", stage="prod")


def test_a_pipeline_that_is_out_of_date(project: Path) -> None:
    metrics = (project / METRICS).read_text("utf-8")
    (project / METRICS).write_text(metrics.replace('"n": 60', '"n": 61'))
    commit(project, "edited by hand")
    shutil.rmtree(project / ".store")  # not in a remote as well, which is the next reason
    commit(project, "and not pushed")
    assert f"evaluate ({METRICS}); run `dvc repro`" in refused("results are not of this code")
    (project / METRICS).write_text(metrics)
    edit(project / "params/recipe/demo/ez_clip.yaml", trainer__lr=1.0)
    commit(project, "another learning rate")
    assert "train (params/recipe/demo/ez_clip.yaml)" in refused("results are not of this code")


def test_results_that_no_stage_makes(project: Path) -> None:
    (project / "results/demo/ez_clip/zero_shot").mkdir()
    shutil.copy(project / METRICS, project / "results/demo/ez_clip/zero_shot")
    commit(project, "by hand")
    refused("zero_shot/metrics.json is no output of a stage in dvc.yaml")


def test_what_is_not_checked_out_is_not_out_of_date(project: Path) -> None:
    for path in ("models", "cache", "data/backbone", ".dvc/cache"):
        shutil.rmtree(project / path, ignore_errors=True)
    register(NAME, "candidate")  # the weights come from the remote


def test_stages_that_were_run_on_something_else(project: Path) -> None:
    """Weights are not there, and the lock's evaluation is of others than its training."""
    lock = project / "dvc.lock"
    before = yaml.safe_load(lock.read_text("utf-8"))["stages"]["evaluate"]
    train(project, seed=5)
    evaluate(project, wrong=())
    keep(project, "second")
    edit(lock, stages__evaluate=before)
    run("git", "checkout", "-q", "HEAD~1", "--", METRICS, folder=project)
    commit(project, "half of each")
    shutil.rmtree(project / "models")
    assert f"evaluate ({PREDICTIONS}, {WEIGHTS})" in refused("results are not of this code")


def test_weights_in_no_remote(project: Path) -> None:
    train(project, seed=2)
    evaluate(project, wrong=())
    keep(project, "not pushed", push=False)
    message = refused("no remote that .dvc/config names")
    assert f"`dvc push -r store {WEIGHTS}`" in message
    assert "commit it if the remote is a folder of this repository" in message
    run("dvc", "push", "-q", "-r", "store", WEIGHTS, folder=project)
    refused(r"the tree is not as committed \(\.store/")
    commit(project, "pushed")
    register(NAME, "candidate")


def test_remotes_that_cannot_be_asked(project: Path) -> None:
    (project / ".dvc/config").write_text("['remote \"far\"']\n    url = gdrive://nobody/x\n")
    commit(project, "far away")
    assert "`dvc push -r far " in refused(r"no remote that .dvc/config names \(far: ")
    (project / ".dvc/config").write_text("")
    commit(project, "none")
    assert "`dvc remote add REMOTE URL`, then `dvc push -r REMOTE " in refused(
        "no remote that .dvc/config names"
    )


def test_results_of_other_weights(project: Path) -> None:
    metrics = (project / METRICS).read_text("utf-8")
    train(project, seed=3)
    (project / METRICS).write_text(metrics)
    keep(project, "metrics of the first weights")
    refused("metrics.json is of other weights")


def test_all_gates_that_are_not_passed_are_listed(project: Path) -> None:
    evaluate(project, wrong=range(40), listed=120)  # 33.3 [22.3, 45.9]
    (project / "results/demo/validation.json").write_text('{"success": false}')
    (project / "results/demo/health.json").write_text('{"videos": 100, "usable": 80}')
    keep(project, "bad")
    message = refused(f"{NAME} does not pass the gates of candidate")
    assert (
        "supervised top1 is 33.3 [22.3, 45.9]%, and its lower end must be at least 30.0" in message
    )
    assert "results/demo/validation.json says failed" in message
    assert "20.0% of demo's videos cannot be used" in message
    assert "supervised tested 50.0% of what it lists, and ≥ 90.0% is required" in message


def test_a_later_stage_asks_for_more(project: Path) -> None:
    evaluate(project, wrong=range(34))  # 43.3 [31.3, 56.0]
    keep(project, "good enough for a candidate")
    register(NAME, "candidate")
    refused("top1 is 43.3 .* at least 40.0", stage="production")


def policy(change: Callable[[dict[str, dict[str, dict[str, object]]]], object]) -> None:
    content = deepcopy(POLICY)
    change(content)  # type: ignore[arg-type]
    write_policy(Path(), content)
    commit(Path(), "another policy")


def test_gates_that_name_nothing_there_is(project: Path) -> None:
    def minimum(of: object) -> None:
        policy(lambda p: p["models"][NAME].update(candidate={"minimum": of}))

    minimum({"supervised": {"top_1": 0.3}})
    refused("supervised has no such measure: did you mean top1\\? valid: mean_class, top1")
    minimum({"zero_shot": {"top1": 0.3}})
    refused("small-demo has no such result: valid: supervised")
    minimum({"zeroshot": {"top1": 0.3}})
    refused("no protocol 'zeroshot': did you mean zero_shot\\?")
    minimum({"supervised": {"top1": 30}})
    refused("minimum.supervised.top1 is 30: a share between 0 and 1")
    policy(lambda p: p["models"].pop(NAME))
    refused(f"says no minimum for {NAME}, .* add models.{NAME}.candidate.minimum")
    policy(lambda p: p["defaults"]["candidate"].update(coverag=0.5))
    refused("unknown key 'defaults.candidate.coverag': did you mean coverage\\?")
    policy(lambda p: p["defaults"].update(canidate={}))
    refused("unknown key 'defaults.canidate': did you mean candidate\\?")
    policy(lambda p: p["defaults"]["staging"].update(not_worse_than="prod"))
    refused("not_worse_than is 'prod': ")


@pytest.fixture
def in_production(project: Path) -> Path:
    register(NAME, "production")  # 90.0
    return project


def test_worse_than_production_by_the_paired_test(in_production: Path) -> None:
    train(in_production, seed=2)
    evaluate(in_production, wrong=range(20))
    keep(in_production, "worse")
    register(NAME, "candidate")  # candidates may be
    message = refused("supervised top1 is worse than that of small-demo@v0.1.0", stage="staging")
    assert "(90.0% → 66.7%, −23.3 [" in message
    evaluate(in_production, wrong=range(3, 10))
    keep(in_production, "one less is right: no difference shown")
    register(NAME, "staging")


def test_not_compared_with_production(in_production: Path) -> None:
    train(in_production, seed=2)
    evaluate(in_production, wrong=())
    keep(in_production, "better")
    shutil.rmtree(in_production / ".dvc/cache")  # with production's predictions
    message = refused("neither in DVC's cache nor in a remote", stage="staging")
    assert "`dvc push`" in message
    assert f"{RESULT}@" in message


def test_the_same_weights_need_no_test(in_production: Path) -> None:
    commit(in_production, "something else changed")
    shutil.rmtree(in_production / ".dvc/cache")
    register(NAME, "staging")


def test_an_unknown_version(in_production: Path) -> None:
    refused("has no version 'v0.2.0': .*valid: v0.1.0", version="v0.2.0")


def test_check_shows_everything_and_writes_nothing(project: Path) -> None:
    command = ["register", NAME, "--stage", "production", "--check"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert "Minimum supervised top1" in shown.output
    assert "lower end ≥ 40.0" in shown.output
    assert "FAILED" not in shown.output
    (project / "new.txt").touch()
    evaluate(project, wrong=range(40))
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 1
    lines = [" ".join(line.split()) for line in shown.output.splitlines()]
    assert "Minimum supervised top1 33.3 [22.3, 45.9] lower end ≥ 40.0 FAILED" in lines
    assert "Pipeline dvc.lock 1 stages out of date up to date FAILED" in lines
    assert "Tree git 2 changed clean FAILED" in lines
    assert "Validation demo passed passed passed" in lines
    assert not run("git", "tag", folder=project)
    assert not (project / "cache/cards").exists()
    json.loads((project / METRICS).read_text("utf-8"))
