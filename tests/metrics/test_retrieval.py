"""Retrieval metrics against the specification, written as plain loops, and by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vidprompt.metrics.retrieval import (
    PROTOCOLS,
    Array,
    RetrievalSet,
    evaluate_retrieval,
    ranked_gallery,
)
from vidprompt.system.errors import DataError


def tracklets(rng: np.random.Generator, count: int, people: int = 5) -> RetrievalSet:
    return RetrievalSet(
        rng.integers(0, people, count), rng.integers(1, 5, count), rng.integers(0, 3, count)
    )


def spread(rng: np.random.Generator, count: int) -> Array:
    """Random directions: no ties."""
    return rng.normal(size=(count, 16)).astype(np.float32)


def tied(rng: np.random.Generator, count: int) -> Array:
    """Signs of a half in four dimensions: unit length, cosines exact in any order of summing."""
    return rng.choice([-0.5, 0.5], size=(count, 4)).astype(np.float32)


def naive(
    qf: Array, gf: Array, query: RetrievalSet, gallery: RetrievalSet, protocol: str
) -> tuple[dict[int, float], dict[int, int], dict[int, list[int]]]:
    """AP and first rank of every query with a positive, and every query's ranking, by the rules."""
    ap, first, rankings = {}, {}, {}
    for q in range(len(query)):
        left = qf[q].astype(np.float64)
        cosine = [
            float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))
            for right in gf.astype(np.float64)
        ]
        ranking, positives = [], set()
        for g in sorted(range(len(gallery)), key=lambda g: (-round(cosine[g], 9), g)):
            same_camera = gallery.camera[g] == query.camera[q]
            same_clothes = gallery.clothes[g] == query.clothes[q]
            if gallery.person[g] == query.person[q]:
                if protocol == "general":
                    positive, junk = not same_camera, same_camera
                elif protocol == "clothes-changing":
                    positive = not same_camera and not same_clothes
                    junk = same_camera or same_clothes
                else:
                    positive = not same_camera and same_clothes
                    junk = same_camera or not same_clothes
                if junk:
                    continue
                if positive:
                    positives.add(g)
            ranking.append(g)
        rankings[q] = ranking
        ranks = [r for r, g in enumerate(ranking) if g in positives]
        if ranks:
            ap[q] = sum((i + 1) / (rank + 1) for i, rank in enumerate(ranks)) / len(ranks)
            first[q] = ranks[0]
    return ap, first, rankings


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("features", [spread, tied])
@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_rules_written_as_loops(
    protocol: str, features: Callable[[np.random.Generator, int], Array], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    query, gallery = tracklets(rng, 23), tracklets(rng, 31)
    qf, gf = features(rng, 23), features(rng, 31)
    ap, first, rankings = naive(qf, gf, query, gallery, protocol)
    result = evaluate_retrieval(qf, gf, query, gallery, protocol, chunk=7)
    assert result.query.tolist() == list(ap)
    assert result.evaluated == len(ap)
    assert result.evaluated + result.skipped == 23
    np.testing.assert_allclose(result.average_precision, list(ap.values()), rtol=1e-12)
    assert result.first_rank.tolist() == list(first.values())
    assert result.mean_ap == pytest.approx(np.mean(list(ap.values())))
    for k in (1, 5, 10):
        assert result.cmc[k] == pytest.approx(np.mean([r < k for r in first.values()]))
    assert result.person.tolist() == query.person[list(ap)].tolist()
    assert result.ranking.tolist() == [len(rankings[q]) for q in ap]

    best, score = ranked_gallery(qf, gf, query, gallery, protocol, top=4, chunk=5)
    assert [[g for g in row if g >= 0] for row in best.tolist()] == [
        rankings[q][:4] for q in range(23)
    ]
    assert np.isnan(score[best < 0]).all()
    assert not np.isnan(score[best >= 0]).any()


@pytest.mark.parametrize("size", [5, 31, 64, 257])
@pytest.mark.parametrize("width", [3, 31, 512])
def test_equal_features_tie_wherever_they_stand(size: int, width: int) -> None:
    """Equal gallery entries have one score and come in gallery order, at any place and size."""
    rng = np.random.default_rng(size * width)
    query, gallery = tracklets(rng, 7), tracklets(rng, size)
    qf, gf = rng.normal(size=(7, width)), rng.normal(size=(size, width))
    places = np.sort(rng.choice(size, 4, replace=False))
    gf[places] = qf[0] + 0.01 * rng.normal(size=width)
    query = RetrievalSet(query.person + 100, query.camera, query.clothes)  # nothing is removed
    best, score = ranked_gallery(qf, gf, query, gallery, "general", top=4)
    assert best[0].tolist() == places.tolist()
    assert len(set(score[0].tolist())) == 1


@pytest.mark.parametrize("chunk", [1, 2, 40, 1000])
def test_the_chunk_changes_nothing(chunk: int) -> None:
    rng = np.random.default_rng(3)
    query, gallery, qf, gf = tracklets(rng, 40), tracklets(rng, 60), tied(rng, 40), tied(rng, 60)
    one = evaluate_retrieval(qf, gf, query, gallery, "general", chunk=chunk)
    other = evaluate_retrieval(qf, gf, query, gallery, "general", chunk=17)
    assert one.average_precision.tolist() == other.average_precision.tolist()
    assert (one.cmc, one.skipped) == (other.cmc, other.skipped)


def line_up() -> tuple[Array, Array, RetrievalSet, RetrievalSet]:
    """One query (person 1, camera 1, clothes 0) and six gallery entries, best first."""
    gallery = RetrievalSet(
        person=np.array([1, 2, 1, 1, 3, 1]),
        camera=np.array([1, 1, 2, 3, 2, 1]),
        clothes=np.array([0, 0, 0, 1, 1, 1]),
    )
    query = RetrievalSet(np.array([1]), np.array([1]), np.array([0]))
    angle = np.linspace(0.1, 1.2, 6)
    return np.array([[2.0, 0.0]]), np.stack([np.cos(angle), np.sin(angle)], 1), query, gallery


@pytest.mark.parametrize(
    ("protocol", "ranking", "first", "ap"),
    [
        # rows 0 and 5 share the camera; left 1 2 3 4 with positives 2 and 3 at ranks 1 and 2
        ("general", [1, 2, 3, 4], 1, (1 / 2 + 2 / 3) / 2),
        # row 2 wears the same; left 1 3 4 with the positive 3
        ("clothes-changing", [1, 3, 4], 1, 1 / 2),
        # row 3 wears other clothes; left 1 2 4 with the positive 2
        ("same-clothes", [1, 2, 4], 1, 1 / 2),
    ],
)
def test_by_hand(protocol: str, ranking: list[int], first: int, ap: float) -> None:
    result = evaluate_retrieval(*line_up(), protocol, ranks=(1, 2))
    assert result.first_rank.tolist() == [first]
    assert result.cmc == {1: 0.0, 2: 1.0}
    assert result.mean_ap == pytest.approx(ap)
    best, score = ranked_gallery(*line_up(), protocol, top=6)
    assert best[0].tolist() == ranking + [-1] * (6 - len(ranking))
    assert score.dtype == np.float32
    assert np.all(np.diff(score[0, : len(ranking)]) < 0)


def test_other_peoples_cameras_and_clothes_are_never_junk() -> None:
    gallery = RetrievalSet(np.array([2, 1]), np.array([1, 2]), np.array([0, 1]))
    query = RetrievalSet(np.array([1]), np.array([1]), np.array([0]))
    features = np.array([[1.0, 0.0], [0.0, 1.0]])
    result = evaluate_retrieval(features[:1], features, query, gallery, "clothes-changing")
    assert result.first_rank.tolist() == [1]
    assert result.ranking.tolist() == [2]


def test_queries_without_a_positive_are_skipped_not_failed() -> None:
    gallery = RetrievalSet(np.array([1, 2]), np.array([2, 2]), np.array([0, 0]))
    query = RetrievalSet(np.array([9, 1, 2]), np.array([1, 1, 2]), np.array([0, 0, 0]))
    features = np.eye(3)
    result = evaluate_retrieval(features[[2, 0, 1]], features[:2], query, gallery, "general")
    assert (result.evaluated, result.skipped) == (1, 2)
    assert result.query.tolist() == [1]
    assert (result.cmc[1], result.mean_ap) == (1.0, 1.0)
    nobody = evaluate_retrieval(
        features[[2, 0, 1]], features[:2], query, gallery, "clothes-changing"
    )
    assert (nobody.evaluated, nobody.skipped) == (0, 3)
    assert np.isnan(nobody.mean_ap)
    assert np.isnan(list(nobody.cmc.values())).all()


def test_no_queries_at_all() -> None:
    none = RetrievalSet(*(np.zeros(0, int),) * 3)
    gallery = tracklets(np.random.default_rng(0), 3)
    result = evaluate_retrieval(np.zeros((0, 4)), np.ones((3, 4)), none, gallery, "general")
    assert (result.evaluated, result.skipped, set(result.cmc)) == (0, 0, {1, 5, 10})


def test_lengths_do_not_matter() -> None:
    """Cosine: vectors of very different lengths, also where their squares leave float32."""
    rng = np.random.default_rng(1)
    query, gallery, qf, gf = tracklets(rng, 9), tracklets(rng, 20), spread(rng, 9), spread(rng, 20)
    plain = evaluate_retrieval(qf, gf, query, gallery, "general")
    factor = np.float32(10.0) ** rng.integers(-25, 25, (20, 1)).astype(np.float32)
    scaled = evaluate_retrieval(qf, gf * factor, query, gallery, "general")
    np.testing.assert_allclose(plain.average_precision, scaled.average_precision)


def test_what_cannot_be_ranked_is_refused() -> None:
    rng = np.random.default_rng(0)
    some = tracklets(rng, 4)
    good, bad = np.ones((4, 2)), np.ones((4, 2))
    bad[2, 1] = np.nan
    with pytest.raises(DataError, match="gallery features hold nan or inf, first in row 2"):
        evaluate_retrieval(good, bad, some, some, "general")
    with pytest.raises(DataError, match="gallery is empty"):
        evaluate_retrieval(good, good[:0], some, tracklets(rng, 0), "general")
    with pytest.raises(ValueError, match="clothes-changing"):
        evaluate_retrieval(good, good, some, some, "standard")
    with pytest.raises(ValueError, match="expected"):
        evaluate_retrieval(good[:3], good, some, some, "general")
    with pytest.raises(ValueError, match="differ in shape"):
        RetrievalSet(np.zeros(3, int), np.zeros(2, int), np.zeros(3, int))
