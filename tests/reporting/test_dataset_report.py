"""The page holds every number and name, asks nothing of the network, and is the same every time."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.metrics.results_on_disk import complete

from vidprompt.data.manifest.table import SCHEMA
from vidprompt.data.shards.cache_build import build_frame_cache
from vidprompt.data.shards.plan import FrameRow, FrameSettings
from vidprompt.data.splits.split_file import Split, Subset, write_split
from vidprompt.metrics.result import parse_result
from vidprompt.reporting import charts, rendering
from vidprompt.reporting.dataset_report import frame_strips
from vidprompt.reporting.dataset_report.data import (
    calibration_errors,
    class_accuracies,
    confusions,
    headlines,
    most_confused,
    reliability_bins,
)
from vidprompt.reporting.dataset_report.page import write_report
from vidprompt.reporting.measures import Cell, Row
from vidprompt.reporting.rendering import COLOURS, png, svg
from vidprompt.system.errors import DataError

METHODS = {"frozen_clip": 0.25, "ez_clip": 0.75, "vita_clip": 0.5}
EVIL = "<script>alert(1)</script>"
CLASSES = ["StarGrowing", "StarShrinking", EVIL, "nan"]
VIDEOS = [f"actions/v{i}" for i in range(8)]
PEOPLE = [f"people/p{i}" for i in range(4)]
BROKEN = "actions/broken & <lost>"


def _value(value: float) -> dict[str, Any]:
    return {"value": value, "ci95": [max(0, value - 0.1), min(1, value + 0.1)]}


def _metrics(method: str, protocol: str, summary: dict[str, Any], tests: dict[str, Any]) -> Any:
    name = f"{protocol}_split1"
    return complete(
        {
            "protocol": protocol,
            "method": method,
            "n": 8,
            "listed": 9,
            "coverage": 8 / 9,
            "hashes": {"config": "c0ffee", "data": "da7a", "checkpoints": {name: f"ab{method}"}},
            "summary": summary,
            "splits": {name: {"id": f"{protocol}/demo@1", "tests": tests}},
        }
    )


def _recognition(root: Path, method: str, protocol: str, tests: list[str], summary: Any) -> None:
    """metrics.json, confusion.csv, per_class.csv and predictions; half of the videos are right."""
    folder = root / "results/demo" / method / protocol
    folder.mkdir(parents=True)
    found = {test: {"n": 8, "ece": {"value": 0.11, "n": 8, "bins": 15}} for test in tests}
    metrics = _metrics(method, protocol, summary, found)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    rows = []
    for test in tests:
        for i, video in enumerate(VIDEOS):
            actual, predicted = CLASSES[i % 4], CLASSES[(i // 2) % 4]
            scores = [0.61, 0.2]
            rows.append((f"{protocol}_split1", test, video, actual, predicted, scores))
    names = ["split", "test", "video_id", "label", "predicted", "top5_scores"]
    table = pd.DataFrame(rows, columns=names)
    path = root / "predictions/demo" / method / f"{protocol}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    confusion = table[["split", "test", "label", "predicted"]]
    confusion.rename(columns={"label": "actual"}).to_csv(folder / "confusion.csv", index=False)
    classes = [("s", test, name, 2, 0.5) for test in tests for name in CLASSES]
    per_class = pd.DataFrame(classes, columns=["split", "test", "class", "n", "top1"])
    per_class.to_csv(folder / "per_class.csv", index=False)
    lines = [f"{protocol}_split1,{test},0.6,0.666667,8,0.61,0.5\n" for test in tests]
    head = "split,test,low,high,n,confidence,accuracy\n"
    (folder / "reliability.csv").write_text(head + "".join(lines))


def _reid(root: Path, method: str, value: float) -> None:
    folder = root / "results/demo" / method / "reid"
    folder.mkdir(parents=True)
    protocols = ("general", "clothes-changing", "same-clothes")
    summary = {name: {"R-1": _value(value), "mAP": _value(value / 2)} for name in protocols}
    (folder / "metrics.json").write_text(json.dumps(_metrics(method, "reid", summary, {})))
    curve = [(name, k, min(1, value + k / 20)) for name in protocols for k in (1, 2, 3)]
    table = pd.DataFrame(curve, columns=["protocol", "rank", "value"])
    table.to_csv(folder / "cmc.csv", index=False)
    rows = [
        {
            "protocol": name,
            "video_id": PEOPLE[0],
            "label": "001",
            "average_precision": 0.5,
            "ranked": PEOPLE[1:],
            "hits": [True, False, False],
        }
        for name in protocols
    ]
    pd.DataFrame(rows).to_parquet(root / "predictions/demo" / method / "reid.parquet")


def _write_manifest(root: Path) -> None:
    rows = []
    for video in [*VIDEOS, *PEOPLE, BROKEN]:
        row: dict[str, Any] = dict.fromkeys(SCHEMA.names, "")
        row |= {"video_id": video, "source": video.split("/")[0], "label": "a", "camera": 1}
        row |= {"size": 9, "n_frames": 8, "width": 24, "height": 16, "fps": 8.0, "duration": 1.0}
        row |= {"header_frames": 8, "rotation": 0}
        row |= {"codec": "h264", "health": "ok", "exact": True}
        if video == BROKEN:
            row |= {"health": "too_few_frames", "detail": "1 frame; 8 are <needed>.", "codec": ""}
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), root / "manifest.parquet")


def _write_frames(root: Path) -> None:
    generator = np.random.default_rng(0)
    rows = []
    for video in [*VIDEOS, *PEOPLE]:
        folder = root / "pictures" / video
        folder.mkdir(parents=True)
        for k in range(8):
            pixels = generator.integers(0, 255, (16, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{k}.png")
        rows.append(FrameRow(video, folder, "frames", 8, True, video.split("/")[0]))
    build_frame_cache(rows, FrameSettings(short_side=16, frames=8), {}, root / "frames")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for method, value in METHODS.items():
        top = {"top1": _value(value), "top5": _value(0.9)}
        _recognition(root, method, "supervised", ["test"], {"supervised": top})
        _recognition(root, method, "zero_shot", ["test"], {"zero_shot": top})
        _recognition(root, method, "few_shot", ["test"], {"2shot": top, "8shot": top})
        pair = {"base": top, "novel": {"top1": _value(value / 2)}, "hm": {"value": value / 1.5}}
        _recognition(root, method, "base_to_novel", ["base", "novel"], pair)
        _reid(root, method, value)
        run = root / "results/demo" / method / "runs/supervised_split1"
        if method != "frozen_clip":
            run.mkdir(parents=True)
            rows = "\n".join(f"{k},{5 / k},{1 / k},0.001" for k in range(1, 400))
            (run / "loss.csv").write_text(f"step,loss,motion,lr\n{rows}\n")
    expectation = {"name": "roles_known", "severity": "error", "success": True, "checked": 9}
    failing = {"name": "counts", "severity": "warn", "success": False, "checked": 1}
    entries = [expectation | {"failed": 0, "examples": []}]
    entries.append(failing | {"failed": 1, "examples": ["videos: 9, not 10"]})
    report = {"success": True, "expectations": entries, "health": {}, "broken": []}
    (root / "results/demo/validation.json").write_text(json.dumps(report))
    split = Split("supervised/demo@1", "supervised", "supervised_split1", tests={})
    split.tests["test"] = Subset(CLASSES, VIDEOS, [0] * 8)
    write_split(split, root / "splits/supervised_split1.json")
    _write_manifest(root)
    _write_frames(root)
    return root


def _report(root: Path, out: Path, **changes: Any) -> str:
    arguments: dict[str, Any] = {
        "manifest_path": root / "manifest.parquet",
        "splits_folder": root / "splits",
        "frames_folder": root / "frames",
        "predictions_root": root / "predictions",
        "results_root": root / "results",
    }
    write_report("demo", out=out, **(arguments | changes))
    return out.read_text("utf-8")


@pytest.fixture(scope="module")
def page(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return _report(tree, tmp_path_factory.mktemp("page") / "report.html")


class _Page(HTMLParser):
    """Tags with their attributes, unclosed ones, and every cell of the table of results."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.cells: dict[tuple[str, str, str], str] = {}
        self._cell: tuple[str, str, str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in ("meta", "link", "img", "input", "br", "wbr"):
            self.open.append(tag)
        if "data-method" in found:
            names = (found[f"data-{key}"] or "" for key in ("method", "protocol", "key"))
            self._cell = next(zip(names, names, names, strict=True))
            self.cells[self._cell] = ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)
        if tag == "td":
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.cells[self._cell] += data


def test_nothing_is_asked_of_the_network(page: str) -> None:
    assert "http:" not in page
    assert "https:" not in page
    assert "//" not in re.sub(r'"data:[^"]*"', "", page).replace("</", "")
    for tag, attributes in _Page(page).tags:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "srcset", "action", "poster", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_the_markup_is_sound(page: str) -> None:
    parsed = _Page(page)
    assert (parsed.wrong, parsed.open) == ([], [])
    ids = [found["id"] for _, found in parsed.tags if "id" in found]
    assert len(ids) == len(set(ids))
    targets = {(found.get("href") or "")[1:] for tag, found in parsed.tags if tag == "a"}
    assert targets <= set(ids)
    assert all("alt" in found for tag, found in parsed.tags if tag == "img")
    labelled = [found for tag, found in parsed.tags if tag == "svg"]
    assert all(f.get("aria-label") or f.get("aria-hidden") == "true" for f in labelled)
    names = [found["name"] for tag, found in parsed.tags if tag == "input" and "checked" in found]
    assert len(names) == len(set(names)) == 5  # three matrices, the queries, the examples


def test_values_are_those_of_the_files(page: str) -> None:
    cells = _Page(page).cells
    methods, protocols = {key[0] for key in cells}, {key[1] for key in cells}
    assert methods == set(METHODS)
    assert protocols == {"zero_shot", "base_to_novel", "few_shot", "supervised", "reid"}
    for method, value in METHODS.items():
        low, high = value - 0.1, value + 0.1
        shown = f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        for place in (
            ("supervised", "top1"),
            ("zero_shot", "top1"),
            ("few_shot", "8shot"),
            ("base_to_novel", "base"),
            ("reid", "clothes-changing/R-1"),
        ):
            assert " ".join(cells[(method, *place)].split()) == shown
        assert cells[method, "base_to_novel", "hm"].strip() == f"{100 * value / 1.5:.1f}"


def test_the_headline_is_against_the_floor(page: str) -> None:
    assert "is above the frozen backbone (frozen_clip, the floor) in 5 of 5" in page
    assert page.count("<strong>+50.0</strong> points against the floor") == 4
    assert page.count("intervals apart") == 4  # the harmonic mean has no interval


def test_everything_is_there(page: str) -> None:
    for word in ("Confusion", "Accuracy by class", "CMC, same-clothes", "Loss of vita_clip in"):
        assert word in page
    for chart in ("confusion of frozen_clip", "Base to novel: novel classes: confusion of ez_clip"):
        assert f'aria-label="Supervised: {chart}' in page or f'aria-label="{chart}' in page
    assert page.count('<img class="pixels" src="data:image/webp;base64,') > 3 * 8 * 2
    for word in ("c0ffee", "da7a", "abez_clip", "supervised/<wbr>demo@1", "12 of 13 videos"):
        assert word in page
    assert page.count("<title>confidence 61.0%, right 50.0% of 8</title>") == 4 * 3
    assert page.count("ECE: frozen_clip 11.0%, ez_clip 11.0%, vita_clip 11.0%") == 4
    assert "passed" in page
    assert "videos: 9, not 10" in page


def test_names_are_escaped_and_broken_videos_named(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "actions/<wbr>broken &amp; &lt;lost&gt;" in page
    assert "too few frames" in page
    assert "1 frame; 8 are &lt;needed&gt;." in page


def test_a_second_run_gives_the_same_bytes(tree: Path, page: str, tmp_path: Path) -> None:
    again = _report(tree, tmp_path / "again.html")
    assert hashlib.sha256(again.encode()).digest() == hashlib.sha256(page.encode()).digest()
    assert len(page) < 4_000_000


def test_mosaic_changes_reid_pictures_only(tree: Path, page: str, tmp_path: Path) -> None:
    def pictures_of(text: str, part: str) -> list[str]:
        section = text[text.index(f'<section class="part" id="{part}"') :]
        return re.findall(r'src="(data:image/webp[^"]+)"', section[: section.index("</section>")])

    hidden = _report(tree, tmp_path / "hidden.html", mosaic=True)
    assert not set(pictures_of(hidden, "reid")) & set(pictures_of(page, "reid"))
    assert pictures_of(hidden, "examples") == pictures_of(page, "examples")


def test_missing_inputs_are_left_out(tree: Path, tmp_path: Path) -> None:
    results = tmp_path / "results/demo"
    for method in ("ez_clip", "other"):
        folder = results / method / "supervised"
        folder.mkdir(parents=True)
        source = tree / "results/demo/ez_clip/supervised/metrics.json"
        (folder / "metrics.json").write_bytes(source.read_bytes())
    nowhere = tmp_path / "nowhere"
    text = _report(
        nowhere,
        tmp_path / "report.html",
        results_root=tmp_path / "results",
        predictions_root=tree / "predictions",
    )
    parsed = _Page(text)
    assert parsed.wrong == []
    assert {key[0] for key in parsed.cells} == {"ez_clip", "other"}
    assert "No pictures: not in the frame cache." in text
    assert "points against the floor" not in text
    for part in ("confusion", "classes", "calibration", "training", "data"):
        assert f'id="{part}"' not in text


def test_no_results_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="make repro"):
        _report(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_the_upper_third_is_coarse_and_the_rest_untouched() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (48, 24, 3), dtype=np.uint8)
    hidden = frame_strips.pixelated_top(frame)
    assert (hidden[16:] == frame[16:]).all()
    assert len(np.unique(hidden[:16].reshape(-1, 3), axis=0)) <= 6 * 4


def test_many_classes_become_a_picture() -> None:
    classes = [f"class {i}" for i in range(101)]
    pairs = {(name, name): 3 for name in classes} | {("class 1", "class 2"): 1}
    drawn = charts.confusion_chart(EVIL, pairs, classes)
    assert 'src="data:image/png;base64,' in drawn
    assert "<script" not in drawn
    assert most_confused(pairs) == [("class 1", "class 2", 1, 4)]


def test_matrix_cells_are_shares_of_their_row() -> None:
    drawn = charts.confusion_chart("m", {("a", "a"): 3, ("a", "b"): 1, ("b", "b"): 2}, ["a", "b"])
    assert "a → b: 1 of 4 (25%)" in drawn
    assert "b → b: 2 of 2 (100%)" in drawn
    assert drawn.count('fill="var(--hit)"') == 2
    assert drawn.count('fill="var(--miss)"') == 1


def test_accuracies_pool_splits_and_the_easiest_class_is_first(tmp_path: Path) -> None:
    folder = tmp_path / "ez_clip/zero_shot"
    folder.mkdir(parents=True)
    rows = "split,test,class,n,top1\n1,test,nan,3,1.0\n2,test,nan,1,0.0\n1,test,b,2,1.0\n"
    (folder / "per_class.csv").write_text(rows + "1,test,empty,0,\n")
    found = class_accuracies(tmp_path, ["ez_clip", "vita_clip"], "zero_shot", "test")
    assert found == [("b", {"ez_clip": (1.0, 2)}), ("nan", {"ez_clip": (0.75, 4)})]


def test_halves_and_published_lists_are_not_pooled_with_the_official_splits(tmp_path: Path) -> None:
    folder = tmp_path / "ez_clip/zero_shot"
    folder.mkdir(parents=True)
    rows = {"zero_shot_split1": 0.5, "zero_shot_split2": 1.0, "zero_shot_half0": 0.0}
    rows |= {"zero_shot_theirs": 0.0}
    lines = [f"{split},test,a,2,{value}\n" for split, value in rows.items()]
    table = folder / "per_class.csv"
    table.write_text("split,test,class,n,top1\n" + "".join(lines))
    found = class_accuracies(tmp_path, ["ez_clip"], "zero_shot", "test")
    assert found == [("a", {"ez_clip": (0.75, 4)})]
    lines = [f"{split},test,a,b\n" for split in rows]
    (folder / "confusion.csv").write_text("split,test,actual,predicted\n" + "".join(lines))
    assert confusions(tmp_path, ["ez_clip"], "zero_shot", "test") == {"ez_clip": {("a", "b"): 2}}
    table.write_text("split,test,class,n,top1\nzero_shot_theirs,test,a,2,0.5\n")  # nothing else
    found = class_accuracies(tmp_path, ["ez_clip"], "zero_shot", "test")
    assert found == [("a", {"ez_clip": (0.5, 2)})]


def test_bins_of_the_usual_splits_are_pooled_by_their_videos(tmp_path: Path) -> None:
    folder = tmp_path / "ez_clip/zero_shot"
    folder.mkdir(parents=True)
    rows = {"split1": (30, 0.62, 0.5), "split2": (10, 0.66, 0.9), "theirs": (99, 0.6, 0.0)}
    lines = [
        f"zero_shot_{name},test,0.6,0.666667,{n},{c},{a}\n" for name, (n, c, a) in rows.items()
    ]
    lines.append("zero_shot_split2,test,0.8,0.866667,5,0.84,1.0\n")
    head = "split,test,low,high,n,confidence,accuracy\n"
    (folder / "reliability.csv").write_text(head + "".join(lines))
    found = reliability_bins(tmp_path, ["ez_clip", "vita_clip"], "zero_shot", "test")
    assert list(found) == ["ez_clip"]
    assert found["ez_clip"] == [pytest.approx((0.63, 0.6, 40)), pytest.approx((0.84, 1.0, 5))]
    tests = {
        f"zero_shot_{name}": {"tests": {"test": {"ece": {"value": value, "n": 1, "bins": 15}}}}
        for name, value in {"split1": 0.1, "split2": 0.3, "theirs": 0.9}.items()
    }
    results = {
        method: {"zero_shot": parse_result(complete({"splits": splits}))}
        for method, splits in (("ez_clip", tests), ("old", {}))
    }
    errors = calibration_errors(results, "zero_shot", "test")
    assert errors == {"ez_clip": pytest.approx(0.2)}


@pytest.mark.parametrize("points", [[], [(1.0, 2.0)], [(1.0, 0.0), (2.0, 0.0)]])
def test_lines_of_few_points_draw(points: list[tuple[float, float]]) -> None:
    series = [charts.Series(f"\x01{EVIL}", points, 1)]
    drawn = svg(charts.lines(series, "step", last=True), EVIL)
    assert "nan" not in drawn
    assert "<script" not in drawn


def test_headline_verdicts() -> None:
    def verdict(floor: Cell, other: Cell) -> str:
        row = Row("supervised", "top1", "top-1", "top-1", "f", {"frozen_clip": floor, "m": other})
        return headlines([row])[0].verdict

    floor = Cell(0.4, 0.3, 0.5)
    assert verdict(floor, Cell(0.7, 0.6, 0.8)) == "intervals apart"
    assert verdict(floor, Cell(0.5, 0.4, 0.6)) == "intervals overlap"
    assert verdict(floor, Cell(0.7)) == ""
    assert verdict(floor, Cell(0.4, 0.3, 0.5)) == "no trained method is above the floor"


def test_charts_follow_the_theme_and_explain_their_marks() -> None:
    row = Row("supervised", "top1", "top-1", "top-1", "f", {"m": Cell(0.4, 0.3, 0.5), "n": Cell(1)})
    drawn = str(svg(charts.bars([row], ["m", "n"]), "label"))
    assert not re.search(r'"(#|black|white|rgb)', drawn)
    assert drawn.count("<title>m, top-1: 40.0 [30.0, 50.0]%</title>") == 1
    assert drawn.count("<title>") == 2  # of the bars alone
    assert 'role="img" aria-label="label"' in drawn
    known = {f"var(--{name})" for name in COLOURS}
    assert set(re.findall(r"var\(--\w+\)", drawn)) <= known
    first, again = (png(charts.bars([row], ["m", "n"]), title="var(--x)") for _ in range(2))
    assert first == again
    assert first.startswith(b"\x89PNG")


def test_no_font_changes_a_chart_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row("supervised", "top1", "top-1", "a wide name", "f", {"m": Cell(0.4, 0.3, 0.5)})
    pairs = {("WWW", "iii"): 2, ("iii", "iii"): 1}
    specs = [
        charts.bars([row], ["m"]),
        charts.lines([charts.Series("m", [(1, 2.5), (900, 12345)], 0)], "step", last=True),
        charts.reliability({0: [(0.3, 0.4, 5)]}),
        charts.dots([("WWW", {"m": (0.2, 5)}), ("iii", {"m": (0.4, 5)})], ["m"]),
        charts.confusion(pairs, ["WWW", "iii"], ["WWW", "iii"], side=200),
    ]
    drawn = [svg(spec, "label") for spec in specs]
    monkeypatch.setitem(rendering.CONFIG, "font", "monospace")
    assert drawn == [svg(spec, "label") for spec in specs]
