"""Forged, moved, missing or foreign files are noticed when a model is checked."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.pipeline.project import edit, run
from tests.provenance.small_package import COMPOSE, STAGE, add_package, drop_dependency
from tests.registry.project import (
    METRICS,
    NAME,
    POLICY,
    PREDICTIONS,
    RUN,
    WEIGHTS,
    change_metrics,
    commit,
    commit_outputs,
    evaluate,
    train,
    write_policy,
)
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.metrics.result import summary_measures
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.revision import Revision
from vidprompt.registry.checks import Check
from vidprompt.registry.declared import declared_models, model_results, other_runs
from vidprompt.registry.git_tags import check_tags, push
from vidprompt.registry.listing import list_models
from vidprompt.registry.registration import check, register, rollback
from vidprompt.system.errors import DataError, UserError

BACKBONE = "data/backbone/tiny.safetensors"


def checks(kind: str, stage: str = "candidate", version: str = "") -> list[Check]:
    """As `register --check` has them, the clean tree aside."""
    return [one for one in check(NAME, stage, version).checks if one.kind == kind]


def objects(root: Path, path: str) -> tuple[str, ...]:
    with DvcProject(Revision(root)) as dvc:
        return dvc.tracked_objects(path)


def stored(md5: str) -> Path:
    return Path(".store/files/md5") / md5[:2] / md5[2:]


def test_numbers_that_do_not_follow_from_the_predictions(project: Path) -> None:
    def better(metrics: dict[str, Any]) -> None:
        for entry in (metrics["summary"]["supervised"], metrics["splits"][RUN]["tests"]["test"]):
            entry["top1"] = {"value": 0.99, "ci95": [0.98, 1.0]}

    change_metrics(project, better)  # dvc.lock has its MD5
    commit(project, "much better")
    with pytest.raises(UserError, match=f"{METRICS} does not follow from its predictions: .*top1"):
        register(NAME, "candidate")


def test_predictions_that_are_nowhere_are_said_to_be(project: Path) -> None:
    assert [one.value for one in checks("recomputed")] == ["equal"]
    shutil.rmtree("cache/predictions")
    assert [one.value for one in checks("recomputed")] == ["equal"]  # from DVC's cache
    shutil.rmtree(".dvc/cache")
    register(NAME, "candidate")
    message = run("git", "cat-file", "-p", f"{NAME}@v0.1.0", folder=project)
    assert "recomputed supervised: not recomputed (equal), NOT CHECKED" in message
    assert "All passed" not in message
    shown = CliRunner().invoke(app, ["register", NAME, "--stage", "candidate", "--check"])
    (line,) = [one for one in shown.output.splitlines() if "Recomputed supervised" in one]
    assert line.endswith("not checked")
    for file in ("dvc.yaml", "dvc.lock"):  # nobody keeps them
        content = yaml.safe_load(Path(file).read_text("utf-8"))
        content["stages"]["evaluate"]["outs"] = [
            out for out in content["stages"]["evaluate"]["outs"] if PREDICTIONS not in str(out)
        ]
        Path(file).write_text(yaml.safe_dump(content), encoding="utf-8")
    assert "names no cache/predictions" in checks("recomputed")[0].problem


def test_a_dependency_that_was_taken_out_of_the_pipeline(project: Path) -> None:
    edit(project / "params/recipe/demo/ez_clip.yaml", trainer__lr=1.0)
    content = yaml.safe_load(Path("dvc.yaml").read_text("utf-8"))
    del content["stages"]["train"]["params"]
    Path("dvc.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    commit(project, "nobody looks at the parameters")
    with pytest.raises(UserError, match=r"out of date are train \(.*is in dvc.lock and not in"):
        register(NAME, "candidate")


@pytest.mark.parametrize("at_a_commit", [False, True])
def test_code_that_is_no_dependency(project: Path, at_a_commit: bool) -> None:
    add_package(project, "train", "train")
    commit_outputs(project)
    commit(project, "with the package's sources")
    version = register(NAME, "candidate").version.version if at_a_commit else ""
    assert all(one.passed for one in checks("pipeline", version=version))
    drop_dependency(project, "train", COMPOSE)
    commit(project, "an edit of the composition is seen by nobody")
    if at_a_commit:
        version = register_unchecked(project)
    message = checks("pipeline", version=version)[0].problem
    assert f"train (`{COMPOSE}` is run by it and is no dependency)" in message
    if not at_a_commit:
        with pytest.raises(UserError, match="compose.py` is run by it and is no dependency"):
            register(NAME, "candidate")
    (project / COMPOSE).write_text("def (")
    commit(project, "it cannot be parsed")
    assert "the imports of `vidprompt train` cannot be read" in checks("pipeline")[0].problem
    (project / STAGE.format("train")).unlink()
    commit(project, "the stage is not where stages are")
    assert "the code of `vidprompt train` is not known" in checks("pipeline")[0].problem


def register_unchecked(project: Path) -> str:
    """A version that someone tagged by hand."""
    run("git", "tag", "-a", f"{NAME}@v9.0.0", "-m", "by hand", folder=project)
    return "v9.0.0"


def test_a_file_in_a_folder_that_another_stage_wrote(project: Path) -> None:
    content = yaml.safe_load(Path("dvc.yaml").read_text("utf-8"))
    content["stages"]["train"]["outs"].append("cache/folder")
    content["stages"]["evaluate"]["deps"] += ["cache/folder/inside", "cache/folder/sub"]
    Path("dvc.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    Path("cache/folder/sub").mkdir(parents=True)
    Path("cache/folder/inside").write_text("as it was", encoding="utf-8")
    Path("cache/folder/sub/one").write_text("as it was, too", encoding="utf-8")
    commit_outputs(project)
    shutil.rmtree("cache/folder")
    assert not any(one.problem for one in checks("pipeline"))
    assert [(one.value, one.was_done) for one in checks("links")] == [("4 followed", True)]
    lock = yaml.safe_load(Path("dvc.lock").read_text("utf-8"))
    for dep in lock["stages"]["evaluate"]["deps"]:
        if dep["path"] == "cache/folder/inside":
            dep["md5"] = "0" * 32
    Path("dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")
    assert "evaluate (cache/folder/inside)" in checks("pipeline")[0].problem
    shutil.rmtree(".dvc/cache")
    assert [(one.value, one.was_done) for one in checks("links")] == [
        ("2 of 4 not followed", False)
    ]


def test_a_backbone_that_nobody_else_gets(project: Path) -> None:
    assert [one.subject for one in checks("remote")] == [
        WEIGHTS,
        "data/backbone/tiny.json",
        BACKBONE,
    ]
    folder, md5 = objects(project, BACKBONE)
    for name, gone in (("file", md5), ("listing", folder)):
        run("git", "rm", "-q", str(stored(gone)), folder=project)
        commit(project, f"without the {name}")
        with pytest.raises(UserError, match="has the backbone's .*dvc push -r store data/backb"):
            register(NAME, "candidate")
        run("git", "revert", "-n", "HEAD", folder=project)
        commit(project, "again")
    assert all(one.passed for one in checks("remote"))


def test_a_remote_that_this_machine_alone_knows(project: Path, tmp_path: Path) -> None:
    shutil.move(".store", tmp_path / "private")
    commit(project, "not in the repository any more")
    Path(".dvc/config.local").write_text(
        f"['remote \"own\"']\n    url = {tmp_path}/private\n", encoding="utf-8"
    )
    first = checks("remote")[0]
    assert first.value == "only on this machine"
    assert "(own: only on this machine, it is not in .dvc/config)" in first.problem
    Path(".dvc/config.local").write_text(
        f"['remote \"store\"']\n url = {tmp_path}/private\n", encoding="utf-8"
    )
    assert checks("remote")[0].value == "only on this machine"  # others know it elsewhere
    shared = Path(".dvc/config").read_text("utf-8").replace("../.store", f"{tmp_path}/private")
    Path(".dvc/config").write_text(shared, encoding="utf-8")
    assert checks("remote")[0].value == "store"


def test_a_remote_with_other_bytes(project: Path) -> None:
    (md5,) = objects(project, WEIGHTS)
    stored(md5).chmod(0o644)
    stored(md5).write_bytes(b"something else")
    commit(project, "of the same name")
    with pytest.raises(
        UserError, match=r"store: damaged there, delete it\) has the weights models/"
    ):
        register(NAME, "candidate")
    Path(".gitignore").write_text("/cache/\n/models/\n/.store/\n", encoding="utf-8")
    run("git", "rm", "-rq", "--cached", ".store", folder=project)
    run("dvc", "push", "-q", "-r", "store", WEIGHTS, folder=project)
    commit(project, "in a folder of the repository that git ignores")
    assert checks("remote")[0].value == "nowhere"


def test_tags_that_were_not_fetched(two_versions: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run("git", "clone", "-q", "--no-tags", str(two_versions), str(clone), folder=tmp_path)
    with pytest.raises(UserError, match="4 of origin's 4 tags of small-demo are not here.*`git fe"):
        register(NAME, "candidate", project=clone)
    with pytest.raises(UserError, match="`git fetch --tags`"):
        rollback(NAME, "production", project=clone)
    run("git", "fetch", "-q", "--tags", folder=clone)
    assert check_tags(clone, NAME).value == "4 of 4"
    run("git", "tag", "-d", f"{NAME}@v0.1.0", folder=clone)
    run("git", "tag", "-a", "-m", "moved", f"{NAME}@v0.1.0", "HEAD", folder=clone)
    assert f"are others here ({NAME}@v0.1.0)" in check_tags(clone, NAME).problem
    run("git", "tag", "-a", "-m", "new", f"{NAME}@v9.0.0", "HEAD", folder=clone)
    with pytest.raises(UserError, match="origin did not take them"):
        push(clone, [f"{NAME}@v9.0.0", f"{NAME}@v0.1.0"])
    assert f"{NAME}@v9.0.0" not in run("git", "tag", folder=two_versions)  # none of them
    run("git", "remote", "set-url", "origin", str(tmp_path / "nowhere"), folder=clone)
    unasked = check_tags(clone, NAME)
    assert (unasked.value, unasked.was_done, unasked.passed) == (
        "origin does not answer",
        False,
        True,
    )


@pytest.mark.parametrize("minimum", [None, {}, {"supervised": None}, {"supervised": {}}])
def test_a_minimum_that_asks_for_nothing(project: Path, minimum: object) -> None:
    content: dict[str, Any] = deepcopy(POLICY)
    content["models"][NAME]["candidate"] = {"minimum": minimum}
    write_policy(project, content)
    with pytest.raises(UserError, match=r"candidate\.minimum.* is empty: name a "):
        check(NAME, "candidate")


def test_a_gated_measure_that_no_test_compares(two_versions: Path) -> None:
    content: dict[str, Any] = deepcopy(POLICY)
    gates = content["models"][NAME]["candidate"]["minimum"]["supervised"]
    gates["mean_class"] = 0.1
    gates["within/pair"] = 0.1
    write_policy(two_versions, content)
    train(two_versions, seed=3)
    evaluate(two_versions, wrong=())
    commit_outputs(two_versions)
    found = {one.subject: one for one in checks("not_worse", "staging")}
    one = found["supervised against v0.2.0 within/pair"]
    assert (one.value, one.was_done) == ("no paired test", False)
    assert found["supervised against v0.2.0 top1"].was_done


def test_a_measure_of_several_trainings(project: Path) -> None:
    model = declared_models(Revision(project))[NAME]

    def second(metrics: dict[str, Any]) -> None:
        metrics["splits"]["supervised_split2"] = metrics["splits"][RUN] | {"run": "another"}
        metrics["splits"]["few_shot_8shot_seed1"] = metrics["splits"][RUN] | {"run": "third"}
        metrics["summary"]["8shot"] = metrics["summary"]["supervised"]

    change_metrics(project, second)
    (judged,) = model_results(model, Revision(project))
    named = summary_measures(judged.result)
    assert other_runs(judged, named["top1"]) == ["another"]
    assert other_runs(judged, named["8shot/top1"]) == ["third"]
    (gate,) = checks("minimum")
    assert "is made of other trainings, too (another)" in gate.problem


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["hashes"].update(checkpoints=None), "`hashes.checkpoints` is None"),
        (lambda m: m.update(splits=None), "`splits` is None"),
        (lambda m: m["splits"].update({RUN: 3}), f"`splits.{RUN}` is 3"),
        (lambda m: m["summary"].update(supervised=0.9), "`summary.supervised` is 0.9"),
        (lambda m: m["summary"]["supervised"]["top1"].update(value=math.nan), "top1.value` is nan"),
        (lambda m: m["summary"]["supervised"]["top1"].update(ci95=[math.nan, 1]), "ci95` is nan"),
        (lambda m: m.update(coverage="all"), "`coverage` is 'all', not a number"),
    ],
)
def test_metrics_of_another_form(
    project: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    metrics = json.loads(Path(METRICS).read_text("utf-8"))
    change(metrics)
    Path(METRICS).write_text(json.dumps(metrics), encoding="utf-8")
    with pytest.raises(DataError, match=f"{METRICS} of the workspace .*{message}"):
        check(NAME, "candidate")
    assert list_models(NAME)[0]["value"] is None


def test_a_coverage_that_is_no_number_or_not_of_its_counts(project: Path) -> None:
    for coverage in (math.nan, "all", None):
        change_metrics(project, lambda m, to=coverage: m.update(coverage=to))  # type: ignore[misc]
        with pytest.raises(DataError, match="`coverage` is "):
            checks("coverage")
    change_metrics(project, lambda m: m.update(coverage=1.0))
    assert "coverage is not its n" in checks("coverage")[0].problem
    Path("results/demo/health.json").write_text(
        '{"videos": "many", "usable": NaN}', encoding="utf-8"
    )
    assert "100.0% of demo's videos cannot be used" in checks("broken")[0].problem


def test_a_name_that_leads_elsewhere(project: Path) -> None:
    content = yaml.safe_load(Path("dvc.yaml").read_text("utf-8"))
    content["artifacts"]["../../../evil"] = content["artifacts"][NAME]
    Path("dvc.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    commit(project, "evil")
    with pytest.raises(UserError, match=r"artifacts has '\.\./\.\./\.\./evil'"):
        register("../../../evil", "candidate")
    assert not list(project.parent.glob("evil*"))


def test_a_lock_with_marks_of_a_merge(project: Path) -> None:
    lock = Path("dvc.lock").read_text("utf-8")
    Path("dvc.lock").write_text(
        f"<<<<<<< HEAD\n{lock}=======\n{lock}>>>>>>> other\n", encoding="utf-8"
    )
    shown = CliRunner().invoke(app, ["register", NAME, "--stage", "candidate", "--check"])
    assert shown.exception is None or isinstance(shown.exception, SystemExit | UserError)
    with pytest.raises(UserError, match=r"dvc.lock"):
        raise UserError("; ".join(check(NAME, "candidate").problems))


def test_a_card_that_cannot_be_written(project: Path) -> None:
    train(project, seed=1)
    evaluate(project, wrong=())
    shown = CliRunner().invoke(app, ["card", NAME, "--out", "params"])
    assert isinstance(shown.exception, SystemExit | UserError), shown.exception
    assert "params cannot be written" in f"{shown.output}{shown.exception}"
