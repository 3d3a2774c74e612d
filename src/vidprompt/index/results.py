"""Results of a search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("rank", "video", "start", "end", "score")


@dataclass(frozen=True)
class Hit:
    """A video, or a window of one, that is similar to the query.

    `video`: its path below the index's folder; `start`, `end`: seconds; `score`: cosine similarity of its
    feature and the query, in [-1, 1]. `path`: of the file.
    """

    rank: int
    video: str
    start: float
    end: float
    score: float
    path: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        values = {column: getattr(self, column) for column in COLUMNS}
        return values | {"path": str(self.path)}


@dataclass(frozen=True)
class SearchResults(Sequence[Hit]):
    """The hits of a search, best first. `query`: what was searched for, in words."""

    query: str
    hits: tuple[Hit, ...]

    @overload
    def __getitem__(self, item: int) -> Hit: ...
    @overload
    def __getitem__(self, item: slice) -> SearchResults: ...
    def __getitem__(self, item: int | slice) -> Hit | SearchResults:
        if isinstance(item, slice):
            return SearchResults(self.query, self.hits[item])
        return self.hits[item]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"query": self.query, "hits": [hit.to_dict() for hit in self.hits]}

    def to_pandas(self) -> pd.DataFrame:
        """A row a hit: rank, video, start, end, score, path."""
        import pandas as pd

        rows = [hit.to_dict() for hit in self.hits]
        return pd.DataFrame(rows, columns=[*COLUMNS, "path"])
