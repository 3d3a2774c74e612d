"""The health report counts what cannot be used, by reason, split and class."""

from __future__ import annotations

import pandas as pd

from vidprompt.data.checks.health_report import LISTED, health_report
from vidprompt.data.splits.split_file import Split, Subset

MANIFEST = pd.DataFrame(
    [
        ("s/a1", "s", "a", "ok", ""),
        ("s/a2", "s", "a", "truncated", "3 of 9 frames could be decoded."),
        ("s/b1", "s", "b", "ok", ""),
        ("s/b2", "s", "b", "unopened", ""),
        ("t/a1", "t", "a", "missing", "There is no file a1.mp4."),
    ],
    columns=["video_id", "source", "label", "health", "detail"],
)
SPLITS = {
    "few": Split(
        "few_shot/s@2shot-seed1",
        "few_shot",
        "few",
        train=Subset(["a"], ["s/a1", "s/a2"], [0, 0]),
        tests={"test": Subset(["b", "a"], ["s/b2", "t/a1"], [0, 1])},
    ),
    "none": Split(
        "base_to_novel/s@full", "base_to_novel", "few", tests={"novel": Subset([], [], [])}
    ),
}


def test_counts_and_coverage_by_hand() -> None:
    report = health_report(MANIFEST, SPLITS)
    assert (report["videos"], report["usable"], report["coverage"]) == (5, 3, 0.6)
    assert {name: one["videos"] for name, one in report["reasons"].items()} == {
        "missing": 1, "ok": 2, "truncated": 1, "unopened": 1,
    }  # fmt: skip
    assert report["reasons"]["truncated"]["sentence"].startswith("It ends before")
    half = {"listed": 2, "usable": 1, "coverage": 0.5}
    assert report["splits"] == {
        "few": {"train": half, "tests.test": half},
        "none": {"tests.novel": {"listed": 0, "usable": 0, "coverage": None}},
    }
    assert report["classes"]["s"]["a"] == half
    assert report["classes"]["t"]["a"] == {"listed": 1, "usable": 0, "coverage": 0.0}
    assert [one["video_id"] for one in report["broken"]] == ["s/a2", "t/a1"]
    shuffled = health_report(MANIFEST.sample(frac=1, random_state=0), SPLITS)
    assert shuffled == report


def test_a_list_of_thousands_is_cut() -> None:
    many = pd.concat([MANIFEST.iloc[[1]]] * (LISTED + 7), ignore_index=True)
    report = health_report(many, {})
    assert (len(report["broken"]), report["unlisted"]) == (LISTED, 7)
