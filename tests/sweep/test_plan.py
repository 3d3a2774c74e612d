"""Which jobs a command line and an experiment make."""

from pathlib import Path

import pytest
from tests.sweep.project import MADE, ROOT, experiment, make_project

from vidprompt.sweep.launch import work_of
from vidprompt.sweep.plan import Configurations, Plan, make_plan, slug
from vidprompt.sweep.steps import chosen_splits, steps_of
from vidprompt.system.errors import UserError

EXPERIMENTS = {  # jobs, rows
    "demo_full": (7, 3),
    "ablate_motion_loss": (7, 3),
    "ablate_prompts": (13, 5),
    "ablate_frames": (14, 6),
    "ablate_order": (7, 9),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(*arguments: str) -> Plan:
    made = Configurations() if "experiment=small" in arguments else MADE
    return make_plan(arguments, made)


def names(*arguments: str) -> list[str]:
    return [job.name for job in plan(*arguments).jobs]


def test_hydras_sweeps(project: Path) -> None:
    assert names("method=ez_clip,vita_clip", "seed=range(1,3)") == [
        "method=ez_clip,seed=1",
        "method=ez_clip,seed=2",
        "method=vita_clip,seed=1",
        "method=vita_clip,seed=2",
    ]
    assert len(names("views=glob(*,exclude=dense*)", "method=choice(ez_clip,vita_clip)")) == 2
    assert names("trainer.augmentation.scales=[1.0],[1.0,0.5]") == [
        "trainer.augmentation.scales=_1.0_",
        "trainer.augmentation.scales=_1.0,0.5_",
    ]
    assert names("trainer.lr=1e-3") == ["single"]


def test_the_floor_is_there_once_whatever_is_swept_of_trainings(project: Path) -> None:
    assert (
        names("method=frozen_clip,ez_clip", "seed=1,2", "trainer.lr=1,2")[0] == "method=frozen_clip"
    )
    assert len(names("method=frozen_clip,ez_clip", "seed=1,2", "trainer.lr=1,2")) == 1 + 4


def test_views_are_looks_of_one_training(project: Path) -> None:
    (one, two) = plan("views=centre,reversed", "seed=1,2").jobs
    assert [variant.name for variant in one.variants] == ["views=centre", "views=reversed"]
    assert (one.overrides, two.overrides) == (("seed=1",), ("seed=2",))
    steps = [step.title for step in steps_of(one, ("supervised",), MADE)]
    assert steps[0] == "train supervised_split1"
    assert sum(title.startswith("train") for title in steps) == 1
    assert "views=reversed: evaluate supervised" in steps


def test_the_command_line_narrows_an_experiment_and_has_a_folder_where_it_adds(
    project: Path,
) -> None:
    experiment(
        project, settings={"slow": "trainer.lr=1", "fast": ["trainer.lr=2"]}, sweep={"seed": [1, 2]}
    )
    assert names("experiment=small", "seed=2") == ["slow,seed=2", "fast,seed=2"]
    assert plan("experiment=small", "seed=2", "workers=3").folder == Path("multirun/small")
    other = plan("experiment=small", "method=vita_clip").folder
    assert other == Path("multirun/small,method=vita_clip")
    with pytest.raises(
        UserError, match="setting 'slow' sets trainer.lr: it cannot be given or swept"
    ):
        plan("experiment=small", "trainer.lr=3")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["method=ezclip,vita_clip"], "did you mean ez_clip"),
        (["trainer.lrr=1,2"], "unknown key 'trainer.lrr'"),
        (["split=a,b"], "choose multirun.protocols"),
        (["experiment=demo_full,ablate_order"], "one experiment at a time"),
        (["trainer.lr=interval(1,2)"], "'trainer.lr=interval(1,2)' is no key=value nor a sweep"),
        (["lr"], "'lr' is not of the form key=value"),
        (["multirun.protocols=[]"], "multirun.protocols is empty"),
        (["multirun.protocols=reid"], "multirun.protocols=reid is no list of names"),
        (["multirun.protocols=[[reid]]"], "is no list of names"),
        (["multirun.sweep=3"], "multirun.sweep=3 is no mapping of keys to values"),
        (["multirun.settings=3"], "multirun.settings=3 is no mapping of names to overrides"),
        (["multirun=3"], "multirun=3 is no mapping"),
        (["seed=abc"], "seed=abc is no whole number from 0 on"),
        (["seed=[1,2]"], "seed=[1,2] is no whole number from 0 on"),
        (["seed=1,-1"], "seed=-1 is no whole number from 0 on"),
        (["seed=abc", "method=frozen_clip"], "seed=abc is no whole number from 0 on"),
        (
            ["multirun.protocols=[few_shot]"],
            "no split of 'few_shot': did you mean zero_shot? valid: reid, supervised, zero_shot",
        ),
    ],
)
def test_a_mistake_is_a_sentence(arguments: list[str], said: str, project: Path) -> None:
    with pytest.raises(UserError) as caught:
        work_of(plan(*arguments), MADE)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", [3, [3], {"method": "ez_clip"}])
def test_a_setting_of_another_form_is_a_sentence(setting: object, project: Path) -> None:
    experiment(project, settings={"a": setting})
    with pytest.raises(UserError, match="a setting is a list of key=value, and one in"):
        plan("experiment=small")


def test_a_protocol_brings_the_training_list_of_its_model(project: Path) -> None:
    assert set(chosen_splits("demo", ("zero_shot",))) == {"zero_shot_split1", "supervised_split1"}
    (job,) = plan("multirun.protocols=[zero_shot,reid]").jobs
    steps = [step.title for step in steps_of(job, ("zero_shot", "reid"), MADE)]
    assert steps[:2] == ["train reid", "train supervised_split1"]
    assert steps[-2:] == ["evaluate zero_shot", "evaluate reid"]


def test_a_step_is_another_when_what_it_follows_from_is(project: Path) -> None:
    def identities(*arguments: str) -> dict[str, str]:
        found = plan(*arguments)
        (job,) = found.jobs
        return {step.stage: step.identity for step in steps_of(job, found.protocols, MADE)}

    first = identities("seed=1")
    assert identities("seed=1", "workers=9", "multirun.sweep={}") == first
    assert set(first.values()).isdisjoint(identities("seed=2").values())
    looked = identities("seed=1", "views=dense_4x3")
    assert looked["train"] == first["train"]
    assert looked["features"] != first["features"]
    for choice in ("trainer.select=best", "trainer.best_on_test=true"):
        by_centre, by_dense = (identities(choice, f"views={v}") for v in ("centre", "dense_4x3"))
        assert by_centre["train"] != by_dense["train"]
        by_own = identities(choice)  # the method's: swept views are tested with one training
        assert identities(choice, "views=centre,dense_4x3")["train"] == by_own["train"]
    (project / "cache/frames/demo/frames.json").write_text("[]")
    assert set(first.values()).isdisjoint(identities("seed=1").values())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_experiments_of_the_project_compose(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = plan(f"experiment={name}")
    rows = {variant.row for job in found.jobs for variant in job.variants}
    assert (len(found.jobs), len(rows)) == EXPERIMENTS[name]


def test_a_folders_name_is_short_and_plain() -> None:
    assert slug("a/b c=[1, 2]") == "a_b_c=_1,_2_"
    assert len(slug("x" * 300)) == 100
    assert slug("x" * 300) != slug("x" * 301)
