"""The table shows just what metrics.json holds, with the floor first and the best in bold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.metrics.results_on_disk import complete

from vidprompt.reporting.dataset_report.data import headlines
from vidprompt.reporting.measures import Cell, Row, order_methods, points, read_rows
from vidprompt.reporting.table import drawn_table, markdown_table, print_table, update_readme
from vidprompt.system.errors import DataError


def _value(value: float, spread: float = 0.05) -> dict[str, Any]:
    return {"value": value, "ci95": [value - spread, value + spread]}


def write_metrics(
    results: Path, method: str, protocol: str, summary: dict[str, Any], **more: Any
) -> None:
    """A metrics.json of the form that the evaluate stage writes."""
    folder = results / "demo" / method / protocol
    folder.mkdir(parents=True, exist_ok=True)
    found = {"protocol": protocol, "method": method, "n": 98, "listed": 100, "coverage": 0.98}
    found |= {"summary": summary} | more
    (folder / "metrics.json").write_text(json.dumps(complete(found)))


def _reid(general: float) -> dict[str, Any]:
    return {
        name: {"n": 6, "skipped": 0, "R-1": _value(general), "R-5": _value(0.9), "mAP": _value(0.5)}
        for name in ("same-clothes", "general", "clothes-changing")
    }


def write_all(results: Path, method: str, value: float) -> None:
    """Every protocol of a method."""
    top = {"top1": _value(value), "top5": _value(0.9)}
    zero = {"top1": _value(value) | {"std": 0.01}, "top5": _value(0.9)}
    write_metrics(results, method, "zero_shot", {"zero_shot": zero})
    pair = {"base": {"top1": _value(value)}, "novel": {"top1": _value(value / 2)}}
    write_metrics(results, method, "base_to_novel", pair | {"hm": {"value": 0.3}})
    write_metrics(results, method, "few_shot", {"16shot": top, "2shot": top, "8shot": top})
    within = {"object": _value(value) | {"chance": 0.125}, "pair": _value(value) | {"chance": 0.5}}
    write_metrics(results, method, "supervised", {"supervised": top | {"within": within}})
    write_metrics(results, method, "reid", _reid(value))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for method, value in (("vita_clip", 0.6), ("another", 0.2), ("frozen_clip", 0.2)):
        write_all(tmp_path / "results", method, value)
    write_all(tmp_path / "results", "ez_clip", 0.6)
    return tmp_path / "results"


def test_rows_are_every_measure_in_order(results: Path) -> None:
    keys = [(row.protocol, row.key) for row in read_rows("demo", results)]
    reid = [f"{name}/{m}" for name in ("general", "clothes-changing", "same-clothes")
            for m in ("R-1", "mAP")]  # fmt: skip
    assert keys == [
        ("zero_shot", "top1"),
        ("base_to_novel", "base"),
        ("base_to_novel", "novel"),
        ("base_to_novel", "hm"),
        ("few_shot", "2shot"),
        ("few_shot", "8shot"),
        ("few_shot", "16shot"),
        ("supervised", "top1"),
        ("supervised", "object"),
        ("supervised", "pair"),
        *(("reid", key) for key in reid),
    ]


def test_values_are_those_of_the_file(results: Path) -> None:
    rows = {(row.protocol, row.key): row for row in read_rows("demo", results)}
    for (protocol, key), path in {
        ("zero_shot", "top1"): ("zero_shot", "top1"),
        ("base_to_novel", "novel"): ("novel", "top1"),
        ("base_to_novel", "hm"): ("hm",),
        ("few_shot", "8shot"): ("8shot", "top1"),
        ("supervised", "top1"): ("supervised", "top1"),
        ("reid", "general/mAP"): ("general", "mAP"),
    }.items():
        row = rows[protocol, key]
        assert list(row.cells) == ["frozen_clip", "ez_clip", "vita_clip", "another"]
        for method, cell in row.cells.items():
            file = results / "demo" / method / protocol / "metrics.json"
            found = json.loads(file.read_text("utf-8"))["summary"]
            for part in path:
                found = found[part]
            assert cell.value == found["value"]
            assert [cell.low, cell.high] == found.get("ci95", [None, None])
    pair = rows["supervised", "pair"]
    assert (pair.chance, pair.cells["ez_clip"]) == (0.5, Cell(0.6, 0.6 - 0.05, 0.6 + 0.05))


def test_published_figures_stand_beside_results_of_the_same_splits(tmp_path: Path) -> None:
    (tmp_path / "params").symlink_to(Path(__file__).parents[2] / "params")
    results = tmp_path / "results"
    ids = {
        f"base_to_novel_16shot_seed{s}": f"base_to_novel/ucf101@16shot-seed{s}" for s in (1, 2, 3)
    }

    def write(method: str, ids: dict[str, str]) -> None:
        tests = {half: {"top1": _value(0.5)} for half in ("base", "novel")}
        splits = {name: {"id": id, "tests": tests} for name, id in ids.items()}
        summary = {half: {"top1": _value(0.5)} for half in tests} | {"hm": _value(0.5)}
        found = {"dataset": "ucf101", "method": method, "protocol": "base_to_novel"}
        file = results / "ucf101" / method / "base_to_novel/metrics.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(complete(found | {"summary": summary, "splits": splits})))

    write("ez_clip", ids)
    write("vita_clip", ids)  # nothing published
    base, novel, hm = read_rows("ucf101", results)
    assert base.published == ["94.4 ez_clip", "94.4 leaderboard"]
    assert (novel.published, hm.published) == (["77.9 ez_clip"], ["85.4 ez_clip"])
    assert "| Published |" in markdown_table([base, novel, hm])
    write("ez_clip", {"base_to_novel_full": "base_to_novel/ucf101@full"})
    others = read_rows("ucf101", results)
    assert not any(row.published for row in others)  # other splits, another number
    assert "Published" not in markdown_table(others)


def test_published_lists_stand_below_the_draws_under_their_names(results: Path) -> None:
    top = {"top1": _value(0.9), "top5": _value(0.9)}
    added = {
        "zero_shot": {"zero_shot_half": top, "zero_shot_k600_minus_k400": top},
        "few_shot": {"few_shot_theirs": top, "4shot_nested": top},
        "base_to_novel": {
            "base_to_novel_theirs/hm": {"value": 0.4},
            "base_to_novel_theirs/base": top,
            "base_to_novel_theirs/novel": top,
        },
        "supervised": {
            "supervised_theirs": top | {"within": {"pair": {"value": 0.1, "chance": 0.5}}}
        },
    }
    for protocol, summary in added.items():
        file = results / "demo/ez_clip" / protocol / "metrics.json"
        found = json.loads(file.read_text("utf-8"))
        found["summary"] = summary | found["summary"]
        file.write_text(json.dumps(found))
    rows = [row for row in read_rows("demo", results) if row.protocol != "reid"]
    assert [row.measure.partition(" (")[0] for row in rows] == [
        *("top-1", "half, top-1", "k600-minus-k400, top-1"),
        *("base, top-1", "novel, top-1", "harmonic mean"),
        *("theirs base, top-1", "theirs novel, top-1", "theirs harmonic mean"),
        *(
            "2-shot, top-1",
            "4-shot-nested, top-1",
            "8-shot, top-1",
            "16-shot, top-1",
            "theirs, top-1",
        ),
        *("top-1", "motion given object", "direction in a pair", "theirs, top-1"),
    ]
    by_measure = {(row.protocol, row.measure): row for row in rows}
    assert list(by_measure["few_shot", "theirs, top-1"].cells) == ["ez_clip"]
    # accuracy within groups is of the official splits alone
    pair = next(row for row in rows if row.key == "pair")
    assert {cell.value for cell in pair.cells.values()} == {0.6, 0.2}
    chosen = {h.row.protocol: h.row.measure for h in headlines(rows)}
    assert chosen == {
        "zero_shot": "top-1",
        "base_to_novel": "harmonic mean",
        "few_shot": "16-shot, top-1",
        "supervised": "top-1",
    }
    assert " theirs harmonic mean |" in markdown_table(rows)
    assert drawn_table(rows, "demo").row_count == len(rows) + 4


def test_a_protocol_of_published_lists_alone_has_rows(results: Path) -> None:
    top = {"top1": _value(0.9), "top5": _value(0.9)}
    for method in ("ez_clip", "vita_clip", "another", "frozen_clip"):
        write_metrics(results, method, "few_shot", {"few_shot_theirs": top})
    rows = [row for row in read_rows("demo", results) if row.protocol == "few_shot"]
    assert [row.measure for row in rows] == ["theirs, top-1"]
    assert [headline.row for headline in headlines(rows)] == rows


def test_all_best_methods_are_bold_and_gain_is_to_the_floor(results: Path) -> None:
    row = read_rows("demo", results)[0]
    assert row.best == ["ez_clip", "vita_clip"]
    assert row.gain is not None
    assert row.gain[0] == "ez_clip"
    assert row.gain[1] == pytest.approx(0.4)
    lines = markdown_table([row]).splitlines()
    assert lines[0].startswith("| Protocol | Measure | frozen_clip (floor) | ez_clip | vita_clip |")
    assert lines[2] == (
        "| Zero-shot | top-1 | 20.0 [15.0, 25.0] | **60.0** [55.0, 65.0] | **60.0** [55.0, 65.0] |"
        " 20.0 [15.0, 25.0] | +40.0 ez_clip | 98.0% |"
    )


def test_a_method_below_the_floor_is_said_to_be() -> None:
    row = Row("reid", "k", "k", "k", "f", {"frozen_clip": Cell(0.5), "ez_clip": Cell(0.45)})
    assert row.best == ["frozen_clip"]
    assert points(row.gain[1] if row.gain else 0) == "−5.0"
    assert Row("reid", "k", "k", "k", "f", {"ez_clip": Cell(0.4)}).gain is None


def test_missing_files_and_numbers_are_absent(results: Path) -> None:
    (results / "demo/ez_clip/supervised/metrics.json").unlink()
    write_metrics(results, "vita_clip", "zero_shot", {"zero_shot": {"top5": _value(0.9)}})
    write_metrics(results, "another", "zero_shot", {})
    rows = {(row.protocol, row.key): row for row in read_rows("demo", results)}
    assert list(rows["supervised", "top1"].cells) == ["frozen_clip", "vita_clip", "another"]
    assert list(rows["zero_shot", "top1"].cells) == ["frozen_clip", "ez_clip"]
    assert " – |" in markdown_table(list(rows.values()))


@pytest.mark.parametrize("value", [None, float("nan"), 1.2])
def test_a_wrong_number_is_named(results: Path, value: float | None) -> None:
    write_metrics(results, "vita_clip", "zero_shot", {"zero_shot": {"top1": {"value": value}}})
    with pytest.raises(DataError, match=r"vita_clip.zero_shot.metrics\.json .*top1\.value` is"):
        read_rows("demo", results)


def test_coverage_shows_a_range_where_methods_differ(results: Path) -> None:
    write_metrics(results, "ez_clip", "reid", _reid(0.3), coverage=0.5)
    rows = {row.protocol: row.coverage_text for row in read_rows("demo", results)}
    assert (rows["zero_shot"], rows["reid"]) == ("98.0%", "50.0–98.0%")


def test_cells_say_what_is_known_of_their_spread() -> None:
    assert Cell(0.41, 0.36, 0.46).text == "41.0 [36.0, 46.0]"
    assert Cell(0.41, std=0.02).text == "41.0 ± 2.0"
    assert Cell(0.41).text == "41.0"
    assert order_methods(["b", "vita_clip", "a"]) == ["vita_clip", "a", "b"]


def test_nothing_to_show_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="make repro"):
        read_rows("demo", tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"summary": 3}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "demo/ez_clip/reid/metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(DataError, match=r"ez_clip.reid.metrics\.json"):
        read_rows("demo", tmp_path)


def test_printing_both_ways(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    print_table("demo", markdown=True, results=results)
    printed = capsys.readouterr().out
    assert printed.strip() == markdown_table(read_rows("demo", results))
    print_table("demo", results=results)
    printed = capsys.readouterr().out
    for word in ("Zero-shot", "harmonic mean", "clothes-changing", "55.0–65.0", "98.0%"):
        assert word in printed
    assert drawn_table(read_rows("demo", results), "demo").row_count == 16 + 5


def test_readme_is_replaced_between_its_markers(results: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# A\n<!-- results:begin -->\nstale\n<!-- results:end -->\nrest\n")
    update_readme(readme, "demo", results)
    once = readme.read_text("utf-8")
    assert once.startswith("# A\n<!-- results:begin -->\n\n| Protocol |")
    assert once.endswith("\n<!-- results:end -->\nrest\n")
    assert "stale" not in once
    update_readme(readme, "demo", results)
    assert readme.read_text("utf-8") == once


@pytest.mark.parametrize("text", ["no markers", "<!-- results:end --> <!-- results:begin -->"])
def test_readme_without_markers_is_left_alone(results: Path, tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(DataError, match="results:begin"):
        update_readme(readme, "demo", results)
    assert readme.read_text("utf-8") == text


def test_the_command_writes_the_readme(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from vidprompt.cli.main import app

    monkeypatch.chdir(tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text("# A\n<!-- results:begin -->\nstale\n<!-- results:end -->\n")
    assert CliRunner().invoke(app, ["table", "demo", "--readme"]).exit_code == 0
    assert markdown_table(read_rows("demo", results)) in readme.read_text("utf-8")
    assert "stale" not in readme.read_text("utf-8")
