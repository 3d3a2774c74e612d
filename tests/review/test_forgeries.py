"""What someone may try to get past a review: each is found out, or it is said what was not checked."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from tests.metrics.results_on_disk import complete
from tests.pipeline.project import run
from tests.provenance.small_package import COMPOSE, NETWORK, add_package, drop_dependency
from tests.review import project
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.metrics.result import parse_result
from vidprompt.provenance.lock_check import undeclared
from vidprompt.provenance.lock_report import Finding
from vidprompt.provenance.revision import Revision
from vidprompt.recompute.lists import list_differences
from vidprompt.recompute.tables import has_same_rows, recompute_tables
from vidprompt.reporting.markdown import sentence
from vidprompt.review.build import Review, build_review
from vidprompt.review.data_diff import compare_health
from vidprompt.review.markdown import review_markdown
from vidprompt.review.output import write_review
from vidprompt.system.errors import DataError, UserError

RESULT = "results/toy/ez_clip/supervised"
METRICS = f"{RESULT}/metrics.json"
PREDICTIONS = "cache/predictions/toy/ez_clip/supervised.parquet"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "p"
    project.start(folder)
    project.write_project(folder, {"ez_clip": range(40)})
    project.commit(folder, "Base")
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "p"))


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def _json(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def _found(folder: Path) -> Review:
    return build_review("HEAD", root=folder, draw=False)


def _said(folder: Path) -> str:
    return "\n".join(f"{f.subject}: {f.sentence}" for f in _found(folder).findings)


def test_a_dependency_is_dropped(folder: Path) -> None:
    dvc = folder / "dvc.yaml"
    _edit(dvc, "cache/splits/toy, src/model.py]", "cache/splits/toy]")
    _edit(folder / "src/model.py", "1", "2")
    assert (
        "evaluate@ez_clip: dependency `src/model.py` is in dvc.lock and not in dvc.yaml"
        in _said(folder)
    )
    lock = folder / "dvc.lock"  # and from the lock too: then the diff with the base shows it
    before, evaluate, rest = lock.read_text("utf-8").partition("  evaluate@ez_clip:")
    rest = re.sub(r"    - path: src/model.py\n(      .*\n)+", "", rest, count=1)
    lock.write_text(before + evaluate + rest)
    found = _found(folder)
    assert not any(f.subject == "evaluate@ez_clip" for f in found.findings)
    assert "- `src/model.py`: no longer an input, 1 stage" in review_markdown(found)


def test_code_that_is_no_dependency(folder: Path) -> None:
    add_package(folder, "evaluate", "evaluate")
    project.commit(folder, "With the package's sources")
    assert _said(folder) == ""
    (folder / ".dvcignore").write_text("network.py\n")
    assert f"{NETWORK}: stages run it and .dvcignore hides it from DVC" in _said(folder)
    (folder / ".dvcignore").unlink()
    (folder / ".gitignore").write_text("/cache/\nmine.py\n")
    (folder / "src/vidprompt/mine.py").write_text("")
    (folder / NETWORK).write_text("from vidprompt import mine\n")
    project.commit(folder, "With a file that git ignores")
    assert "`src/vidprompt/mine.py` is run by it and is no dependency" in _said(folder)
    (folder / NETWORK).write_text("")
    drop_dependency(folder, "evaluate", COMPOSE)
    drop_dependency(folder, "evaluate", "src/vidprompt/models")
    project.commit(folder, "Without two of them")
    assert _said(folder) == (
        f"evaluate@ez_clip: `{COMPOSE}` and 1 more are run by it and are no dependencies: "
        "run `vidprompt activate`, then `dvc repro`"
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[cache/manifest/toy, cache/splits/toy, src", "[cache/manifest/toy, src",
         "dependency `cache/splits/toy` is in dvc.lock and not in dvc.yaml"),
        ("deps: [src/manifest.py]", "deps: [src/manifest.py, src/model.py]",
         "dependency `src/model.py` is in dvc.yaml and not in dvc.lock"),
        ("        - params/trainer.yaml:\n      outs", "        - params/trainer.yaml: [rate]\n      outs",
         "parameter `params/trainer.yaml: length` is in dvc.lock and not in dvc.yaml"),
        ("      params:\n        - params/trainer.yaml:\n      outs", "      outs",
         "parameter file `params/trainer.yaml` is in dvc.lock and not in dvc.yaml"),
        ("        - results/toy/${key}/supervised/per_class.csv: {cache: false}\n", "",
         "output `results/toy/ez_clip/supervised/per_class.csv` is in dvc.lock and not in dvc.yaml"),
    ],
)  # fmt: skip
def test_undeclared(folder: Path, old: str, new: str, said: str) -> None:
    import yaml

    def all_of_it() -> list[str]:
        entries = yaml.safe_load((folder / "dvc.lock").read_text("utf-8"))["stages"]
        with chdir(folder), Repo() as repo:
            stages = list(repo.index.stages)
            return [text for s in stages for text in undeclared(s, entries[s.addressing])]

    assert all_of_it() == []
    _edit(folder / "dvc.yaml", old, new)
    assert said in all_of_it()


@pytest.mark.parametrize("where", ["cache", "remote"])
def test_other_bytes_under_the_same_md5(folder: Path, where: str) -> None:
    """Predictions and metrics are made up; dvc.lock and the name in a store stay those of the real ones."""
    lock = (folder / "dvc.lock").read_text("utf-8")
    match = re.search(rf"path: {PREDICTIONS}\n +hash: md5\n +md5: (\w+)", lock)
    assert match
    md5 = match[1]
    project.write_result(folder, "ez_clip", range(60), 60)
    forged = (folder / PREDICTIONS).read_bytes()
    kept = Path(".dvc/cache/files/md5") / md5[:2] / md5[2:]
    if where == "remote":
        run("dvc", "remote", "add", "store", "../.dvcstore", folder=folder / ".dvc")
        store = folder / ".dvcstore/files/md5" / md5[:2] / md5[2:]
        store.parent.mkdir(parents=True)
        store.write_bytes(forged)
        (folder / kept).unlink()
    else:
        (folder / kept).chmod(0o644)
        (folder / kept).write_bytes(forged)
        (folder / kept).chmod(0o444)  # DVC takes what is read-only for what it is called
    (folder / PREDICTIONS).unlink()
    found = build_review("HEAD", remotes=True, root=folder, draw=False)
    assert (found.recomputed.done, found.recomputed.without) == (0, 1)
    assert any("damaged" in one and md5 in one for one in found.store_problems)
    assert f"it has as {md5} is not that" in review_markdown(found)


def test_names_in_a_store_are_md5s(folder: Path) -> None:
    from vidprompt.provenance.dvc_project import DvcProject

    (folder / ".dvc/cache/files/beside").write_text("no object of DVC's")
    with DvcProject(Revision(folder)) as dvc:
        assert dvc.find("..beside") is None


def _listed(content: Any) -> None:
    test = content["splits"]["supervised_split1"]["tests"]["test"]
    for entry in (content, test):
        entry |= {"listed": 120, "coverage": 0.5}


def _list_id(content: Any) -> None:
    content["splits"]["supervised_split1"]["id"] = "supervised/toy@split2"


def _of_another(content: Any) -> None:
    content["method"] = "vita_clip"


def _healthy(content: Any) -> None:
    content["classes"]["toy"]["jump"]["usable"] = 9


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (METRICS, _listed, "tests.test.listed` is 120 and should be 60: the split files say"),
        (METRICS, _list_id, ".id` is supervised/toy@split2 and should be supervised/toy@split1"),
        (METRICS, _of_another, "`method` is vita_clip and should be ez_clip"),
        ("results/toy/health.json", _healthy,
         "`classes.toy.jump.usable` is 9 and should be 10: the manifest says otherwise"),
    ],
)  # fmt: skip
def test_forged_with_the_lock(
    folder: Path, file: str, change: Callable[[Any], None], said: str
) -> None:
    _json(folder / file, change)
    project.record(folder)
    findings = _found(folder).findings
    assert [f.subject for f in findings] == [file]
    assert said in findings[0].sentence


def test_forged_tables(folder: Path) -> None:
    forged = {"confusion.csv": "sit", "per_class.csv": "1.0", "reliability.csv": "0.99"}
    paths = {folder / RESULT / name: last for name, last in forged.items()}
    before = {path: path.read_text("utf-8").splitlines(keepends=True) for path in paths}
    for path, lines in before.items():  # another order is the same table
        path.write_text("".join([lines[0], *reversed(lines[1:])]))
    project.record(folder)
    assert _said(folder) == ""
    for change in (
        lambda lines, last: [*lines[:-1], f"{lines[-1].rpartition(',')[0]},{last}\n"],
        lambda lines, _last: lines[:-1],
        lambda _lines, _last: ["a\n", "b\n"],
    ):
        for path, last in paths.items():
            path.write_text("".join(change(before[path], last)))
        project.record(folder)
        findings = _found(folder).findings
        assert [f.subject for f in findings] == [f"{RESULT}/{name}" for name in sorted(forged)]
        assert all("it is not the table that follows" in f.sentence for f in findings)


def test_forged_retrieval() -> None:
    import pandas as pd

    rows = {"protocol": "general", "rank": [0, 0, 3], "average_precision": 1.0, "label": "a"}
    curve = recompute_tables(pd.DataFrame(rows))["cmc.csv"]
    assert list(curve["value"][:4]) == pytest.approx([2 / 3, 2 / 3, 2 / 3, 1])
    assert has_same_rows(curve, curve.head(7).round(6))  # a gallery of seven
    assert not has_same_rows(curve, curve.head(2))
    better = curve.copy()
    better.loc[0, "value"] = 1.0
    assert not has_same_rows(curve, better)
    counts = {"n": 5, "listed": 6, "coverage": 0.833333}
    metrics: dict[str, Any] = {"dataset": "toy", "protocol": "reid", **counts}
    metrics["splits"] = {"reid": {"tests": {"query": counts}}}
    metrics["summary"] = {"general": {"n": 3, "skipped": 2}}
    result = parse_result(complete(metrics))
    assert list_differences(result, ("toy", "ez_clip", "reid"), None) == []
    metrics["summary"]["general"]["skipped"] = 0
    result = parse_result(complete(metrics))
    (said,) = list_differences(result, ("toy", "ez_clip", "reid"), None)
    assert "`summary.general.skipped` is 0 and should be 2" in said


def test_text_of_a_pull_request_stays_text(folder: Path, tmp_path: Path) -> None:
    evil = "x` <script>alert(1)</script>\n::error::y <img src=x onerror=alert(1)> `"

    def change(content: Any) -> None:
        content["summary"][evil] = {"top1": {"value": 0.5}}
        content["summary"]["supervised"]["top1"]["value"] = evil + "z" * 100_000

    _json(folder / METRICS, change)
    project.record(folder)
    found = _found(folder)
    assert any("<script>" in finding.sentence for finding in found.findings)
    assert all(len(f.sentence) <= 600 and f.sentence.isprintable() for f in found.findings)
    write_review(found, tmp_path / "out")
    page = (tmp_path / "out/review.html").read_text("utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert "default-src 'none'" in page
    for name in ("review.md", "summary.md"):
        text = (tmp_path / "out" / name).read_text("utf-8")
        assert len(text) < 20_000
        outside = re.sub(r"`[^`]*`", "", text)
        assert "<script" not in outside
        assert "<img" not in outside


def test_a_sentence_with_any_values() -> None:
    from markdown_it import MarkdownIt

    for value in ("<b>", "`<b>", "``<b>`", "\\`<b>", "a`<b>`c", "[x](y)<b>"):
        html = MarkdownIt("commonmark", {"html": True}).render(sentence(f"`{value}` is {value}"))
        assert "<b>" not in html
        assert "href" not in html


def test_many_findings_are_counted(folder: Path) -> None:
    for i in range(70):
        out = folder / f"results/toy/m{i}/supervised/metrics.json"
        out.parent.mkdir(parents=True)
        out.write_text("{}")
    text = review_markdown(_found(folder))
    assert "- and 90 more" in text  # each has no stage, and no form


def test_a_summary_that_github_takes() -> None:
    from vidprompt.review.output import shorten

    text = "ä" * 100 + "\n"
    assert shorten(text) == text
    long = shorten(text * 10_000)
    assert len(long.encode()) < 1_048_576
    assert set(long.splitlines()[:-2]) == {"ä" * 100}


def test_no_metrics_at_all(folder: Path) -> None:
    for content in ("{", '{"summary": {}, "splits": null}', '{"summary": {}, "splits": {"a": 1}}'):
        (folder / METRICS).write_text(content)
        assert f"{METRICS}: it is not a valid result" in _said(folder)
    (folder / "README.md").write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    for protocol, content in (("supervised", '{"summary": {}}'), ("zero_shot", "{")):
        path = folder / f"results/demo/ez_clip/{protocol}/metrics.json"
        path.parent.mkdir(parents=True)
        path.write_text(content)
    assert "README.md: its table cannot be compared" in _said(folder)
    wrong = (
        {"summary": 1},
        {"summary": {"a": 5}},
        {"summary": {}, "splits": {"a": {"tests": None}}},
        {"summary": {}, "splits": {"a": {"tests": {"t": 1}}}},
    )
    for content in wrong:
        with pytest.raises(DataError):
            parse_result(complete({}) | content)


def test_numbers_that_are_none(folder: Path) -> None:
    def change(content: Any) -> None:
        content["summary"]["supervised"]["top1"] |= {"value": 0.5, "ci95": ["a", 1], "std": "b"}
        content["splits"]["supervised_split1"]["tests"]["test"]["listed"] = "many"

    _json(folder / METRICS, change)
    (folder / "results/toy/cost.json").write_text('{"train": {"seconds": "x"}}')
    (folder / RESULT / "per_class.csv").write_text("split,test,class,n,top1\na,b,c,d,e\n")
    said = _said(folder)
    assert "results/toy/cost.json: it cannot be read (seconds is no number)" in said
    assert METRICS in said
    lock = (folder / "dvc.lock").read_text("utf-8")
    for broken in (f"<<<<<<< a\n{lock}", "stages: {a: 1}", "stages: {a: {cmd: x, outs: [1]}}"):
        (folder / "dvc.lock").write_text(broken)
        assert "DVC cannot read them" in _said(folder)


def test_where_a_report_goes(folder: Path, tmp_path: Path) -> None:
    out = folder / "report"
    found = build_review("HEAD", root=folder, out=out)
    first = write_review(found, out).read_bytes()
    assert "uncommitted" not in first.decode()
    again = build_review("HEAD", root=folder, out=out)
    assert write_review(again, out).read_bytes() == first
    assert build_review(
        "HEAD", root=folder, draw=False
    ).head.changed  # to another folder: it lies there
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"has files and no \.review\.json"):
        write_review(found, docs)
    assert [path.name for path in docs.iterdir()] == ["a.png"]
    with pytest.raises(UserError, match="cannot be written"):
        write_review(found, folder / "dvc.yaml")


def test_not_all_could_be_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = review_markdown(_found(folder))
    assert text.splitlines()[5].startswith(
        "**✔ The results follow from code and params**: 3 stages"
    )
    shutil.rmtree(folder / ".dvc/cache")
    shutil.rmtree(folder / "cache")
    lines = review_markdown(_found(folder)).splitlines()
    assert "✔" not in lines[5]
    assert "not everything could be checked" in lines[5]
    assert "Not checked: 1 result (no predictions available), lists and health of toy (" in lines[5]
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["review", "HEAD", "--no-pictures", "--out", "cache/r"])
    assert done.exit_code == 0
    assert "not checked: 1 result (no predictions available)\n" in done.stdout


def test_broken_videos_that_are_not_named() -> None:
    def health(ids: str, unlisted: int) -> dict[str, Any]:
        broken = [{"video_id": one, "health": "empty"} for one in ids]
        return {"broken": broken, "unlisted": unlisted, "videos": 99, "usable": 90}

    whole = compare_health(health("abc", 0), health("acd", 0))
    assert (whole.broken, whole.mended, whole.known_up_to) == (("d",), ("b",), None)
    # a is newly broken: it takes the place of d, which is still broken
    cut = compare_health(health("bcd", 2), health("abc", 3))
    assert (cut.broken, cut.mended, cut.known_up_to) == (("a",), (), "c")
    old = compare_health({"broken": [{"video_id": "b"}], "videos": 9, "usable": 3}, health("a", 0))
    assert (old.mended, old.known_up_to) == (("b",), "b")


def test_a_finding_is_one_line() -> None:
    found = Finding("a\nb", "c\x1b[31m\nd")
    assert (found.subject, found.sentence) == ("a b", "c [31m d")
