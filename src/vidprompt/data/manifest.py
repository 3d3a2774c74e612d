"""The manifest: one row a video, what is annotated and what the file really is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vidprompt.atomic import replacing
from vidprompt.data.annotations import Annotation
from vidprompt.data.video import Probe
from vidprompt.errors import DataError

SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("source", pa.string()),
        ("path", pa.string()),
        ("kind", pa.string()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("split1", pa.string()),
        ("split2", pa.string()),
        ("split3", pa.string()),
        ("camera", pa.int32()),
        ("clothes", pa.string()),
        ("size", pa.int64()),
        ("n_frames", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("duration", pa.float64()),
        ("codec", pa.string()),
        ("health", pa.string()),
        ("detail", pa.string()),
        ("exact", pa.bool_()),
    ]
)


def build_manifest(
    annotations: Sequence[Annotation], probes: Sequence[Probe], folders: dict[str, str]
) -> pa.Table:
    """Join annotations with what probing found, sorted by id.

    `folders` maps a source to its folder in the dataset's root; paths become relative to the root.
    Raises DataError when an id stands twice.
    """
    rows = []
    for annotation, probe in zip(annotations, probes, strict=True):
        row = asdict(annotation) | asdict(probe)
        row["path"] = f"{folders[annotation.source]}/{annotation.path}"
        row["health"] = str(probe.health.value)
        rows.append(row)
    rows.sort(key=lambda row: row["video_id"])
    for before, after in pairwise(rows):
        if before["video_id"] == after["video_id"]:
            raise DataError(f"video {after['video_id']} is annotated twice")
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def write_manifest(table: pa.Table, path: Path | str) -> None:
    """Write atomically; equal tables give equal bytes."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", store_schema=False)


def read_manifest(path: Path | str) -> pd.DataFrame:
    """The manifest as a data frame, one row a video, sorted by id."""
    if not Path(path).is_file():
        raise DataError(f"{path} is missing: run `dvc repro manifest` (or `make repro`) first")
    return pq.read_table(path, schema=SCHEMA).to_pandas()
