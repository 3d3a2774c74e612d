"""The manifest: one row a video, what is annotated and what the file really is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vidprompt.atomic import replacing
from vidprompt.data.annotations import Annotation
from vidprompt.data.probe import Health, Probe
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
        ("hash", pa.string()),
        ("n_frames", pa.int32()),
        ("header_frames", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rotation", pa.int32()),
        ("fps", pa.float64()),
        ("duration", pa.float64()),
        ("container", pa.string()),
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
    order = sorted(range(len(annotations)), key=lambda row: annotations[row].video_id)
    for before, after in pairwise(order):
        if annotations[before].video_id == annotations[after].video_id:
            raise DataError(f"video {annotations[after].video_id} is annotated twice")
    prefixes = {source: "" if folder == "." else f"{folder}/" for source, folder in folders.items()}
    columns = []
    for field in SCHEMA:
        if field.name == "path":
            rows = (annotations[row] for row in order)
            values = [prefixes[a.source] + a.path for a in rows]
        else:
            side = annotations if field.name in Annotation.__slots__ else probes
            values = [getattr(side[row], field.name) for row in order]
        columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def usable(manifest: pd.DataFrame) -> pd.Series:
    """Which videos may be drawn and decoded: the intact ones, and those never looked into."""
    good: pd.Series = manifest["health"].isin([Health.OK.value, Health.UNOPENED.value])
    return good


def write_manifest(table: pa.Table, path: Path | str) -> None:
    """Write atomically; equal tables give equal bytes."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", store_schema=False)


def read_classes(path: Path | str) -> dict[str, list[str]]:
    """Source → its classes in official order, as written beside the manifest."""
    classes = json.loads(Path(path).read_text()) if Path(path).is_file() else None
    if not isinstance(classes, dict):
        raise DataError(f"{path} is missing: run `dvc repro manifest` (or `make repro`) first")
    return {str(source): [str(name) for name in names] for source, names in classes.items()}


def read_manifest(path: Path | str) -> pd.DataFrame:
    """The manifest as a data frame, one row a video, sorted by id."""
    if not Path(path).is_file():
        raise DataError(f"{path} is missing: run `dvc repro manifest` (or `make repro`) first")
    return pq.read_table(path, schema=SCHEMA).to_pandas()
