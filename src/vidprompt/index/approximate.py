"""The approximate index of a large matrix: faiss finds candidates, which are scored exactly afterwards.

Every pair of numbers is kept in 4 bits (product quantisation), and a query is compared with all rows in this
form, which is tens of times faster than with the rows themselves. Indexes that look at a part of the rows
(clusters, graphs) miss many of the best rows of a text, because texts lie apart from all videos:
docs/search.md has the measurements.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprompt.files.atomic import replacing
from vidprompt.index.store import SEARCH

logger = logging.getLogger(__name__)

LIMIT = 1_000_000  # rows up to which every row itself is compared
CANDIDATES = 1000  # rows that are scored exactly; more where many hits are wanted
_BITS = 4
_TRAINED = 16_384  # rows that the quantisation is computed from
_BLOCK = 1 << 16  # rows added at once
INSTALL = "pip install 'vidprompt[search]'"


def approximate_path(index: Path, name: str) -> Path:
    return index / SEARCH / f"{name}.faiss"


def write_approximate(path: Path, matrix: NDArray[np.float16], limit: int = LIMIT) -> None:
    """Write the file for a matrix (N, E) of over `limit` rows, unless it is there.

    Without faiss, or where E is odd, no file is written, and searches compare every row.
    """
    if len(matrix) <= limit or path.is_file() or matrix.shape[1] % 2:
        return
    try:
        import faiss
    except ImportError:
        logger.warning(
            f"each search compares {len(matrix):,} rows: {INSTALL}, and embed again, for faster ones"
        )
        return
    logger.info(f"making an index of {len(matrix):,} rows for fast searches")
    width = matrix.shape[1]
    index = faiss.IndexPQFastScan(width, width // 2, _BITS, faiss.METRIC_INNER_PRODUCT)
    chosen = np.random.default_rng(0).choice(len(matrix), min(_TRAINED, len(matrix)), replace=False)
    index.train(np.asarray(matrix[np.sort(chosen)], np.float32))
    for begin in range(0, len(matrix), _BLOCK):
        index.add(np.asarray(matrix[begin : begin + _BLOCK], np.float32))
    with replacing(path) as temporary:
        faiss.write_index(index, str(temporary))


class Approximate:
    """An approximate index in memory: E / 4 bytes a row."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def open(cls, path: Path) -> Approximate | None:
        """None where there is no file, or no faiss to read it."""
        if not path.is_file():
            return None
        try:
            import faiss
        except ImportError:
            logger.warning(f"each search compares every row, as faiss is not installed: {INSTALL}")
            return None
        return cls(faiss.read_index(str(path)))

    def candidates(
        self, query: NDArray[np.float32], wanted: int, at_least: int = CANDIDATES
    ) -> NDArray[np.int64]:
        """Rows that are probably the most similar to a query (E,), ascending."""
        count = min(max(at_least, 10 * wanted), self._index.ntotal)
        _, rows = self._index.search(query[None], count)
        found: NDArray[np.int64] = np.unique(rows[rows >= 0])
        return found
