"""The table of predictions of a recognition protocol: a row a tested video, in the order of the lists.

What a number needs is in it exactly, although scores are kept in half precision: the rank of the true
class (among all, and within its group) and the confidence. See docs/architecture.md for the columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vidprompt.data.splits.split_file import Split, Subset
from vidprompt.inference.feature_store import Features, takes_all_frames
from vidprompt.metrics import classification as c
from vidprompt.metrics.scores import Ensemble, class_probabilities
from vidprompt.system.errors import DataError

MAX_SCORES = 1000  # classes up to which all scores are kept
BEST = 5
BLOCK = 4096  # videos scored at once: 16 MB of scores for 1,000 classes
RANK, COUNT = "rank_in_", "classes_in_"  # columns of a grouping of classes
NAMES = ("split", "test", "label", "predicted")
# What reading raises: a damaged page is an OSError, damaged text a ValueError
UNREADABLE = (pa.ArrowException, OSError, KeyError, ValueError)
Groups = Mapping[str, Mapping[str, str]]  # grouping (object, pair …) → class → group


def schema(groupings: Iterable[str]) -> pa.Schema:
    """The columns, with two for each grouping of the classes. Where a value is not known it is null."""

    def several(kind: pa.DataType) -> pa.DataType:
        return pa.list_(pa.field("element", kind))

    text, whole = pa.string(), pa.int32()
    fields = [("split", text), ("test", text), ("video_id", text), ("label", text)]
    fields += [("predicted", text), ("rank", whole), ("confidence", pa.float32())]
    fields += [(f"{start}{name}", whole) for name in groupings for start in (RANK, COUNT)]
    fields += [("top5", several(text)), ("top5_scores", several(pa.float32()))]
    return pa.schema([*fields, ("scores", several(pa.float16()))])


def predict(
    name: str, split: Split, features: Features, ensemble: Ensemble, groups: Groups
) -> Iterator[pa.Table]:
    """Predictions for every test of the split file `name`, some videos at a time.

    Raises DataError for a test without a usable video, and for scores that are not numbers.
    """
    for test, subset in split.tests.items():
        positions, rows = features.rows(subset.videos, takes_all_frames(split))
        if not len(rows):
            raise DataError(
                f"{name}/{test}: there is no video to score, all of its {len(subset.videos)} listed "
                "videos are missing or broken"
            )
        text = features.text[f"{name}/{test}"]
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            scores = class_probabilities(
                features.video[rows[part]], text, features.logit_scale, ensemble
            )
            yield tabulate(name, test, subset, positions[part], scores, groups)


def tabulate(
    split: str,
    test: str,
    subset: Subset,
    positions: NDArray[np.int64],
    scores: NDArray[np.float32],
    groups: Groups,
) -> pa.Table:
    """The rows of videos at `positions` of a test's list, whose probabilities are `scores` (n, C)."""
    videos = [subset.videos[i] for i in positions]
    bad = np.isnan(scores).any(axis=1)
    if bad.any():
        raise DataError(
            f"{split}/{test}: the scores of {videos[int(bad.argmax())]} are not numbers; the features "
            "or the training diverged"
        )
    names, n = pa.array(subset.classes, pa.string()), len(videos)
    labels = np.asarray(subset.labels, np.int64)[positions]
    fitting = {  # ways to group the classes that know all classes of this test
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
    form = schema(groups)
    return pa.table([columns.get(f.name, pa.nulls(n, f.type)) for f in form], schema=form)


def _lists(values: pa.Array, shape: tuple[int, ...]) -> pa.Array:
    """Values of n rows of equal length as n lists."""
    rows, width = shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * width)
    kind = pa.list_(pa.field("element", values.type))
    return pa.ListArray.from_arrays(offsets, values, type=kind)


class PredictionsFile(pq.ParquetWriter):
    """A Parquet file that takes tables of predictions one after the other."""

    def __init__(self, path: Path, groupings: Iterable[str]) -> None:
        names = [*NAMES, "top5.list.element"]
        form = schema(groupings)
        super().__init__(path, form, compression="zstd", store_schema=False, use_dictionary=names)


def without_lists(table: pa.Table) -> pa.Table:
    """The columns that numbers are computed from."""
    return table.select(_plain(table.schema))


def _plain(form: pa.Schema) -> list[str]:
    return [field.name for field in form if not pa.types.is_list(field.type)]


def read_predictions(path: Path) -> pd.DataFrame:
    """Those columns of a file, of re-identification too.

    DataError when it is not there, is damaged, is none, has no rows, or was written before it had ranks.
    """
    if not path.is_file():
        raise DataError(f"no predictions {path}: run `dvc repro evaluate` (or `dvc pull`) first")
    try:
        columns = _plain(pq.read_schema(path))
        _check_columns(path, set(columns))
        frame: pd.DataFrame = pq.read_table(path, columns=columns).to_pandas()
    except UNREADABLE as error:
        raise DataError(
            f"{path} is no Parquet file that can be read ({str(error).splitlines()[0]}): evaluate again"
        ) from error
    if frame.empty:
        raise DataError(f"{path} has no rows, so there is nothing to measure: evaluate again")
    return frame


def _check_columns(path: Path, there: set[str]) -> None:
    """DataError when a number could not be computed for want of a column."""
    retrieval = "average_precision" in there
    needed = {"protocol", "label"} if retrieval else {"split", "test", "video_id", "label"}
    needed |= {COUNT + name.removeprefix(RANK) for name in there if name.startswith(RANK)}
    if not needed <= there:
        raise DataError(
            f"{path} is no table of predictions, it has no column {', '.join(sorted(needed - there))}: "
            "give cache/predictions/DATASET/METHOD/PROTOCOL.parquet"
        )
    if not ({"rank"} if retrieval else {"rank", "confidence"}) <= there:
        raise DataError(f"{path} has no ranks, an older version wrote it: evaluate again")
