"""`Index`: search a folder of embeddings for texts, videos or features."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidprompt.index.approximate import Approximate, approximate_path
from vidprompt.index.build import other_model
from vidprompt.index.results import Hit, SearchResults
from vidprompt.index.scoring import Scores, best_rows, exact_scores
from vidprompt.index.search_files import map_matrix, map_rows
from vidprompt.index.store import IndexInfo, map_features, read_info, video_folder
from vidprompt.system.errors import DataError, UserError

_MAPPED = 1024  # shards that stay mapped into memory


class QueryEncoder(Protocol):
    """What a search needs of a model: `prediction.model.Model`."""

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> str: ...
    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, E) of unit length."""

    def embed(self, videos: Any) -> Any:
        """`.features` (n, E) of unit length, `.failures`."""


class Index:
    """An index that is open for searches.

    Args:
        folder: what `build_index` or `vidprompt embed` made.
        model: what encodes texts and videos: a loaded model, or a MODEL to load when it is needed. None: the
            one that the index was made with.

    Searches of up to a million rows are exact; of more they are where faiss is not installed. Raises
    DataError where the folder is no index, UserError where `model` is another model than the index's.
    """

    def __init__(self, folder: Path | str, model: QueryEncoder | str | Path | None = None) -> None:
        self.folder = Path(folder)
        self._open()
        self._given = model
        self._model: QueryEncoder | None = None
        if model is not None and not isinstance(model, str | Path):
            self._model = self._checked(model)

    def _open(self) -> None:
        self.info: IndexInfo = read_info(self.folder)
        try:
            self._matrix = map_matrix(self.folder, self.info.search)
            self._rows = map_rows(self.folder, self.info.search)
            path = approximate_path(self.folder, self.info.search)
            self._approximate = Approximate.open(path)
        except FileNotFoundError as error:
            raise DataError(
                f"{error.filename} is missing: run `vidprompt embed` with --out {self.folder} again"
            ) from error
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.folder}: a file in search/ is damaged ({error}): delete search/ and index.json, and "
                "run embed again"
            ) from error
        if self._matrix.shape != (len(self._rows), self.info.width):
            raise DataError(
                f"{self.folder}: the files in search/ differ in length: run embed again"
            )
        self._begins = np.cumsum([0, *(shard.rows for shard in self.info.shards)])
        self._features: OrderedDict[int, NDArray[np.float32]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._matrix)

    def __repr__(self) -> str:
        return f"Index({str(self.folder)!r}: {len(self):,} rows, {self.info.model})"

    @property
    def model(self) -> QueryEncoder:
        """The model of the index, loaded when it is first asked for."""
        if self._model is None:
            from vidprompt.prediction.loading import load

            given = self.info.model if self._given is None else self._given
            assert isinstance(given, str | Path)
            self._model = self._checked(load(given))
        return self._model

    def _checked(self, model: QueryEncoder) -> QueryEncoder:
        if model.identity != self.info.identity:
            raise UserError(other_model(self.folder, self.info, model.name, model.identity))
        return model

    # -- searches -----------------------------------------------------------------------------

    def search(
        self,
        text: str | Sequence[str] = (),
        *,
        like: str | Path | Sequence[str | Path] = (),
        without: str | Sequence[str] = (),
        top: int = 20,
        overlapping: bool = False,
        exact: bool = False,
    ) -> SearchResults:
        """The rows that are most similar to texts and videos.

        Args:
            text: a sentence, or several that say the same: their mean is searched for.
            like: videos; what looks like them.
            without: sentences; their mean is subtracted from the query.
            top: number of hits.
            overlapping: also return windows that overlap a better one of the same video.
            exact: compare every row, also where the index has an approximate one.

        Equal scores are in the order of the videos' paths. Raises UserError without a text and a video,
        DataError for a video that cannot be used.
        """
        texts, videos, others = _listed(text), _listed(like), _listed(without)
        if not texts and not videos:
            raise UserError("give a text to search for, or a video with --like (like=… in Python)")
        parts = []
        if texts:
            parts.append(self.model.embed_text([str(one) for one in texts]))
        if videos:
            embeddings = self.model.embed([str(one) for one in videos])
            if embeddings.failures:
                raise DataError(embeddings.failures[0].reason)
            parts.append(embeddings.features)
        query = np.concatenate(parts).mean(axis=0)
        if others:
            query = query - self.model.embed_text([str(one) for one in others]).mean(axis=0)
        words = [repr(str(one)) for one in texts] + [f"like {one}" for one in videos]
        words += [f"without {str(one)!r}" for one in others]
        return self.search_feature(
            query, top=top, overlapping=overlapping, exact=exact, words=", ".join(words)
        )

    def search_feature(
        self,
        feature: NDArray[Any],
        *,
        top: int = 20,
        overlapping: bool = False,
        exact: bool = False,
        words: str = "a feature",
    ) -> SearchResults:
        """The rows that are most similar to a feature (E,) of any length; `words` describe it."""
        query = np.asarray(feature, np.float64).reshape(-1)
        if query.shape != (self.info.width,):
            raise UserError(
                f"the feature has {query.size} numbers, and the index {self.info.width}"
            )
        length = float(np.linalg.norm(query))
        if not np.isfinite(length) or length < 1e-9:
            raise UserError(
                "the query has no direction: its texts cancel each other, or are not finite"
            )
        if top < 1:
            raise UserError(f"top={top}: give a number above 0")
        unit = (query / length).astype(np.float32)
        try:
            return SearchResults(words, self._hits(unit, top, overlapping, exact))
        except FileNotFoundError:  # embed has replaced the files since they were opened
            self._open()
            return SearchResults(words, self._hits(unit, top, overlapping, exact))

    def _hits(
        self, query: NDArray[np.float32], top: int, overlapping: bool, exact: bool
    ) -> tuple[Hit, ...]:
        hide = self.info.window is not None and not overlapping
        wanted = top
        while True:
            found = self._best(query, wanted, exact)
            hits = self._ordered(found, top, hide)
            if len(hits) == top or wanted >= len(self):
                return hits
            wanted *= 4

    def _best(self, query: NDArray[np.float32], wanted: int, exact: bool) -> Scores:
        if self._approximate is None or exact:
            return best_rows(self._matrix, query, wanted, self._row_features)
        rows = self._approximate.candidates(query, wanted)
        if len(rows) < min(wanted, len(self)):
            return best_rows(self._matrix, query, wanted, self._row_features)
        return Scores(rows, exact_scores(rows, query, self._row_features))

    def _ordered(self, found: Scores, top: int, hide_overlapping: bool) -> tuple[Hit, ...]:
        """Hits, best first; equal ones in the order of paths and times."""
        table = self._rows.take(found.rows)
        columns = (table[name].to_pylist() for name in ("video", "start", "end"))
        rows = zip((-found.scores).tolist(), *columns, strict=True)
        folder = video_folder(self.folder, self.info)
        hits: list[Hit] = []
        for negative, video, start, end in sorted(rows):
            if hide_overlapping and any(
                hit.video == video and hit.start < end and start < hit.end for hit in hits
            ):
                continue
            score = min(1.0, max(-1.0, -negative))
            hits.append(Hit(len(hits) + 1, video, start, end, score, folder / video))
            if len(hits) == top:
                break
        return tuple(hits)

    def _row_features(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The float32 features of rows, (n, E), from the shards."""
        features = np.empty((len(rows), self.info.width), np.float32)
        owners = np.searchsorted(self._begins, rows, side="right") - 1
        for shard in np.unique(owners):
            own = owners == shard
            features[own] = self._shard(int(shard))[rows[own] - self._begins[shard]]
        return features

    def _shard(self, number: int) -> NDArray[np.float32]:
        if number not in self._features:
            entry = self.info.shards[number]
            features = map_features(self.folder, entry.name)
            if len(features) != entry.rows:
                raise DataError(f"{self.folder}: shard {entry.name} is damaged: run embed again")
            self._features[number] = features
            if len(self._features) > _MAPPED:
                self._features.popitem(last=False)
        return self._features[number]


def _listed(value: str | Path | Sequence[str | Path]) -> list[str | Path]:
    return [value] if isinstance(value, str | Path) else list(value)
