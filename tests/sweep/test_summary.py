"""The table of a multirun: means over seeds, in a layout that fits."""

import json
from pathlib import Path

import pytest
from tests.metrics.results_on_disk import complete

from vidprompt.metrics.result import Estimate, parse_result
from vidprompt.reporting.markdown import write_between_marks
from vidprompt.sweep.plan import EvaluationVariant, Job, Plan
from vidprompt.sweep.summary import markdown, result_values, summarise, write_summary
from vidprompt.system.errors import DataError

SUPERVISED = {
    "protocol": "supervised",
    "summary": {"supervised": {"top1": {"value": 0.5, "ci95": [0.4, 0.6]}, "top5": {"value": 0.9}}},
    "splits": {"supervised_split1": {"tests": {"test": {"n": 4}}}},
}


def figures(metrics: dict) -> dict[str, Estimate]:
    return result_values(parse_result(complete(metrics)))


def within(value: float, chance: float = 0.5) -> dict:
    return {"within": {"pair": {"value": value, "chance": chance}}}


def test_every_value_of_a_result_has_a_name() -> None:
    assert {k: f.value for k, f in figures(SUPERVISED).items()} == {
        "supervised/top1": 0.5,
        "supervised/top5": 0.9,
    }
    novel = {
        "protocol": "base_to_novel",
        "summary": {"base": {"top1": {"value": 0.6}}, "hm": {"value": 0.5}},
        "splits": {
            "base_to_novel_16shot_seed1": {"tests": {"base": within(0.8), "novel": within(0.6)}}
        },
    }
    assert {k: f.value for k, f in figures(novel).items()} == {
        "base_to_novel/base/top1": 0.6,
        "base_to_novel/hm": 0.5,
        "base_to_novel/base/within pair": 0.8,
        "base_to_novel/novel/within pair": 0.6,
    }
    reid = {
        "protocol": "reid",
        "summary": {"general": {"id": "x", "n": 3, "mAP": {"value": 0.2}}},
        "splits": {"reid": {"tests": {"query": {"n": 1}}}},
    }
    assert list(figures(reid)) == ["reid/general/mAP"]


def test_within_groups_is_a_mean_over_the_splits_of_a_measure() -> None:
    found = figures({
        "protocol": "few_shot",
        "summary": {},
        "splits": {
            "few_shot_2shot_seed1": {"tests": {"test": within(0.5, 0.25)}},
            "few_shot_2shot_seed2": {"tests": {"test": within(0.7, 0.35)}},
            "few_shot_8shot_seed1": {"tests": {"test": within(0.9, 0.5)}},
        },
    })  # fmt: skip
    assert found["few_shot/2shot/within pair"].value == pytest.approx(0.6)
    assert found["few_shot/2shot/within pair"].chance == pytest.approx(0.3)
    assert found["few_shot/8shot/within pair"].value == 0.9


def plan(folder: Path, rows: dict[str, list[float]]) -> Plan:
    """Rows → top-1 of their seeds, written as the stages do."""
    jobs = []
    for row, values in rows.items():
        for seed, value in enumerate(values, 1):
            overrides = (f"trainer.lr={row}", f"seed={seed}")
            jobs.append(
                Job(f"{row}{seed}", "ez_clip", seed, overrides, (EvaluationVariant(row, "", ()),))
            )
            file = folder / jobs[-1].name / "results/demo/ez_clip/supervised/metrics.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            metrics = {
                "protocol": "supervised",
                "summary": {"supervised": {"top1": {"value": value}}},
                "splits": {"supervised_split1": {"tests": {"test": within(1 - value)}}},
            }
            file.write_text(json.dumps(complete(metrics)))
    return Plan(folder, ("supervised",), tuple(jobs))


def test_the_mean_and_the_population_deviation_over_seeds(tmp_path: Path) -> None:
    found = summarise(plan(tmp_path, {"a": [0.1, 0.2, 0.6], "b": [0.4]}), {})
    assert found["rows"]["a"]["measures"]["supervised/top1"] == {
        "mean": 0.3, "std": 0.216025, "values": [0.1, 0.2, 0.6], "ci95": [0.0, 0.957241],
    }  # fmt: skip
    assert found["rows"]["a"]["overrides"] == ["trainer.lr=a"]
    assert found["rows"]["a"]["measures"]["supervised/within pair"]["chance"] == 0.5
    text = markdown(found)
    assert "| a | 30.0 ± 21.6 | 70.0 ± 21.6 |" in text
    assert "| b | 40.0 | 60.0 |" in text
    assert "| chance |  | 50.0 |" in text
    assert "over seeds 1, 2, 3;" in text


def test_few_rows_with_many_measures_are_columns(tmp_path: Path) -> None:
    text = markdown(summarise(plan(tmp_path, {"a": [0.1]}), {}))
    assert text.splitlines()[0] == "|  | a | chance |"
    assert "| direction in a pair | 90.0 | 50.0 |" in text


def test_a_seed_that_failed_is_missing_and_said(tmp_path: Path) -> None:
    made = plan(tmp_path, {"a": [0.1, 0.3], "b": [0.5, 0.5]})
    found = summarise(made, {"a2": "train: no"})
    assert found["rows"]["a"]["seeds"] == [1]
    with pytest.raises(DataError, match="no job of .* has results: see the logs in"):
        summarise(made, dict.fromkeys(("a1", "a2", "b1", "b2"), "no"))


def test_equal_results_are_equal_bytes_and_go_between_the_marks_of_a_page(tmp_path: Path) -> None:
    made = plan(tmp_path / "x", {"a": [0.1, 0.3]})
    text = write_summary(made, summarise(made, {}))
    before = (tmp_path / "x/summary.json").read_bytes()
    write_summary(made, summarise(made, {}))
    assert (tmp_path / "x/summary.json").read_bytes() == before
    page = tmp_path / "page.md"
    page.write_text("one\n<!-- x:begin -->\nold\n<!-- x:end -->\ntwo\n")
    write_between_marks(page, "x", text)
    assert page.read_text("utf-8") == f"one\n<!-- x:begin -->\n\n{text}\n\n<!-- x:end -->\ntwo\n"
    with pytest.raises(DataError, match="needs the lines <!-- y:begin --> and"):
        write_between_marks(page, "y", text)
