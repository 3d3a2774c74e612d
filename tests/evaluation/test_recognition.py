"""What is averaged with what: draws of one kind, and never a published list with them."""

from __future__ import annotations

from typing import Any

import pytest

from vidprompt.evaluation.recognition import summarise


def _test(value: float, *names: str) -> dict[str, Any]:
    found = {"value": value, "ci95": [value - 0.1, value + 0.1]}
    return {name: {"top1": found, "top5": found} for name in names or ("test",)}


def _values(summary: dict[str, Any]) -> dict[str, float]:
    return {key: found["top1"]["value"] for key, found in summary.items() if "top1" in found}


def test_a_published_base_to_novel_is_apart_from_the_seeds() -> None:
    tests = {f"base_to_novel_16shot_seed{s}": _test(s / 10, "base", "novel") for s in (1, 2, 3)}
    drawn = summarise("base_to_novel", tests)
    assert _values(drawn) == {"base": 0.2, "novel": 0.2}
    assert drawn["hm"] == {"value": 0.2}
    assert drawn["base"]["top1"]["std"] == pytest.approx(0.0816, abs=1e-4)
    theirs = _test(0.8, "base") | _test(0.4, "novel")
    both = summarise("base_to_novel", tests | {"base_to_novel_theirs": theirs})
    assert {key: both[key] for key in drawn} == drawn
    assert set(both) - set(drawn) == {
        "base_to_novel_theirs/base",
        "base_to_novel_theirs/novel",
        "base_to_novel_theirs/hm",
    }
    assert both["base_to_novel_theirs/base"]["top1"] == {"value": 0.8, "ci95": [0.7, 0.9]}
    assert both["base_to_novel_theirs/hm"]["value"] == pytest.approx(0.533333)


def test_few_shot_lists_and_nested_draws_have_names_of_their_own() -> None:
    tests = {"few_shot_2shot_seed1": _test(0.2), "few_shot_2shot_seed2": _test(0.4)}
    tests |= {"few_shot_2shot_nested_seed1": _test(0.5), "few_shot_theirs": _test(0.9)}
    tests |= {"few_shot_others_16shot_seed1": _test(0.7)}
    assert _values(summarise("few_shot", tests)) == {
        "2shot": pytest.approx(0.3),
        "2shot_nested": 0.5,
        "few_shot_theirs": 0.9,
        "few_shot_others_16shot_seed1": 0.7,
    }


def test_zero_shot_splits_halves_classes_and_lists_are_apart() -> None:
    names = {"split1": 0.1, "split2": 0.3, "half0": 0.5, "half9": 0.7, "k600_minus_k400": 0.8}
    names |= {"testlist01": 0.6, "testlist02": 0.2}
    tests = {f"zero_shot_{name}": _test(value) for name, value in names.items()}
    assert _values(summarise("zero_shot", tests)) == {
        "zero_shot": pytest.approx(0.2),
        "zero_shot_half": pytest.approx(0.6),
        "zero_shot_k600_minus_k400": 0.8,
        "zero_shot_testlist01": 0.6,
        "zero_shot_testlist02": 0.2,
    }


def test_lists_alone_have_no_entry_of_draws() -> None:
    theirs = _test(0.8, "base", "novel")
    summary = summarise("base_to_novel", {"base_to_novel_theirs": theirs})
    assert all(key.startswith("base_to_novel_theirs/") for key in summary)
