"""The table of predictions of a recognition protocol: make, write and read it; one row a tested video.

Rows are in the order of the test lists. What metrics are computed from is stored exactly, although scores
are stored in half precision: the rank of the true class (among all, and within its group) and the
confidence. See docs/architecture.md for the columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vidprompt.data.splits.split_file import Split, Subset
from vidprompt.inference.feature_store import Features, takes_all_frames
from vidprompt.metrics import classification as c
from vidprompt.metrics.scores import Ensemble, class_probabilities
from vidprompt.system.errors import DataError, first_line

MAX_SCORES = 1000  # classes up to which all scores are kept
BEST = 5
BLOCK = 4096  # videos scored at once: 16 MB of scores for 1,000 classes
RANK, COUNT = "rank_in_", "classes_in_"  # prefixes of the columns of a grouping of classes
NAMES = ("split", "test", "label", "group", "predicted")
# what reading a damaged file raises: of a damaged page an OSError, of damaged text a ValueError
UNREADABLE = (pa.ArrowException, OSError, KeyError, ValueError)
NO_GROUPS: Mapping[str, str] = MappingProxyType({})
Groups = Mapping[str, Mapping[str, str]]  # grouping (object, pair …) → class → group


def schema(groupings: Iterable[str]) -> pa.Schema:
    """The columns, with two for each grouping of the classes; an unknown value is null."""

    def list_of(kind: pa.DataType) -> pa.DataType:
        return pa.list_(pa.field("element", kind))

    text, integer = pa.string(), pa.int32()
    fields = [("split", text), ("test", text), ("video_id", text), ("label", text)]
    fields += [("group", text)]
    fields += [("predicted", text), ("rank", integer), ("confidence", pa.float32())]
    fields += [(f"{prefix}{name}", integer) for name in groupings for prefix in (RANK, COUNT)]
    fields += [("top5", list_of(text)), ("top5_scores", list_of(pa.float32()))]
    return pa.schema([*fields, ("scores", list_of(pa.float16()))])


def predict(
    name: str,
    split: Split,
    features: Features,
    ensemble: Ensemble,
    groups: Groups,
    group_of: Mapping[str, str] = NO_GROUPS,
) -> Iterator[pa.Table]:
    """Predictions for every test of the split file `name`, at most `BLOCK` videos a table.

    `group_of` has the group of a video (of one film) by its id, where it has one.
    Raises DataError for a test without a usable video, and for scores that are not numbers.
    """
    for test, subset in split.tests.items():
        positions, rows = features.rows(subset.videos, takes_all_frames(split))
        if not len(rows):
            raise DataError(
                f"{name}/{test}: there is no video to score: all {len(subset.videos)} listed videos are "
                "missing or broken"
            )
        text = features.text[f"{name}/{test}"]
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            scores = class_probabilities(
                features.video[rows[part]], text, features.logit_scale, ensemble
            )
            yield tabulate(name, test, subset, positions[part], scores, groups, group_of)


def tabulate(
    split: str,
    test: str,
    subset: Subset,
    positions: NDArray[np.int64],
    scores: NDArray[np.float32],
    groups: Groups,
    group_of: Mapping[str, str] = NO_GROUPS,
) -> pa.Table:
    """Predictions of the n videos at `positions` of a test's list, from probabilities `scores` (n, C)."""
    videos = [subset.videos[i] for i in positions]
    bad = np.isnan(scores).any(axis=1)
    if bad.any():
        raise DataError(
            f"{split}/{test}: the scores of {videos[int(bad.argmax())]} are not numbers; the features "
            "or the training diverged"
        )
    names, n = pa.array(subset.classes, pa.string()), len(videos)
    labels = np.asarray(subset.labels, np.int64)[positions]
    fitting = {  # groupings that have a group for every class of this test
        grouping: c.group_codes([group[name] for name in subset.classes])
        for grouping, group in groups.items()
        if set(subset.classes) <= set(group)
    }
    ranks = c.true_ranks(scores, labels, [codes for codes, _ in fitting.values()])
    best = c.best_classes(scores, BEST)
    best_scores = np.take_along_axis(scores, best, axis=1)
    columns = {
        "split": pa.repeat(split, n),
        "test": pa.repeat(test, n),
        "video_id": pa.array(videos, pa.string()),
        "label": names.take(pa.array(labels)),
        "group": pa.array([group_of.get(video) or None for video in videos], pa.string()),
        "predicted": names.take(pa.array(best[:, 0])),
        "rank": pa.array(ranks[0].astype(np.int32)),
        "confidence": pa.array(best_scores[:, 0].astype(np.float32)),
        "top5": _lists(names.take(pa.array(best.ravel())), best.shape),
        "top5_scores": _lists(pa.array(best_scores.astype(np.float32).ravel()), best.shape),
    }
    for row, (grouping, (_, sizes)) in enumerate(fitting.items(), 1):
        columns[RANK + grouping] = pa.array(ranks[row].astype(np.int32))
        columns[COUNT + grouping] = pa.array(sizes[labels].astype(np.int32))
    if len(names) <= MAX_SCORES:
        columns["scores"] = _lists(pa.array(scores.astype(np.float16).ravel()), scores.shape)
    fields = schema(groups)
    return pa.table([columns.get(f.name, pa.nulls(n, f.type)) for f in fields], schema=fields)


def _lists(values: pa.Array, shape: tuple[int, ...]) -> pa.Array:
    """Values of n rows of equal length, (n · length,), as n lists."""
    rows, width = shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * width)
    kind = pa.list_(pa.field("element", values.type))
    return pa.ListArray.from_arrays(offsets, values, type=kind)


class PredictionsFile(pq.ParquetWriter):
    """Writes tables of predictions to a Parquet file, one after the other."""

    def __init__(self, path: Path, groupings: Iterable[str]) -> None:
        names = [*NAMES, "top5.list.element"]
        super().__init__(
            path, schema(groupings), compression="zstd", store_schema=False, use_dictionary=names
        )


def without_lists(table: pa.Table) -> pa.Table:
    """The columns that metrics are computed from."""
    return table.select(_without_lists(table.schema))


def _without_lists(fields: pa.Schema) -> list[str]:
    return [field.name for field in fields if not pa.types.is_list(field.type)]


def read_predictions(path: Path) -> pd.DataFrame:
    """The columns of a file that metrics are computed from; of re-identification too.

    Raises DataError for a file that is missing, damaged, not of predictions, empty, or without ranks
    (older versions wrote none).
    """
    if not path.is_file():
        raise DataError(f"no predictions {path}: run `dvc repro evaluate` (or `dvc pull`) first")
    try:
        columns = _without_lists(pq.read_schema(path))
        _check_columns(path, set(columns))
        frame: pd.DataFrame = pq.read_table(path, columns=columns).to_pandas()
    except UNREADABLE as error:
        raise DataError(
            f"{path} cannot be read as Parquet ({first_line(error)}): evaluate again"
        ) from error
    if frame.empty:
        raise DataError(f"{path} has no rows: evaluate again")
    return frame


def _check_columns(path: Path, columns: set[str]) -> None:
    """Raises DataError when a column is missing that metrics are computed from."""
    retrieval = "average_precision" in columns
    needed = {"protocol", "label"} if retrieval else {"split", "test", "video_id", "label"}
    needed |= {COUNT + name.removeprefix(RANK) for name in columns if name.startswith(RANK)}
    if not needed <= columns:
        raise DataError(
            f"{path} is not a table of predictions, it has no column {', '.join(sorted(needed - columns))}: "
            "give cache/predictions/DATASET/METHOD/PROTOCOL.parquet"
        )
    if not ({"rank"} if retrieval else {"rank", "confidence"}) <= columns:
        raise DataError(f"{path} has no ranks (an older version wrote it): evaluate again")
