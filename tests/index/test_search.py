"""A search returns the rows that a comparison with every float32 feature does, in a fixed order."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_model import WIDTH, FakeModel, feature_of, write_videos

from vidprompt.index import Index, approximate, plan
from vidprompt.index.approximate import Approximate, write_approximate
from vidprompt.index.build import build_index
from vidprompt.index.encode import EncodeSettings
from vidprompt.index.scoring import best_rows, half_scores
from vidprompt.index.store import read_info
from vidprompt.system.errors import DataError, UserError

TEXTS = {f"{n:03}": f"content {n % 70}" for n in range(100)}  # 30 files are copies


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    videos = write_videos(folder / "videos", TEXTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD_VIDEOS", 20)
        build_index(FakeModel(), videos, folder / "index", settings=EncodeSettings(workers=0))
    return folder / "index"


def test_hits_are_those_of_every_feature_and_equal_ones_are_in_the_order_of_paths(
    index: Path,
) -> None:
    scores = {name: float(feature_of(text) @ feature_of("a query")) for name, text in TEXTS.items()}
    expected = sorted(scores, key=lambda name: (-round(scores[name], 6), name))
    results = Index(index, FakeModel()).search("a query", top=30)
    assert [hit.video for hit in results] == [f"{name}.mp4" for name in expected[:30]]
    best = sorted(scores.values())[:-31:-1]
    np.testing.assert_allclose([hit.score for hit in results], best, atol=1e-6)
    assert [hit.rank for hit in results] == list(range(1, 31))
    assert results[0].path == (index.parent / "videos" / results[0].video).resolve()


def test_searches_by_videos_and_without_texts(index: Path) -> None:
    opened = Index(index, FakeModel())
    like = opened.search(like=index.parent / "videos/005.mp4", top=2)
    assert [(hit.video, round(hit.score, 5)) for hit in like] == [("005.mp4", 1), ("075.mp4", 1)]
    both = opened.search(["content 5", "content 6"], top=4)
    assert {hit.video for hit in both} == {"005.mp4", "006.mp4", "075.mp4", "076.mp4"}
    less = opened.search(["content 5", "content 6"], without="content 6", top=100)
    ranks = {hit.video: hit.rank for hit in less}
    assert ranks["005.mp4"] < 5
    assert ranks["006.mp4"] > 95


def test_results_as_tables(index: Path) -> None:
    results = Index(index, FakeModel()).search("a query", top=3)
    table = results.to_pandas()
    assert list(table.columns) == ["rank", "video", "start", "end", "score", "path"]
    assert table["video"].tolist() == [hit["video"] for hit in results.to_dict()["hits"]]
    assert len(results[1:]) == 2
    assert len(Index(index, FakeModel()).search("a query", top=1000)) == len(TEXTS)


def test_what_cannot_be_searched(index: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model fake \(fake-identity\), and other \(x\)"):
        Index(index, FakeModel("other", "x"))
    opened = Index(index, FakeModel())
    with pytest.raises(UserError, match="give a text to search for"):
        opened.search()
    with pytest.raises(UserError, match="no direction"):
        opened.search("a", without="a")
    with pytest.raises(UserError, match=f"has 3 numbers, and the index {WIDTH}"):
        opened.search_feature(np.ones(3))
    with pytest.raises(UserError, match="top=0"):
        opened.search("a", top=0)
    with pytest.raises(DataError, match="is no index: run `vidprompt embed"):
        Index(tmp_path)


def test_windows_that_overlap_a_better_one_are_left_out(tmp_path: Path) -> None:
    videos = write_videos(tmp_path / "videos", {"a": "x x x y y", "b": "x z"})
    build_index(
        FakeModel(),
        videos,
        tmp_path / "index",
        window=2,
        stride=1,
        settings=EncodeSettings(workers=0),
    )
    opened = Index(tmp_path / "index", FakeModel())
    found = [(hit.video, hit.start) for hit in opened.search("x", top=3)]
    assert found == [("a.mp4", 0), ("a.mp4", 2), ("b.mp4", 0)]
    found = [(h.video, h.start) for h in opened.search("x", top=4, overlapping=True)]
    assert found == [("a.mp4", 0), ("a.mp4", 1), ("a.mp4", 2), ("b.mp4", 0)]


def test_an_open_index_goes_on_when_embed_replaces_its_files(tmp_path: Path) -> None:
    videos = write_videos(tmp_path / "videos", {"a": "one", "b": "two"})
    settings = EncodeSettings(workers=0)
    build_index(FakeModel(), videos, tmp_path / "index", settings=settings)
    opened = Index(tmp_path / "index", FakeModel())
    write_videos(videos, {"c": "three"})
    build_index(FakeModel(), videos, tmp_path / "index", settings=settings)
    assert opened.search("three", top=1)[0].video == "c.mp4"


def test_an_index_of_failed_videos_alone_has_no_hits(tmp_path: Path) -> None:
    videos = write_videos(tmp_path / "videos", {"a": "broken"})
    build_index(FakeModel(), videos, tmp_path / "index", settings=EncodeSettings(workers=0))
    assert read_info(tmp_path / "index").failed == 1
    assert len(Index(tmp_path / "index", FakeModel()).search("x")) == 0


@pytest.mark.parametrize("spread", [1.0, 0.05, 0.0])
def test_the_best_rows_are_exact_where_float16_cannot_tell_them_apart(spread: float) -> None:
    rng = np.random.default_rng(0)
    centre = rng.standard_normal(64)
    rows = unit(centre + spread * rng.standard_normal((3000, 64)))
    query = unit(centre + 0.3 * rng.standard_normal(64))
    exact = rows.astype(np.float64) @ query
    half = rows.astype(np.float16)
    assert np.abs(half_scores(half, query) - exact).max() < 2**-9
    found = best_rows(half, query, 20, lambda numbers: rows[numbers])
    kept = np.sort(exact)[-20]
    assert sorted(found.rows) == np.flatnonzero(exact >= kept - 1e-12).tolist()


def test_the_approximate_index_finds_nearly_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((50, 16))
    rows = unit(centres[rng.integers(50, size=2000)] + 0.7 * rng.standard_normal((2000, 16)))
    write_approximate(tmp_path / "x.faiss", rows.astype(np.float16), limit=1000)
    opened = Approximate.open(tmp_path / "x.faiss")
    assert opened is not None
    queries = unit(centres[:20] + 0.7 * rng.standard_normal((20, 16)))
    recall = []
    for query in queries:
        best = np.argsort(-(rows @ query))[:10]
        recall.append(np.isin(best, opened.candidates(query, 10, at_least=200)).mean())
    assert np.mean(recall) >= 0.98


def test_a_large_index_without_faiss_is_searched_row_by_row(
    index: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(approximate, "LIMIT", 10)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with caplog.at_level(logging.WARNING):
        write_approximate(index / "search/x.faiss", np.ones((20, 4), np.float16), limit=10)
    assert "vidprompt[search]" in caplog.text
    assert not (index / "search/x.faiss").exists()
