"""The approximate index of a large matrix: faiss finds candidates, which are scored exactly afterwards.

Rows are assigned to clusters, and a query is compared with the rows of the nearest clusters only, in 8 bits a
number. Chosen by measurement: docs/search.md.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprompt.files.atomic import replacing
from vidprompt.index.store import SEARCH

logger = logging.getLogger(__name__)

LIMIT = 1_000_000  # rows up to which every row is compared
PROBED = 96  # clusters that a query looks into
CANDIDATES = 10  # that are scored exactly, for each hit that is wanted
_TRAINED = 39  # rows a cluster that the clusters are computed from (faiss warns of fewer)
_BLOCK = 1 << 16  # rows added at once
INSTALL = "pip install 'vidprompt[search]'"


def approximate_path(index: Path, name: str) -> Path:
    return index / SEARCH / f"{name}.faiss"


def write_approximate(path: Path, matrix: NDArray[np.float16], limit: int = LIMIT) -> None:
    """Write the file for a matrix (N, E) of over `limit` rows, unless it is there."""
    if len(matrix) <= limit or path.is_file():
        return
    try:
        import faiss
    except ImportError:
        logger.warning(
            f"{len(matrix):,} rows are compared one by one in each search: {INSTALL} and running embed again "
            "makes that faster"
        )
        return
    clusters = cluster_count(len(matrix))
    logger.info(f"computing {clusters:,} clusters of {len(matrix):,} rows for fast searches")
    width = matrix.shape[1]
    quantizer = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, width, clusters, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.train(_sample(matrix, clusters * _TRAINED))
    for begin in range(0, len(matrix), _BLOCK):
        index.add(np.asarray(matrix[begin : begin + _BLOCK], np.float32))
    with replacing(path) as temporary:
        faiss.write_index(index, str(temporary))


def cluster_count(rows: int) -> int:
    """About 4 √N, a power of two."""
    return int(2 ** round(math.log2(4 * math.sqrt(rows))))


def _sample(matrix: NDArray[np.float16], count: int) -> NDArray[np.float32]:
    """Rows that are chosen at random, always the same, in their order."""
    rows = np.random.default_rng(0).choice(len(matrix), min(count, len(matrix)), replace=False)
    return np.asarray(matrix[np.sort(rows)], np.float32)


class Approximate:
    """An approximate index that is open; its lists are mapped into memory."""

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
            logger.warning(f"every row is compared, which takes longer: {INSTALL} reads {path}")
            return None
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        return cls(index)

    def candidates(
        self, query: NDArray[np.float32], wanted: int, probed: int = PROBED
    ) -> NDArray[np.int64]:
        """Rows that are probably the nearest to a query (E,), ascending."""
        import faiss

        count = min(wanted * CANDIDATES, self._index.ntotal)
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = probed
        _, rows = self._index.search(query[None], count, params=parameters)
        found: NDArray[np.int64] = np.unique(rows[rows >= 0])
        return found
