"""`vidprompt tune`: which trials are run, pruned, resumed, and what they leave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tuning.project import MADE, make_project, space

from vidprompt import tuning
from vidprompt.config.compose import compose
from vidprompt.system.errors import UserError
from vidprompt.tuning import pictures
from vidprompt.tuning import plan as plans

pytest.importorskip("optuna")
RATE = "trainer.lr"


class Project:
    """Runs tunes of a project, and knows which stages were called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.command = folder, make_project(folder)
        self.calls = folder / "calls.txt"

    def tune(self, *arguments: str, **options: object) -> dict:
        self.calls.write_text("")
        given = ("tune=small", *arguments)
        self.result = tuning.run(given, command=self.command, **options)  # type: ignore[arg-type]
        return json.loads((self.result.page.parent / "tune.json").read_text("utf-8"))

    def trained(self) -> int:
        return sum(call.startswith("train") for call in self.calls.read_text().splitlines())


@pytest.fixture
def page() -> None:
    """Asked for by tests of the page: its pictures take time to draw."""


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Project:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls.txt"))
    monkeypatch.setattr(plans, "Configurations", lambda: MADE)
    if "page" not in request.fixturenames:
        monkeypatch.setattr(pictures, "drawn", lambda result: {})
    made = Project(tmp_path)
    space(tmp_path)
    return made


def values(found: dict, method: str = "ez_clip") -> list[float]:
    return [trial["values"][RATE] for trial in found["methods"][method]["trials"]]


def check_trial_folders() -> None:
    """A trial has no test list, and leaves no weights."""
    split, *_ = Path("multirun").glob("*/ez_clip/trials/*/cache/splits/demo/*.json")
    content = json.loads(split.read_text("utf-8"))
    assert (content["tests"], content["train"]["videos"], content["val"]["videos"]) == (
        {},
        ["1", "2"],
        ["3", "4"],
    )
    assert not list(Path("multirun").glob("*/ez_clip/trials/*/models"))


def test_the_first_trial_is_the_recipe_and_the_best_is_an_experiment(project: Project) -> None:
    found = project.tune("trainer.lr=1e-5")
    check_trial_folders()
    assert values(found)[0] == 1e-5
    one = found["methods"]["ez_clip"]
    best = one["trials"][one["best"]]
    assert (
        best["value"]
        == max(trial["value"] for trial in one["trials"])
        > 2 * one["trials"][0]["value"]
    )
    assert (found["trained_on"], found["held_out"], one["steps"]) == (2, 2, 400)
    text = project.result.best["ez_clip"].read_text("utf-8")
    Path("params/experiment/tuned.yaml").write_text(text, encoding="utf-8")
    config = compose(["experiment=tuned"])
    assert config.trainer.lr == best["values"][RATE]
    assert (config.method.name, config.split, config.values["protocol"]["held_out"]) == (
        "ez_clip",
        "supervised_split1",
        0,
    )
    table = project.result.table
    assert "| trial | held-out | trainer.lr |" in table


@pytest.mark.slow
def test_the_page_shows_what_was_searched(page: None, project: Project) -> None:
    project.tune()
    text = project.result.page.with_name("tune.html").read_text("utf-8")
    assert text.count('src="data:image/png;base64,') == 2
    assert {"history.png", "searched_ez_clip.png"} <= {
        file.name for file in project.result.page.parent.iterdir()
    }


@pytest.mark.slow
def test_the_same_seed_draws_the_same_values_and_more_trials_go_on(project: Project) -> None:
    first = project.tune("seed=2")
    assert project.trained() == 6
    again = project.tune("seed=2")
    assert project.trained() == 0
    assert again == first
    more = project.tune("seed=2", "tune.trials=8")
    assert project.trained() == 2
    assert values(more)[:6] == values(first)
    fresh = project.tune("seed=2", "tune.trials=8", again=True)
    assert project.trained() == 8
    assert fresh == more
    assert values(project.tune("seed=3"))[1:] != values(first)[1:]


PRUNED = {"pruner": "median", "startup_trials": 1, "trials": 4, "sampler": "random"}


def test_a_bad_trial_is_pruned_by_its_evaluations(project: Project) -> None:
    space(project.folder, **PRUNED)
    trials = project.tune()["methods"]["ez_clip"]["trials"]
    pruned = [trial for trial in trials if trial["state"] == "pruned"]
    assert pruned
    assert all(3 <= len(trial["held_out"]) < 5 for trial in pruned)


@pytest.mark.slow
def test_which_trials_are_pruned_does_not_depend_on_when_they_are_seen(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    space(project.folder, **PRUNED)
    fast = project.tune()
    monkeypatch.setenv("SLOW", "0.25")
    assert project.tune(again=True) == fast


@pytest.mark.slow
def test_a_killed_tune_redoes_the_trial_that_was_under_way(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = project.tune("tune.trials=3")
    code = (
        "import sys; from vidprompt import tuning; "
        f"tuning.run(['tune=small', 'tune.trials=3'], again=True, command={list(project.command)!r})"
    )
    monkeypatch.setenv("DIE", "2")
    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert killed.returncode == -9
    monkeypatch.delenv("DIE")
    found = project.tune("tune.trials=3")
    assert found == whole
    assert project.trained() == 3


@pytest.mark.slow
def test_a_rate_that_diverges_is_a_failed_trial_and_the_others_go_on(project: Project) -> None:
    space(
        project.folder,
        space={RATE: {"choices": [0.006, 0.5, 0.01]}},
        trials=6,
        sampler="random",
    )
    found = project.tune("trainer.lr=0.006")
    failed = [t for t in found["methods"]["ez_clip"]["trials"] if t["state"] == "failed"]
    assert failed
    assert all("not finite" in trial["reason"] for trial in failed)
    assert "Failed, trial" in project.result.table
    space(project.folder, space={RATE: {"low": 0.1, "high": 1.0}})
    with pytest.raises(UserError, match="the first 3 trials of ez_clip failed: train .*not finite"):
        project.tune("trainer.lr=0.2")


@pytest.mark.slow
def test_methods_have_equal_budgets(project: Project) -> None:
    found = project.tune("methods=ez_clip,vita_clip", "tune.trials=2", jobs=2, save="tuned")
    steps = {name: one["steps"] for name, one in found["methods"].items()}
    assert steps == {"ez_clip": 650, "vita_clip": 650}  # of Vita-CLIP's recipe, the longest
    assert [len(one["trials"]) for one in found["methods"].values()] == [2, 2]
    assert {m: file.name for m, file in project.result.best.items()} == {
        "ez_clip": "tuned_ez_clip.yaml",
        "vita_clip": "tuned_vita_clip.yaml",
    }
    assert compose(["experiment=tuned_ez_clip"]).trainer.length == 650


@pytest.mark.slow
def test_changed_ranges_are_not_mixed_with_old_trials(project: Project) -> None:
    project.tune("tune.trials=1")
    space(project.folder, space={RATE: {"low": 1.0e-4, "high": 1.0e-2}})
    with pytest.raises(UserError, match="trials of ez_clip with other parameters.* --again"):
        project.tune("tune.trials=1")


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ({"space": {"trainer.lrr": {"low": 0.1, "high": 1}}}, [], "unknown key 'trainer.lrr'"),
        ({"space": {RATE: {"low": 1, "high": 0.1}}}, [], "low 1 is not below high 0.1"),
        ({"space": {RATE: {"low": 0, "high": 1, "log": True}}}, [], "log needs a low above 0"),
        ({"space": {RATE: {"low": "x", "high": 1}}}, [], "low is 'x', and no number"),
        ({"space": {RATE: {"lo": 0.1, "high": 1}}}, [], "unknown 'lo': did you mean low"),
        ({"space": {RATE: {"choices": [1]}}}, [], "choices are two or more"),
        ({"space": {"seed": {"choices": [1, 2]}}}, [], "seed is equal for all trials"),
        ({"space": {"protocol.held_out": {"low": 0.1, "high": 0.2}}}, [], "equal for all trials"),
        ({"space": {"trainer.schedule": {"choices": ["cosine", "cosin"]}}}, [], "cosin"),
        ({"trials": 0}, [], "trials is 0: give a whole number from 1"),
        ({"pruner": "medium"}, [], "tune.pruner=medium: did you mean median"),
        ({}, ["tune.trails=3"], "unknown key 'tune.trails': did you mean trials"),
        ({}, ["methods=ez_clip,vita"], "methods=vita: did you mean vita_clip"),
        ({}, ["method=frozen_clip"], "frozen_clip has nothing to train"),
        ({}, ["protocol=zero_shot"], "zero_shot trains on nothing of its own"),
        ({}, ["trainer.best_on_test=true"], "held-out training videos alone"),
        ({}, ["tune=smal"], "tune is given twice"),
    ],
)
def test_a_mistake_is_one_sentence(
    project: Project, content: dict, arguments: list[str], message: str
) -> None:
    space(project.folder, **content)
    with pytest.raises(UserError, match=message):
        plans.make_tune_plan(["tune=small", *arguments])


@pytest.mark.slow
def test_the_files_of_params_are_of_keys_that_there_are() -> None:
    for arguments in (
        ["methods=all"],
        ["tune=standard", "dataset=ucf101", "trainer=released", "methods=ez_clip,vita_clip"],
    ):
        assert plans.make_tune_plan(arguments).methods
