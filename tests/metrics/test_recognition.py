"""What is averaged with what, and how sure the means are: draws of one kind, never a list with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vidprompt.metrics.recognition import metrics_of

Hits = dict[tuple[str, str], list[bool]]


def _some(value: float, n: int = 20) -> list[bool]:
    """So large a share of n."""
    return [i < round(value * n) for i in range(n)]


def _table(hits: Mapping[tuple[str, str], list[bool]], apart: bool = False) -> pd.DataFrame:
    """A right video has rank 0, a wrong one 1; `apart`: no test shares a video with another."""
    parts = []
    for (split, test), right in hits.items():
        start = f"{split}/{test}/" if apart else f"{test}/"
        part: dict[str, Any] = {
            "split": split,
            "test": test,
            "label": [f"class {i % 4}" for i in range(len(right))],
        }
        part["video_id"] = [f"{start}{i}" for i in range(len(right))]
        part |= {"rank": [int(not hit) for hit in right], "confidence": 0.5}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts)


def _summary(hits: Hits) -> dict[str, Any]:
    return metrics_of(_table(hits))[1]


def _values(summary: dict[str, Any]) -> dict[str, float]:
    return {key: found["top1"]["value"] for key, found in summary.items() if "top1" in found}


def test_a_published_base_to_novel_is_apart_from_the_seeds() -> None:
    seeds = (1, 2, 3)
    hits: Hits = {
        (f"base_to_novel_16shot_seed{s}", half): _some(s / 10)
        for s in seeds
        for half in ("base", "novel")
    }
    drawn = _summary(hits)
    assert _values(drawn) == {"base": 0.2, "novel": 0.2}
    assert drawn["hm"]["value"] == 0.2
    assert drawn["base"]["top1"]["std"] == pytest.approx(0.0816, abs=1e-4)
    theirs = {("base_to_novel_theirs", "base"): _some(0.8)}
    theirs[("base_to_novel_theirs", "novel")] = _some(0.4)
    both = _summary(hits | theirs)
    assert {key: both[key] for key in drawn} == drawn
    assert set(both) - set(drawn) == {
        "base_to_novel_theirs/base",
        "base_to_novel_theirs/novel",
        "base_to_novel_theirs/hm",
    }
    assert both["base_to_novel_theirs/base"]["top1"]["value"] == 0.8
    assert both["base_to_novel_theirs/hm"]["value"] == pytest.approx(0.533333)
    assert _summary(theirs).keys() == both.keys() - drawn.keys()


def test_few_shot_lists_and_nested_draws_have_names_of_their_own() -> None:
    shares = {"2shot_seed1": 0.2, "2shot_seed2": 0.4, "2shot_nested_seed1": 0.5}
    shares |= {"theirs": 0.9, "others_16shot_seed1": 0.7}
    hits: Hits = {(f"few_shot_{name}", "test"): _some(value) for name, value in shares.items()}
    assert _values(_summary(hits)) == {
        "2shot": pytest.approx(0.3),
        "2shot_nested": 0.5,
        "few_shot_theirs": 0.9,
        "few_shot_others_16shot_seed1": 0.7,
    }


def test_zero_shot_splits_halves_classes_and_lists_are_apart() -> None:
    names = {"split1": 0.1, "split2": 0.3, "half0": 0.5, "half9": 0.7, "k600_minus_k400": 0.8}
    names |= {"testlist01": 0.6, "testlist02": 0.2}
    hits: Hits = {(f"zero_shot_{name}", "test"): _some(value) for name, value in names.items()}
    assert _values(_summary(hits)) == {
        "zero_shot": pytest.approx(0.2),
        "zero_shot_half": pytest.approx(0.6),
        "zero_shot_k600_minus_k400": 0.8,
        "zero_shot_testlist01": 0.6,
        "zero_shot_testlist02": 0.2,
    }


def test_seeds_on_one_list_know_no_more_videos_than_one_of_them() -> None:
    hits: Hits = {(f"few_shot_2shot_seed{s}", "test"): _some(0.5, 200) for s in (1, 2, 3)}
    tests, summary = metrics_of(_table(hits))
    own = tests["few_shot_2shot_seed1"]["test"]["top1"]["ci95"]
    assert summary["2shot"]["top1"]["ci95"] == own  # equal seeds: no chance of the training
    assert summary["2shot"]["mean_class"]["std"] == 0
    apart = metrics_of(_table(hits, apart=True))[1]["2shot"]["top1"]["ci95"]
    narrower = (apart[1] - apart[0]) / (own[1] - own[0])
    assert narrower == pytest.approx(1 / 3**0.5, rel=0.12)  # three lists of other videos


def test_seeds_that_differ_widen_the_interval_of_their_mean() -> None:
    shares = {1: 0.2, 2: 0.5, 3: 0.8}
    hits: Hits = {(f"few_shot_2shot_seed{s}", "test"): _some(p, 200) for s, p in shares.items()}
    low, high = metrics_of(_table(hits))[1]["2shot"]["top1"]["ci95"]
    assert low < 0.2
    assert high > 0.8
    low, high = metrics_of(_table(hits, apart=True))[1]["2shot"]["top1"]["ci95"]
    assert 0.4 < low < high < 0.6  # lists of their own: no sample of trainings


def test_the_interval_of_the_harmonic_mean_is_that_of_both_halves() -> None:
    hits: Hits = {("base_to_novel_full", "base"): _some(0.7, 60)}
    hits[("base_to_novel_full", "novel")] = _some(0.4, 40)
    tests, summary = metrics_of(_table(hits))
    for half in ("base", "novel"):
        assert summary[half]["top1"] == tests["base_to_novel_full"][half]["top1"]
    generator = np.random.default_rng(0)
    b, n = generator.binomial(60, 0.7, 100_000) / 60, generator.binomial(40, 0.4, 100_000) / 40
    ends = np.quantile(2 * b * n / (b + n), [0.025, 0.975])
    assert summary["hm"]["ci95"] == pytest.approx(ends, abs=0.03)
    assert summary["hm"]["value"] == pytest.approx(2 * 0.7 * 0.4 / 1.1, abs=1e-6)
    assert summary["hm"]["units"] == 100


def test_videos_of_one_group_go_together() -> None:
    table = _table({("supervised_split1", "test"): _some(0.5, 60)})
    alone = metrics_of(table)[1]["supervised"]["top1"]
    table["group"] = [f"g{i // 6}" for i in range(60)]
    grouped = metrics_of(table)[1]["supervised"]["top1"]
    table["group"] = None
    assert metrics_of(table)[1]["supervised"]["top1"] == alone
    assert (alone["units"], grouped["units"]) == (60, 10)
    widths = [one["ci95"][1] - one["ci95"][0] for one in (alone, grouped)]
    assert widths[1] > 2 * widths[0]
    table["group"] = [f"g{i // 20}" for i in range(60)]
    few = metrics_of(table)[1]["supervised"]["top1"]
    assert (few["units"], "ci95" in few) == (3, False)


def test_a_harmonic_mean_of_nothing_right_is_zero() -> None:
    hits: Hits = {("base_to_novel_full", half): _some(0) for half in ("base", "novel")}
    found = _summary(hits)["hm"]
    assert (found["value"], found["ci95"][0]) == (0, 0)
    assert 0 < found["ci95"][1] < 0.35  # of 20 videos each, some could have been right


def test_within_groups_the_mean_is_over_the_usual_splits_with_an_interval() -> None:
    hits: Hits = {
        ("supervised_split1", "test"): _some(0.5),
        ("supervised_split2", "test"): _some(1),
    }
    hits |= {("supervised_theirs", "test"): _some(0)}
    table = _table(hits, apart=True)
    table["rank_in_pair"], table["classes_in_pair"] = table["rank"], 2
    found = metrics_of(table)[1]
    assert found["supervised"]["within"]["pair"] == {
        **found["supervised"]["top1"],
        "chance": 0.5,
    }
    assert found["supervised"]["within"]["pair"]["value"] == 0.75
    assert found["supervised_theirs"]["within"]["pair"]["value"] == 0
