"""Differences, intervals and p-values agree with plain loops; only common videos are compared."""

from __future__ import annotations

import json
from math import comb
from pathlib import Path

import numpy as np
import pytest
from tests.metrics.results_on_disk import labelled, write_recognition, write_reid

from vidprompt.comparison.compare import Comparison, ComparisonVerdict, MeasureDifference, compare
from vidprompt.comparison.results import find_result
from vidprompt.comparison.table import (
    as_dict,
    markdown,
    print_comparison,
    write_changed,
    write_comparison,
)
from vidprompt.metrics.classification import harmonic_mean
from vidprompt.system.errors import DataError, UserError

ONE = ("supervised_split1", "test")


def compared(a: Path, b: Path) -> Comparison:
    return compare(find_result(str(a)), find_result(str(b)))


def row(comparison: Comparison, measure: str, metric: str, split: str = "") -> MeasureDifference:
    rows = comparison.differences
    [one] = [d for d in rows if (d.measure, d.metric, d.split) == (measure, metric, split)]
    return one


def assert_reaches(one: MeasureDifference, spread: float, units: int | None) -> None:
    """The interval is around the difference, and as wide as Student's with this spread; wider of few units.

    Its ends are not those of the draws, which are skewed.
    """
    low, high = one.ci95 or (0, 0)
    assert (low + high) / 2 == pytest.approx(one.difference, abs=1e-5)
    ratio = (high - low) / 2 / (1.96 * spread)
    assert 1 <= ratio <= 1 + 5 / (units or 1)


@pytest.fixture
def improved(tmp_path: Path) -> tuple[Path, Path]:
    """60 videos: A wrong on 20 of them, B on 4 of those and on 2 others."""
    a = write_recognition(tmp_path, "d/a/supervised", {ONE: labelled(60, range(20))})
    wrong = [0, 1, 2, 3, 40, 41]
    return a, write_recognition(tmp_path, "d/b/supervised", {ONE: labelled(60, wrong)})


def test_a_planted_improvement_with_hand_numbers(improved: tuple[Path, Path]) -> None:
    found = compared(*improved)
    top1 = row(found, "supervised", "top1")
    assert (top1.a, top1.b, top1.difference) == (0.666667, 0.9, 0.233333)
    assert (top1.n, top1.only_a, top1.only_b, top1.p_by) == (60, 2, 16, "mcnemar")
    assert top1.p == pytest.approx(2 * sum(comb(18, i) for i in range(3)) / 2**18, rel=1e-5)
    assert top1.verdict is ComparisonVerdict.BETTER
    back = row(compared(*reversed(improved)), "supervised", "top1")
    assert (back.verdict, back.difference, back.p) == (ComparisonVerdict.WORSE, -0.233333, top1.p)


def test_the_interval_is_close_to_that_of_a_naive_loop(improved: tuple[Path, Path]) -> None:
    top1 = row(compared(*improved), "supervised", "top1")
    change = np.array([0] * 4 + [1] * 16 + [0] * 20 + [-1, -1] + [0] * 18)
    generator = np.random.default_rng(1)
    means = [change[generator.integers(0, 60, 60)].mean() for _ in range(20_000)]
    assert_reaches(top1, np.std(means), top1.units)


def test_equal_results_show_no_difference(improved: tuple[Path, Path]) -> None:
    found = compared(improved[0], improved[0])
    for one in found.differences:
        assert (one.difference, one.p) == (0, 1)
        low, high = one.ci95 or (0, 0)
        assert -0.05 < low < 0 < high < 0.05  # another 60 videos could tell them apart
        assert one.verdict is ComparisonVerdict.SAME
    assert found.changed.empty


def test_the_videos_that_changed(improved: tuple[Path, Path], tmp_path: Path) -> None:
    changed = compared(*improved).changed
    assert set(changed.loc[changed["right"] == "a", "video_id"]) == {"v40", "v41"}
    assert set(changed.loc[changed["right"] == "b", "video_id"]) == {f"v{i}" for i in range(4, 20)}
    first = changed[changed["video_id"] == "v4"].iloc[0]
    assert (first["label"], first["predicted_a"], first["predicted_b"]) == ("wave", "yell", "wave")
    write_changed(compared(*improved), tmp_path / "changed.csv")
    lines = (tmp_path / "changed.csv").read_text("utf-8").splitlines()
    assert len(lines) == 19
    assert "supervised_split1,test,v4,wave,b,yell,wave" in lines


def test_only_common_videos_count(tmp_path: Path) -> None:
    a = write_recognition(tmp_path, "d/a/supervised", {ONE: labelled(10, range(10))})
    both = labelled(8, [3, 4, 10], start=4)  # v4 … v11
    b = write_recognition(tmp_path, "d/b/supervised", {ONE: both})
    found = compared(a, b)
    [test] = found.coverage
    assert (test.common, test.only_a, test.only_b) == (6, 4, 2)
    top1 = row(found, "supervised", "top1")
    assert (top1.n, top1.a, top1.only_b) == (6, 0, 5)
    assert "4 tests of videos in A alone, 2 in B alone" in markdown(found)
    other = write_recognition(tmp_path, "d/c/supervised", {ONE: labelled(3, [], start=50)})
    with pytest.raises(UserError, match="no tested video in common"):
        compared(a, other)


def test_seeds_are_drawn_by_video(tmp_path: Path) -> None:
    """The same 30 videos under three seeds, always alike: as wide as one seed, not √3 narrower."""
    seeds = [(f"few_shot_2shot_seed{i}", "test") for i in (1, 2, 3)]
    wrong = range(0, 30, 2)
    a = {seed: labelled(30, [*wrong, 1, 3, 5]) for seed in seeds}
    b = {seed: labelled(30, range(1, 9)) for seed in seeds}
    found = compared(
        write_recognition(tmp_path, "d/a/few_shot", a),
        write_recognition(tmp_path, "d/b/few_shot", b),
    )
    mean, one = row(found, "2shot", "top1"), row(found, "2shot", "top1", seeds[0][0])
    assert (mean.n, mean.units, mean.p_by, one.p_by) == (30, 30, "t", "mcnemar")
    assert mean.difference == one.difference
    assert mean.ci95 == one.ci95


def test_a_mean_over_splits_is_the_mean_of_their_means(tmp_path: Path) -> None:
    splits = [(f"zero_shot_split{i}", "test") for i in (1, 2)]
    a = {splits[0]: labelled(30, []), splits[1]: labelled(6, range(30, 36), start=30)}
    b = {splits[0]: labelled(30, range(15)), splits[1]: labelled(6, [30], start=30)}
    found = compared(
        write_recognition(tmp_path, "d/a/zero_shot", a),
        write_recognition(tmp_path, "d/b/zero_shot", b),
    )
    mean = row(found, "zero_shot", "top1")
    assert mean.difference == pytest.approx((-0.5 + 5 / 6) / 2, abs=1e-6)
    generator, draws = np.random.default_rng(2), []
    change = np.array([-1] * 15 + [0] * 15 + [0] + [1] * 5)
    first = np.arange(36) < 30
    for _ in range(20_000):
        i = generator.integers(0, 36, 36)
        parts = [change[i[first[i]]], change[i[~first[i]]]]
        if all(len(part) for part in parts):
            draws.append(np.mean([part.mean() for part in parts]))
    assert_reaches(mean, np.std(draws), 6)


def test_the_harmonic_mean_is_resampled_as_a_whole(tmp_path: Path) -> None:
    base, novel = (("base_to_novel_16shot_seed1", part) for part in ("base", "novel"))
    a = {base: labelled(40, range(10)), novel: labelled(30, range(40, 60), start=40)}
    b = {base: labelled(40, range(12)), novel: labelled(30, range(40, 48), start=40)}
    found = compared(
        write_recognition(tmp_path, "d/a/base_to_novel", a),
        write_recognition(tmp_path, "d/b/base_to_novel", b),
    )
    names = [one.measure for one in found.differences]
    assert names == ["base", "base", "novel", "novel", "hm"]
    hm = row(found, "hm", "top1")
    assert hm.a == pytest.approx(harmonic_mean(30 / 40, 10 / 30), abs=1e-6)
    assert hm.b == pytest.approx(harmonic_mean(28 / 40, 22 / 30), abs=1e-6)
    right = {
        "a": np.r_[np.arange(40) >= 10, np.arange(30) >= 20],
        "b": np.r_[np.arange(40) >= 12, np.arange(30) >= 8],
    }
    generator, draws = np.random.default_rng(3), []
    for _ in range(20_000):
        i = generator.integers(0, 70, 70)
        b_, n = i[i < 40], i[i >= 40]
        of = [harmonic_mean(hits[b_].mean(), hits[n].mean()) for hits in right.values()]
        draws.append(of[1] - of[0])
    assert_reaches(hm, float(np.std(draws)), hm.units)
    assert hm.verdict is ComparisonVerdict.BETTER


def test_queries_are_drawn_by_person(tmp_path: Path) -> None:
    people = [f"p{i}" for i in range(12) for _ in range(10)]
    generator = np.random.default_rng(0)
    gain = np.repeat(generator.normal(0.02, 0.1, 12), 10)  # a person's queries change together
    before = generator.uniform(0.3, 0.6, 120)
    rows = [(f"q{i}", person) for i, person in enumerate(people)]
    a = [(*r, float(ap), False) for r, ap in zip(rows, before, strict=True)]
    b = [(*r, float(ap), False) for r, ap in zip(rows, before + gain, strict=True)]
    found = compared(write_reid(tmp_path, "d/a/reid", a), write_reid(tmp_path, "d/b/reid", b))
    mean = row(found, "general", "mAP")
    assert (mean.n, mean.units, mean.p_by) == (120, 12, "t")
    drawn = gain[::10][generator.integers(0, 12, (20_000, 12))].mean(axis=1)
    assert mean.ci95 == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)
    assert mean.verdict is ComparisonVerdict.SAME  # by query it would have been better
    assert np.quantile(gain[generator.integers(0, 120, (4000, 120))].mean(axis=1), 0.025) > 0
    assert row(found, "general", "R-1").p == 1


def test_few_persons_cannot_show_much(tmp_path: Path) -> None:
    rows = [(f"q{i}", f"p{i % 4}") for i in range(40)]
    a = write_reid(tmp_path, "d/a/reid", [(*r, 0.2, False) for r in rows])
    b = write_reid(tmp_path, "d/b/reid", [(*r, 0.9, True) for r in rows])
    for one in compared(a, b).differences:
        assert one.p == 0.125  # four signs: 2 / 2⁴
        assert (one.verdict, one.ci95) == (ComparisonVerdict.TOO_FEW, None)
    text = markdown(compared(a, b))
    assert "| † | 0.125 | too few |" in text
    assert "fewer than 6 videos, groups or persons no difference can be shown" in text


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    said = labelled(6, [])
    a = write_recognition(tmp_path, "d/a/supervised", {ONE: said})
    relabelled = said | {"v2": ("run", "run")}
    b = write_recognition(tmp_path, "d/b/supervised", {ONE: relabelled})
    with pytest.raises(DataError, match="v2 for one is 'sit' in .* and 'run' in "):
        compared(a, b)
    c = write_recognition(tmp_path, "d/c/supervised", {ONE: said | {"v2": ("sit", "dance")}})
    with pytest.raises(DataError, match="have different classes"):
        compared(a, c)
    shot = write_recognition(tmp_path, "d/a/few_shot", {("few_shot_2shot_seed1", "test"): said})
    with pytest.raises(UserError, match="of protocol supervised and .* of few_shot"):
        compared(a, shot)


def test_other_ids_and_data_are_said(improved: tuple[Path, Path]) -> None:
    file = improved[1] / "metrics.json"
    metrics = json.loads(file.read_text("utf-8"))
    metrics["hashes"]["data"] = "e"
    metrics["splits"][ONE[0]]["id"] = "another"
    file.write_text(json.dumps(metrics))
    notes = " ".join(compared(*improved).notes)
    assert "manifests differ" in notes
    assert "supervised_split1 is supervised_split1@here in A and another in B" in notes


def test_missing_predictions_leave_the_unpaired_difference(
    improved: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache/predictions/d/b/supervised.parquet").unlink()
    found = compared(*improved)
    [one] = found.differences
    assert (one.difference, one.verdict, one.p) == (0.233333, ComparisonVerdict.UNPAIRED, None)
    assert (one.ci95_a, one.ci95_b) == ((0.566667, 0.766667), (0.8, 1.0))
    print_comparison(found)
    out = " ".join(capsys.readouterr().out.split())
    assert "66.7 56.7 to 76.7 90.0 80.0 to 100.0 +23.3" in out
    assert "supervised.parquet is not there: run `dvc pull" in out
    assert "Unpaired" in out
    assert "Unpaired" in markdown(found)


def test_json_is_complete_and_the_same_bytes(improved: tuple[Path, Path], tmp_path: Path) -> None:
    write_comparison(compared(*improved), tmp_path / "one.json")
    write_comparison(compared(*improved), tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    value = json.loads((tmp_path / "one.json").read_text("utf-8"))
    assert len(value["changed"]) == 18
    assert value["differences"][0]["verdict"] == "better"
    assert value["coverage"] == [
        {"split": "supervised_split1", "test": "test", "common": 60, "only_a": 0, "only_b": 0}
    ]
    assert value == json.loads(json.dumps(as_dict(compared(*improved))))


def test_text_has_every_row_on_one_line(
    improved: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    found = compared(*improved)
    print_comparison(found, show=3)
    out = capsys.readouterr().out
    [line] = [line for line in out.splitlines() if line.startswith("supervised top-1")]
    assert line.split()[2:6] == ["60", "66.7", "90.0", "+23.3"]
    assert "Right in B alone: 16, the first 3" in out
    assert "\x1b" not in out
    text = markdown(found, show=3)
    assert "| supervised top-1 | 60 | 66.7 | 90.0 | +23.3 |" in text
    assert "| better |" in text
    assert text.count("| v") == 3 + 2
