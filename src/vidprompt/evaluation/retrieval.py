"""Ranking a gallery for every query: CMC, mAP and the junk rules of CCVID's three protocols.

Gallery entries are ordered by cosine similarity, highest first, equal ones in gallery order. Some
are removed from a query's ranking before anything is counted; of the rest, those of the query's
person are its positives. Removed are the gallery entries of the same person that

- `general`: come from the same camera;
- `clothes-changing`: come from the same camera or wear the same clothes;
- `same-clothes`: come from the same camera or wear other clothes.

With ranks from 0, CMC[k] is the share of queries whose first positive has rank < k, and a query's
AP is the mean over its positives i = 0, 1, … of (i + 1) / (rank_i + 1). A query without a positive
is skipped. Source: the CCVID evaluation of Gu et al., CVPR 2022 (Simple-CCReID).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vidprompt.errors import DataError

PROTOCOLS: tuple[str, ...] = ("general", "clothes-changing", "same-clothes")
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class RetrievalSet:
    """Who, where and in what: three integer arrays of one length, a row a tracklet."""

    person: Array
    camera: Array
    clothes: Array  # compared within one person only

    def __post_init__(self) -> None:
        shapes = {self.person.shape, self.camera.shape, self.clothes.shape}
        if len(shapes) != 1 or self.person.ndim != 1:
            raise ValueError(f"person, camera and clothes differ in shape: {sorted(shapes)}")

    def __len__(self) -> int:
        return len(self.person)


@dataclass(frozen=True)
class RetrievalResult:
    """Metrics in [0, 1] and what they are means of, a row an evaluated query (N of them)."""

    protocol: str
    ranks: tuple[int, ...]
    cmc: dict[int, float]  # k → share of queries with a positive among the first k; nan if N = 0
    mean_ap: float  # nan if N = 0
    evaluated: int  # N
    skipped: int  # queries without a positive
    query: Array  # (N,) int64, row of the query, ascending
    person: Array  # (N,) its person: what a bootstrap resamples
    first_rank: Array  # (N,) int64, rank of its first positive, from 0
    hits: Array  # (N, len(ranks)) bool, first_rank < k
    average_precision: Array  # (N,) float64
    positives: Array  # (N,) int64, number of its positives, at least 1
    ranking: Array  # (N,) int64, gallery entries left after the removal


@dataclass(frozen=True)
class _Block:
    """Rankings of some queries; all (rows, G) in ranked order."""

    start: int
    order: Array  # gallery rows
    similarity: Array  # float32
    kept: Array  # bool, not removed
    positive: Array  # bool, kept and of the query's person


def evaluate_retrieval(
    query_features: Array,
    gallery_features: Array,
    query: RetrievalSet,
    gallery: RetrievalSet,
    protocol: str,
    ranks: tuple[int, ...] = (1, 5, 10),
    chunk: int = 256,
) -> RetrievalResult:
    """CMC and mAP of (Q, E) query features against (G, E) gallery features.

    Features need not be normalised. `chunk` queries are ranked at a time, O(chunk · G) memory.
    """
    if not ranks or min(ranks) < 1:
        raise ValueError(f"ranks count from 1, got {ranks}")
    columns: list[tuple[Array, Array, Array, Array, Array]] = []
    for block in _blocks(query_features, gallery_features, query, gallery, protocol, chunk):
        count = block.positive.sum(1)
        rows = np.flatnonzero(count)
        positive, count = block.positive[rows], count[rows]
        place = block.kept[rows].cumsum(1)  # 1 for the best kept entry
        nth = positive.cumsum(1)
        precision = np.divide(nth, place, out=np.zeros(nth.shape), where=positive)
        first = np.take_along_axis(place, positive.argmax(1)[:, None], 1)[:, 0] - 1
        ranking = place[:, -1]
        columns.append((rows + block.start, first, precision.sum(1) / count, count, ranking))
    # an empty block first, so that no queries at all gives empty columns and not an error
    empty = np.zeros(0, np.int64)
    columns.insert(0, (empty, empty, np.zeros(0), empty, empty))
    row, first, ap, count, ranking = (np.concatenate(c) for c in zip(*columns, strict=True))
    hits = first[:, None] < np.array(ranks)
    share = hits.mean(0) if len(row) else np.full(len(ranks), np.nan)
    return RetrievalResult(
        protocol=protocol,
        ranks=tuple(ranks),
        cmc={k: float(s) for k, s in zip(ranks, share, strict=True)},
        mean_ap=float(ap.mean()) if len(row) else float("nan"),
        evaluated=len(row),
        skipped=len(query) - len(row),
        query=row,
        person=query.person[row],
        first_rank=first,
        hits=hits,
        average_precision=ap,
        positives=count,
        ranking=ranking,
    )


def ranked_gallery(
    query_features: Array,
    gallery_features: Array,
    query: RetrievalSet,
    gallery: RetrievalSet,
    protocol: str,
    top: int = 10,
    chunk: int = 256,
) -> tuple[Array, Array]:
    """The best `top` gallery rows of every query after the removal, skipped queries too.

    Returns rows (Q, top) int64, -1 where a ranking is shorter, and similarities (Q, top) float32,
    nan there.
    """
    if top < 1:
        raise ValueError(f"top counts from 1, got {top}")
    best = np.full((len(query), top), -1, np.int64)
    score = np.full((len(query), top), np.nan, np.float32)
    for block in _blocks(query_features, gallery_features, query, gallery, protocol, chunk):
        place = block.kept.cumsum(1) - 1
        row, column = np.nonzero(block.kept & (place < top))
        target = block.start + row, place[row, column]
        best[target] = block.order[row, column]
        score[target] = block.similarity[row, column]
    return best, score


def removed(query: RetrievalSet, gallery: RetrievalSet, protocol: str) -> Array:
    """(Q, G) bool: what does not enter the rankings under a protocol (the rules above)."""
    person = query.person[:, None] == gallery.person
    camera = query.camera[:, None] == gallery.camera
    clothes = query.clothes[:, None] == gallery.clothes
    if protocol == "general":
        return person & camera
    if protocol == "clothes-changing":
        return person & (camera | clothes)
    if protocol == "same-clothes":
        return person & (camera | ~clothes)
    raise ValueError(f"unknown protocol {protocol!r}; there are {', '.join(PROTOCOLS)}")


def _unit(features: Array, rows: int, name: str) -> Array:
    """Rows divided by their length, (rows, E) float32; a zero row stays zero."""
    features = np.asarray(features)
    if features.ndim != 2 or len(features) != rows:
        raise ValueError(f"{name} features are {features.shape}, expected ({rows}, E)")
    if not np.isfinite(features).all():
        bad = int(np.flatnonzero(~np.isfinite(features).all(1))[0])
        raise DataError(f"The {name} features hold nan or inf, first in row {bad}.")
    # divide by the largest entry first: squares of large or small float32 leave their range
    features = features.astype(np.float32)
    tiny = np.finfo(np.float32).tiny
    features /= np.abs(features).max(1, keepdims=True, initial=tiny)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit: Array = features / np.maximum(length, tiny)
    return unit


def _blocks(
    query_features: Array,
    gallery_features: Array,
    query: RetrievalSet,
    gallery: RetrievalSet,
    protocol: str,
    chunk: int,
) -> Iterator[_Block]:
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; there are {', '.join(PROTOCOLS)}")
    if chunk < 1:
        raise ValueError(f"chunk counts from 1, got {chunk}")
    if not len(gallery):
        raise DataError("The gallery is empty: nothing can be ranked.")
    left = _unit(query_features, len(query), "query")
    right = _unit(gallery_features, len(gallery), "gallery")
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"query features are {left.shape}, gallery features {right.shape}")
    for start in range(0, len(query), chunk):
        rows = slice(start, start + chunk)
        part = RetrievalSet(query.person[rows], query.camera[rows], query.clothes[rows])
        similarity = left[rows] @ right.T
        order = np.argsort(-similarity, axis=1, kind="stable")
        same = np.take_along_axis(part.person[:, None] == gallery.person, order, 1)
        kept = ~np.take_along_axis(removed(part, gallery, protocol), order, 1)
        ranked = np.take_along_axis(similarity, order, 1)
        yield _Block(start, order, ranked, kept, same & kept)
