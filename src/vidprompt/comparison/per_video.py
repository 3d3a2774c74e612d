"""Reads predictions as one value per video and measure: hits, or the average precision of a query."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidprompt.metrics.predictions import UNREADABLE
from vidprompt.system.errors import DataError, first_line

KEYS = ["split", "test", "video_id"]
RECOGNITION = ("top1", "top5")
RETRIEVAL = ("R-1", "mAP")
MEASURES = (*RECOGNITION, *RETRIEVAL)  # as they are named in metrics.json
ROWS = 64  # whose scores are read at once
HITS = {"top1", "top5", "R-1"}  # measures that are 0 or 1 a video


def measured(protocol: str) -> tuple[str, ...]:
    """The measures with a value for each video of a protocol; the first says right or wrong."""
    return RETRIEVAL if protocol == "reid" else RECOGNITION


def read_per_video(source: pa.NativeFile | str, protocol: str, name: str) -> pd.DataFrame:
    """One row a tested video, sorted by `split`, `test`, `video_id`.

    Columns: those three, `label`, `group` (of videos that go together; empty where there is none),
    `predicted` (class; re-identification: the gallery tracklet ranked
    first), `classes` (how many competed; 0 when not kept) and one column a measure, float64 in [0, 1].
    A query of re-identification has `split` reid and its protocol as `test`. `source` is a Parquet
    file of predictions (docs/architecture.md), `name` what to call it. DataError when it is none.
    """
    wanted = {"split", "test", "protocol", "video_id", "label", "predicted", "group"}
    wanted |= {"top5", "average_precision", "ranked", "hits"}
    try:
        with pq.ParquetFile(source) as file:
            names = file.schema_arrow.names
            table = file.read([column for column in names if column in wanted])
            values = _retrieval(table) if protocol == "reid" else _recognition(table)
            if protocol != "reid" and "scores" in names:
                values["classes"] = _classes(file, values)
    except UNREADABLE as error:
        raise DataError(
            f"{name} holds no predictions of {protocol} that can be read "
            f"({first_line(error)}): "
            "run `vidprompt evaluate` to write them again"
        ) from error
    double = values.duplicated(KEYS)
    if double.any():
        split, test, video = values.loc[double, KEYS].iloc[0]
        raise DataError(f"{name} has {video} twice in {split}/{test}: it cannot be paired")
    return values.sort_values(KEYS, ignore_index=True)


def _recognition(table: pa.Table) -> pd.DataFrame:
    label, top5 = table["label"].combine_chunks(), table["top5"].combine_chunks()
    parent = top5.value_parent_indices()
    among = pc.equal(top5.flatten(), label.take(parent)).to_numpy(zero_copy_only=False)
    within = np.bincount(parent.to_numpy()[among], minlength=len(label)) > 0
    frame = table.select([*KEYS, "label", "predicted"]).to_pandas()
    frame["group"] = ""
    if "group" in table.column_names:
        frame["group"] = table["group"].to_pandas().fillna("").astype(str)
    frame["classes"] = 0
    frame["top1"] = (frame["label"] == frame["predicted"]).astype(np.float64)
    frame["top5"] = within.astype(np.float64)
    return frame


def _classes(file: pq.ParquetFile, frame: pd.DataFrame) -> pd.Series:
    """How many scores the first row of each row's test has (0: none kept); a test's rows are alike.

    Few other scores are read: they are most of the file, and a test starts a group of rows.
    """
    first = np.flatnonzero(~frame.duplicated(KEYS[:2]))
    counts = pd.Series(0, index=frame.index)
    begin = 0
    for group in range(file.num_row_groups):
        end = begin + file.metadata.row_group(group).num_rows
        inside = first[(first >= begin) & (first < end)]
        if len(inside):
            batches = file.iter_batches(ROWS, row_groups=[group], columns=["scores"])
            for start, batch in zip(range(begin, inside[-1] + 1, ROWS), batches, strict=False):
                here = inside[(inside >= start) & (inside < start + ROWS)]
                lengths = pc.list_value_length(batch["scores"]).fill_null(0).to_numpy()
                counts.iloc[here] = lengths[here - start]
        begin = end
    return counts.groupby([frame[key] for key in KEYS[:2]], sort=False).transform("first")


def _retrieval(table: pa.Table) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "split": "reid",
            "test": table["protocol"].to_pandas(),
            "video_id": table["video_id"].to_pandas(),
            "label": table["label"].to_pandas(),
            "group": table["label"].to_pandas().astype(str),
            "predicted": pc.list_element(table["ranked"], 0).to_pandas(),
            "classes": 0,
            "R-1": pc.list_element(table["hits"], 0).to_numpy().astype(np.float64),
            "mAP": table["average_precision"].to_numpy(),
        }
    )
