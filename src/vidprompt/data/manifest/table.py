"""The manifest (one row a video): its columns, reading and writing."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vidprompt.data.manifest.health import Health
from vidprompt.files.atomic import replacing
from vidprompt.system.errors import DataError

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
        ("fingerprint", pa.string()),
    ]
)


def usable(manifest: pd.DataFrame) -> pd.Series:
    """A mask of the rows that may be drawn and decoded: intact videos, and those never opened."""
    good: pd.Series = manifest["health"].isin([Health.OK.value, Health.UNOPENED.value])
    return good


def write_manifest(table: pa.Table, path: Path | str) -> None:
    """Write a table of `SCHEMA` as Parquet, atomically; equal tables give equal bytes."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", store_schema=False)


def read_classes(path: Path | str) -> dict[str, list[str]]:
    """Each source's classes in official order, from the JSON file beside the manifest.

    Raises DataError when it is missing.
    """
    classes = json.loads(Path(path).read_text("utf-8")) if Path(path).is_file() else None
    if not isinstance(classes, dict):
        raise DataError(f"{path} is missing: run `dvc repro manifest` (or `make repro`) first")
    return {str(source): [str(name) for name in names] for source, names in classes.items()}


def read_manifest(path: Path | str) -> pd.DataFrame:
    """The manifest as a data frame, sorted by id.

    Raises DataError when it is missing, or was written by another version.
    """
    if not Path(path).is_file():
        raise DataError(f"{path} is missing: run `dvc repro manifest` (or `make repro`) first")
    absent = sorted(set(SCHEMA.names) - set(pq.read_schema(path).names))
    if absent:
        raise DataError(
            f"{path} was written by another version (it has no {', '.join(absent)}): build it again, "
            f"`dvc repro manifest` or `vidprompt manifest dataset={Path(path).parent.name}`"
        )
    return pq.read_table(path, schema=SCHEMA).to_pandas()
