"""metrics.json has one type: what is written is what was read, and every number is a measure."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.metrics.results_on_disk import complete

from vidprompt.metrics.result import (
    VERSION,
    Measure,
    load_result,
    measures,
    parse_result,
    read_result,
    source_tests,
    write_result,
)
from vidprompt.system.errors import DataError

FILES = sorted(Path(__file__).parents[2].glob("results/*/*/*/metrics.json"))
names = st.text("abcz_/-019é", min_size=1, max_size=8)
counts = st.integers(0, 10**6)
fractions = st.floats(0, 1).map(lambda value: round(value, 6))
intervals = st.tuples(fractions, fractions).map(sorted)


def estimates(**required: Any) -> st.SearchStrategy[dict[str, Any]]:
    optional = {"ci95": intervals, "std": fractions, "units": counts}
    return st.fixed_dictionaries({"value": fractions} | required, optional=optional)


def numbers(*measured: str) -> dict[str, Any]:
    return dict.fromkeys(measured, estimates())


WITHIN = st.dictionaries(names, estimates(chance=fractions), min_size=1, max_size=3)
COUNTED = {"n": counts, "listed": counts, "coverage": fractions}
ECE = st.fixed_dictionaries({"value": fractions, "n": counts, "bins": counts})
TESTS = st.fixed_dictionaries(
    COUNTED, optional=numbers("top1", "top5", "mean_class") | {"within": WITHIN, "ece": ECE}
)
ENTRIES = st.one_of(
    estimates(),
    st.fixed_dictionaries(
        numbers("top1"), optional=numbers("top5", "mean_class") | {"within": WITHIN}
    ),
    st.fixed_dictionaries(
        numbers("R-1", "R-5", "R-10", "mAP") | {"id": names, "n": counts, "skipped": counts}
    ),
)
RESULTS = st.fixed_dictionaries(
    COUNTED
    | {
        "dataset": names,
        "method": names,
        "protocol": st.sampled_from(("zero_shot", "base_to_novel", "few_shot", "reid")),
        "hashes": st.fixed_dictionaries(
            {"config": names, "data": names, "checkpoints": st.dictionaries(names, names)}
        ),
        "summary": st.dictionaries(names, ENTRIES, max_size=4),
        "splits": st.dictionaries(
            names,
            st.fixed_dictionaries(
                {"id": names, "run": names, "tests": st.dictionaries(names, TESTS, max_size=3)}
            ),
            max_size=3,
        ),
    },
    optional={
        "version": st.just(VERSION),
        "model": names,
        "seen_classes": st.fixed_dictionaries({"names": st.lists(names), "tested": counts}),
    },
)


def values(content: Any) -> list[float]:
    """Every `value` anywhere in a JSON content."""
    if not isinstance(content, dict):
        return []
    own = [content["value"]] if "value" in content else []
    return own + [value for inner in content.values() for value in values(inner)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-4:-1]))
def test_a_file_is_written_as_it_was_read(path: Path, tmp_path: Path) -> None:
    result = read_result(path)
    write_result(tmp_path / "metrics.json", result)
    assert (tmp_path / "metrics.json").read_bytes() == path.read_bytes()
    found = list(measures(result))
    assert sorted(one.value for one in found) == sorted(values(json.loads(path.read_bytes())))
    assert len({one.name for one in found}) == len(found)
    assert all(0 < one.n <= result.n for one in found)


def test_there_are_files() -> None:
    assert {path.parts[-2] for path in FILES} == {
        *("zero_shot", "base_to_novel", "few_shot", "supervised", "reid")
    }


@given(RESULTS)
def test_parsing_is_undone_by_writing(content: dict[str, Any]) -> None:
    result = parse_result(content)
    assert result.to_json() == content
    assert parse_result(result.to_json()) == result
    found = [one.value for one in measures(result)]
    assert sorted(found) == sorted(values(content))


def test_names_and_counts_of_measures() -> None:
    half = {"value": 0.5, "ci95": [0.4, 0.6]}
    content = complete(
        {
            "protocol": "base_to_novel",
            "summary": {"base": {"top1": half}, "novel": {"top1": half}, "hm": half},
            "splits": {
                f"base_to_novel_16shot_seed{seed}": {
                    "tests": {
                        "base": {"n": 3, "top1": half, "ece": {"value": 0.1, "n": 3, "bins": 15}},
                        "novel": {"n": seed, "within": {"pair": half | {"chance": 0.25}}},
                    }
                }
                for seed in (1, 2)
            },
        }
    )
    result = parse_result(content)
    found = {one.name: one for one in measures(result)}
    interval = (0.4, 0.6)
    assert {name: one.n for name, one in found.items()} == {
        "base/top1": 6,
        "novel/top1": 3,
        "hm": 9,
        "base_to_novel_16shot_seed1/base/top1": 3,
        "base_to_novel_16shot_seed1/base/ece": 3,
        "base_to_novel_16shot_seed1/novel/within/pair": 1,
        "base_to_novel_16shot_seed2/base/top1": 3,
        "base_to_novel_16shot_seed2/base/ece": 3,
        "base_to_novel_16shot_seed2/novel/within/pair": 2,
    }
    assert found["base_to_novel_16shot_seed2/novel/within/pair"] == Measure(
        *("base_to_novel", "base_to_novel_16shot_seed2", "novel", "within/pair"),
        *(0.5, interval, 2),
        chance=0.25,
    )
    assert source_tests(result, "another") == []
    own = parse_result(complete({"summary": {"supervised": {"top1": half}}}))
    assert [one.name for one in measures(own)] == ["top1"]


def test_an_entry_of_a_published_list() -> None:
    splits = {
        f"base_to_novel_{name}": {"tests": {half: {"n": n} for half in ("base", "novel")}}
        for name, n in (("theirs", 1), ("full", 2))
    }
    content = complete({"protocol": "base_to_novel", "splits": splits})
    result = parse_result(content)
    assert source_tests(result, "base") == [("base_to_novel_full", "base")]
    theirs = "base_to_novel_theirs"
    assert source_tests(result, f"{theirs}/hm") == [(theirs, "base"), (theirs, "novel")]


def test_a_file_without_a_version_is_read_and_equal() -> None:
    old, new = complete({}), complete({}) | {"version": VERSION}
    assert parse_result(old) == parse_result(new)
    assert "version" not in parse_result(old).to_json()


def _set(*place: str, to: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = to

    return change


TEST = ("splits", "supervised_split1", "tests", "test")
TOP1 = (*TEST, "top1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            _set("version", to=3),
            "is of version 3, and this vidprompt reads versions 1 to 2: read it with",
        ),
        (_set("version", to="1"), "`version` is '1', not a count"),
        (_set("summary", to=3), "`summary` is 3, not a mapping"),
        (_set("summary", "supervised", to=0.5), "`summary.supervised` is 0.5, not a mapping"),
        (_set(*TOP1, "value", to=1.5), "test.top1.value` is 1.5, not a fraction from 0 to 1"),
        (_set(*TOP1, "value", to=float("nan")), "top1.value` is nan, not a number"),
        (_set(*TOP1, "value", to=None), "top1.value` is None, not a number"),
        (_set(*TOP1, "value", to=True), "top1.value` is True, not a number"),
        (_set(*TOP1, "ci95", to=[0.5]), r"ci95` is \[0.5\], not an interval of two"),
        (_set(*TOP1, "ci95", to=[0.5, 0.2]), "not an interval from its lower to its upper end"),
        (_set(*TOP1, "vale", to=0.5), "unknown key 'vale' .did you mean value"),
        (_set(*TEST, "n", to=-1), "test.n` is -1, not a count"),
        (_set("seen_classes", to={"names": [1], "tested": 1}), "not a list of text"),
        (lambda content: content.pop("hashes"), "it has no key 'hashes'"),
        (_set("method", to="x" * 999), "xxx…, not"),
    ],
)
def test_a_wrong_file_is_one_sentence(change: Callable[[Any], None], said: str) -> None:
    half = {"value": 0.5, "ci95": [0.4, 0.6]}
    content = complete(
        {
            "summary": {"supervised": {"top1": half}},
            "splits": {"supervised_split1": {"tests": {"test": {"top1": copy.deepcopy(half)}}}},
        }
    )
    parse_result(content)
    change(content)
    if said.startswith("xxx"):
        content["n"] = content["method"]
    with pytest.raises(DataError, match=f"some/metrics.json .*{said}.*`dvc repro`") as error:
        parse_result(content, "some/metrics.json")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_a_file_that_is_no_json_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="b of c cannot be read: it is not JSON"):
        load_result(b"<<<<<<< HEAD", "b of c")
    with pytest.raises(DataError, match=r"metrics\.json cannot be read .*No such file"):
        read_result(tmp_path / "metrics.json")
