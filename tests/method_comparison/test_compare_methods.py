"""`vidprompt compare-methods`: equal budgets, one table, paired tests; a method that fails harms no other."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from scipy.stats import binom
from tests.metrics.results_on_disk import labelled, write_recognition
from tests.sweep.project import MADE, ROOT

from vidprompt import method_comparison
from vidprompt.comparison.results import find_result
from vidprompt.comparison.seeds import seed_means
from vidprompt.config.names import METHODS
from vidprompt.data.splits.split_file import Split, Subset, write_split
from vidprompt.method_comparison import page as pages
from vidprompt.method_comparison import plan as plans
from vidprompt.method_comparison import result as results
from vidprompt.system.errors import UserError

VIDEOS = 40
COST = {"trained_parameters": 1000, "parameters": 5000, "flops": 2_000_000_000}
RUN = "supervised_split1"
# Stages that copy what the test prepared; Vita-CLIP cannot be tested zero-shot here.
STAGE = """
import json, os, shutil, sys
from pathlib import Path
stage, *rest = sys.argv[1:]
given = dict(one.partition("=")[::2] for one in rest)
with open(os.environ["CALLS"], "a") as calls:
    calls.write(f"{stage} {' '.join(rest)}\\n")
method = given["method"]
if stage == "train":
    out = Path("models/demo") / method / given["split"] / "model.safetensors"
    log = Path("cache/training/demo") / method / given["split"] / "steps.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"step": i, "step_s": 0.1 * len(method), "memory_gb": 1.5} for i in range(1, 11)]
    log.write_text("".join(json.dumps(row) + "\\n" for row in rows))
elif stage == "features":
    out = Path("cache/features/demo") / method / given.get("split", "frozen") / "index.parquet"
else:
    protocol, seed = given["protocol"], given.get("seed", "1")
    if (method, protocol) == ("vita_clip", "zero_shot") and os.environ.get("FAIL"):
        sys.exit("vidprompt: it knows no other classes")
    source = Path(os.environ["PREPARED"]) / f"{method}{seed}"
    for path in (f"results/demo/{method}/{protocol}/metrics.json",
                 f"cache/predictions/demo/{method}/{protocol}.parquet"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / path, path)
    sys.exit()
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text("")
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A project with prepared results: EZ-CLIP is right more often than Vita-CLIP, both than the floor."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls.txt"))
    monkeypatch.setenv("PREPARED", str(tmp_path / "prepared"))
    monkeypatch.setattr("vidprompt.sweep.plan.Configurations", lambda: MADE)
    monkeypatch.setattr(results, "model_cost", lambda config, classes: dict(COST))
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "data").mkdir()
    for name in ("manifest/demo/manifest.parquet", "frames/demo/frames.json"):
        (tmp_path / "cache" / name).parent.mkdir(parents=True)
        (tmp_path / "cache" / name).write_text("{}", encoding="utf-8")
    names = [f"v{i}" for i in range(48)]
    train = Subset(["a", "b"], names, [i % 2 for i in range(48)])
    lists = tmp_path / "cache/splits/demo"
    write_split(Split("supervised/demo@split1", "supervised", RUN, train), lists / f"{RUN}.json")
    other = Split("zero_shot/demo@split1", "zero_shot", RUN, tests={"test": train})
    write_split(other, lists / "zero_shot_split1.json")
    wrong = {"frozen_clip": 30, "ez_clip": 4, "vita_clip": 16}
    for method, count in wrong.items():
        for seed in (1, 2):
            for protocol in ("supervised", "zero_shot"):
                videos = labelled(VIDEOS, range(seed - 1, count + seed - 1))
                where = tmp_path / "prepared" / f"{method}{seed}"
                write_recognition(
                    where, f"demo/{method}/{protocol}", {(f"{protocol}_split1", "test"): videos}
                )
    (tmp_path / "stage.py").write_text(STAGE, encoding="utf-8")
    return (sys.executable, str(tmp_path / "stage.py"))


GIVEN = ("methods=frozen_clip,ez_clip,vita_clip", "seed=1,2")


def calls() -> list[str]:
    path = Path("calls.txt")
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    path.write_text("", encoding="utf-8")
    return lines


def test_a_comparison_is_resumed_and_needs_no_times(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "drawn", lambda result, speed: {})
    given = ("methods=ez_clip,vita_clip", "seed=1", "multirun.protocols=[supervised]")
    found = method_comparison.run(given, jobs=2, speed=False, command=command)
    assert not found.failed
    assert len(calls()) == 6
    assert "| seconds a training step | – | – |" in found.table
    before = found.page.with_name("comparison.json").read_bytes()
    again = method_comparison.run(given, speed=False, command=command)
    assert calls() == []
    assert again.page.with_name("comparison.json").read_bytes() == before


@pytest.mark.slow
def test_one_table_of_costs_accuracies_and_paired_tests(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "1")
    found = method_comparison.run(GIVEN, jobs=2, command=command)
    assert set(found.failed) == {"vita_clip,seed=1", "vita_clip,seed=2"}
    assert "it knows no other classes" in found.failed["vita_clip,seed=1"]
    why = "`evaluate zero_shot: it knows no other classes`"
    assert f"- Failed: vita_clip,seed=1; vita_clip,seed=2: {why}" in found.table
    content = json.loads(found.page.with_name("comparison.json").read_text("utf-8"))
    methods = content["methods"]
    assert {name: one["steps"] for name, one in methods.items()} == {
        "frozen_clip": {},
        "ez_clip": {RUN: 650},  # as many clips as Vita-CLIP's recipe gives
        "vita_clip": {RUN: 650},
    }
    assert "| GFLOPs a clip, forward | 2 | 2 | 2 |" in found.table
    top1 = {name: one["measures"]["supervised"]["supervised/top1"] for name, one in methods.items()}
    assert {name: one["value"] for name, one in top1.items()} == {
        "frozen_clip": 0.25,
        "ez_clip": 0.9,
        "vita_clip": 0.6,
    }
    seeds = {name: len(one["seeds"]) for name, one in top1.items()}
    assert seeds == {"frozen_clip": 1, "ez_clip": 2, "vita_clip": 2}
    assert list(methods["vita_clip"]["measures"]) == ["supervised"]  # the others of the job ran
    told = {
        (one["protocol"], one["method_a"], one["method_b"]): (one["difference"], one["verdict"])
        for one in content["pairs"]
        if one["metric"] == "top1"
    }
    assert told["supervised", "frozen_clip", "ez_clip"] == (0.65, "better")
    assert told["supervised", "ez_clip", "vita_clip"] == (-0.3, "worse")
    assert ("zero_shot", "ez_clip", "vita_clip") not in told
    assert all(one["p_holm"] >= one["p"] for one in content["pairs"])
    speed = json.loads(found.page.with_name("speed.json").read_text("utf-8"))
    assert speed["methods"]["ez_clip"]["seconds"] == pytest.approx(0.7)
    assert "| Supervised: top-1 | 25.0 [" in found.table
    assert "| seconds a training step | – | 0.7 | 0.9 |" in found.table
    page = found.page.with_name("comparison.html").read_text("utf-8")
    assert page.count('src="data:image/png;base64,') == 2
    before = found.page.with_name("comparison.json").read_bytes()
    calls()
    monkeypatch.delenv("FAIL")
    again = method_comparison.run(GIVEN, command=command)
    assert [one.partition(" ")[0] for one in calls()] == ["evaluate"] * 2
    assert not again.failed
    assert again.page.with_name("comparison.json").read_bytes() != before
    assert not method_comparison.run(GIVEN, command=command).failed
    assert calls() == []


def test_the_interval_of_one_list_is_exact_and_seeds_add_no_videos(
    command: tuple[str, ...],
) -> None:
    one = find_result("prepared/ez_clip1/results/demo/ez_clip/supervised")
    other = find_result("prepared/ez_clip2/results/demo/ez_clip/supervised")
    mean = seed_means({1: one})["supervised", "top1"]
    low, high = mean.estimate.ci95  # half of the probability of 36 right videos is in each tail
    half_low, half_high = (binom.pmf(36, VIDEOS, p) / 2 for p in (low, high))
    assert binom.sf(36, VIDEOS, low) + half_low == pytest.approx(0.025)
    assert binom.cdf(35, VIDEOS, high) + half_high == pytest.approx(0.025)
    both = seed_means({1: one, 2: other})["supervised", "top1"]
    assert both.values == (0.9, 0.9)
    assert both.estimate.units == VIDEOS  # and not twice as many


def test_holm_within_a_family() -> None:
    given = [("a", 0.01), ("a", 0.04), ("b", 0.03), ("a", 0.03), ("a", None)]
    assert results.holm(given) == [0.03, 0.06, 0.03, 0.06, None]


def test_budgets(command: tuple[str, ...]) -> None:
    plan = plans.make_method_plan([*GIVEN, "budget=recipe"], MADE)
    assert plan.plan.protocols == ("zero_shot", "supervised")
    assert plan.steps == {"ez_clip": {RUN: 400}, "vita_clip": {RUN: 650}}
    assert [job.of_run for job in plan.plan.jobs] == [{}] * 5
    plan = plans.make_method_plan([*GIVEN, "trainer.length=30"], MADE)
    assert plan.steps == {"ez_clip": {RUN: 30}, "vita_clip": {RUN: 30}}
    assert plan.plan.jobs[0].overrides == ("method=frozen_clip",)


def test_all_methods_are_those_of_the_registry(command: tuple[str, ...]) -> None:
    plan = plans.make_method_plan(["seed=1", "multirun.protocols=[supervised]"], MADE)
    assert set(plan.methods) | set(plan.failed) == set(METHODS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["methods=ez_clp"], "methods=ez_clp: did you mean ez_clip"),
        (["methods=all,ez_clip"], "methods=all is every method"),
        (["budget=steps"], "budget=steps: valid: clips, recipe"),
        (["seed=1,1"], "each once"),
        (["method=ez_clip"], "choose methods="),
        (["protocol=supervised"], "choose methods="),
        (["experiment=ablate_prompts"], "use multirun"),
        (["multirun.protocols=[few_shot]"], "demo has no split of 'few_shot'"),
        (["methods=ez_clip", "trainer.lenght=3"], "unknown key 'trainer.lenght'"),
    ],
)
def test_a_mistake_is_one_sentence(
    command: tuple[str, ...], arguments: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plans.make_method_plan(arguments, MADE)


def test_times_are_shown_as_people_say_them() -> None:
    assert [pages.minutes(s) for s in (45, 192, 27_000)] == ["45 s", "3.2 min", "7.5 h"]
