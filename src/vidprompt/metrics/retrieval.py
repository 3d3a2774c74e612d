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

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vidprompt.metrics.scores import unit_vectors
from vidprompt.system.errors import DataError

PROTOCOLS: tuple[str, ...] = ("general", "clothes-changing", "same-clothes")
PAIRS = 16_000_000  # compared at a time: 128 MB of cosines, then 64 MB of distances and as much of masks
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class RetrievalSet:
    """Person, camera and clothes of each tracklet: three integer arrays of one length."""

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
    """Metrics in [0, 1], and the values of the N evaluated queries that they are means of."""

    cmc: dict[int, float]  # k → share of queries with a positive among the first k; nan if N = 0
    mean_ap: float  # nan if N = 0
    skipped: int  # queries without a positive
    query: Array  # (N,) int64, row of the query, ascending
    person: Array  # (N,) its person: what a bootstrap draws
    first_rank: Array  # (N,) int64, rank of its first positive, from 0
    average_precision: Array  # (N,) float64
    ranking: Array  # (N,) int64, gallery entries left after the removal

    @property
    def evaluated(self) -> int:
        """N, the queries with a positive."""
        return len(self.query)


@dataclass(frozen=True)
class _Block:
    """Some queries against the whole gallery: arrays (rows, G) in gallery order."""

    start: int
    distance: Array  # float32, minus the cosine similarity; inf where removed
    kept: Array  # bool, not removed
    same: Array  # bool, of the query's person

    def ranks(self) -> tuple[Array, Array]:
        """Row and rank (from 0, among the kept) of every positive, by row and rank.

        Only the positives need a rank: the number of smaller distances, and of equal ones earlier in the
        gallery. So the distances are sorted without their indices, which is faster.
        """
        row, column = np.nonzero(self.same & self.kept)
        rank = np.empty(len(row), np.int64)
        for r, part in _runs(row):
            line = self.distance[r]
            ordered = np.sort(line)
            value = line[column[part]]
            low = np.searchsorted(ordered, value)
            high = np.searchsorted(ordered, value, side="right")
            for i in np.flatnonzero(high - low > 1):
                low[i] += np.count_nonzero(line[: column[part][i]] == value[i])
            rank[part] = np.sort(low)
        return row, rank


def _runs(row: Array) -> Iterator[tuple[int, slice]]:
    """Each value of an ascending array, and the slice of its elements."""
    bounds = np.flatnonzero(np.diff(row, prepend=-1, append=-1))
    for start, end in itertools.pairwise(bounds):
        yield int(row[start]), slice(int(start), int(end))


def evaluate_retrieval(
    query_features: Array,
    gallery_features: Array,
    query: RetrievalSet,
    gallery: RetrievalSet,
    protocol: str,
    ranks: tuple[int, ...] = (1, 5, 10),
    chunk: int | None = None,
) -> RetrievalResult:
    """CMC and mAP of (Q, E) query features against (G, E) gallery features.

    Features need not be normalised. `chunk` queries are compared at a time, in O(chunk · G) memory;
    as many as fit in about 250 MB unless given. The same on every processor (see `metrics.scores`).
    """
    if not ranks or min(ranks) < 1:
        raise ValueError(f"ranks count from 1, got {ranks}")
    # an empty block first, so that no queries at all gives empty columns and not an error
    empty = np.zeros(0, np.int64)
    columns: list[tuple[Array, ...]] = [(empty, empty, np.zeros(0), empty)]
    for block in _blocks(query_features, gallery_features, query, gallery, protocol, chunk):
        row, rank = block.ranks()
        rows, begins, count = np.unique(row, return_index=True, return_counts=True)
        nth = np.arange(len(row)) - np.repeat(begins, count) + 1
        total = np.bincount(row, nth / (rank + 1), len(block.kept))[rows]
        ranking = block.kept[rows].sum(1)
        columns.append((rows + block.start, rank[begins], total / count, ranking))
    row, first, ap, ranking = (np.concatenate(c) for c in zip(*columns, strict=True))
    return RetrievalResult(
        cmc={k: float((first < k).mean()) if len(row) else float("nan") for k in ranks},
        mean_ap=float(ap.mean()) if len(row) else float("nan"),
        skipped=len(query) - len(row),
        query=row,
        person=query.person[row],
        first_rank=first,
        average_precision=ap,
        ranking=ranking,
    )


def ranked_gallery(
    query_features: Array,
    gallery_features: Array,
    query: RetrievalSet,
    gallery: RetrievalSet,
    protocol: str,
    top: int = 10,
    chunk: int | None = None,
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
        for row, line in enumerate(block.distance):
            n = min(top, int(block.kept[row].sum()))
            if not n:
                continue
            limit = np.partition(line, n - 1)[n - 1]
            nearest = np.flatnonzero(line <= limit)  # more than n with ties at the limit
            chosen = nearest[np.argsort(line[nearest], kind="stable")[:n]]
            best[block.start + row, :n] = chosen
            score[block.start + row, :n] = -line[chosen]
    return best, score


def removed(query: RetrievalSet, gallery: RetrievalSet, protocol: str) -> Array:
    """(Q, G) bool: gallery entries that a protocol removes from a query's ranking (the rules above)."""
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
    """Unit vectors (rows, E), checked. Raises DataError for features that are not finite."""
    features = np.asarray(features)
    if features.ndim != 2 or len(features) != rows:
        raise ValueError(f"{name} features are {features.shape}, expected ({rows}, E)")
    if not np.isfinite(features).all():
        bad = int(np.flatnonzero(~np.isfinite(features).all(1))[0])
        raise DataError(f"The {name} features hold nan or inf, first in row {bad}.")
    return unit_vectors(features)


def _blocks(
    query_features: Array,
    gallery_features: Array,
    query: RetrievalSet,
    gallery: RetrievalSet,
    protocol: str,
    chunk: int | None,
) -> Iterator[_Block]:
    """Blocks of `chunk` queries; raises ValueError and DataError for wrong arguments."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; there are {', '.join(PROTOCOLS)}")
    if not len(gallery):
        raise DataError("The gallery is empty: nothing can be ranked.")
    chunk = max(1, PAIRS // len(gallery)) if chunk is None else chunk
    if chunk < 1:
        raise ValueError(f"chunk counts from 1, got {chunk}")
    left = _unit(query_features, len(query), "query")
    right = _unit(gallery_features, len(gallery), "gallery")
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"query features are {left.shape}, gallery features {right.shape}")
    for start in range(0, len(query), chunk):
        rows = slice(start, start + chunk)
        part = RetrievalSet(query.person[rows], query.camera[rows], query.clothes[rows])
        distance = -(left[rows] @ right.T).astype(np.float32)
        junk = removed(part, gallery, protocol)
        distance[junk] = np.inf
        same = part.person[:, None] == gallery.person
        yield _Block(start, distance, ~junk, same)
