"""The files of an index.

index.json                 the model, what a row is, the shards in order; written last
shards/KEY.parquet         rows of some videos: video, start, end, …; written after the features
shards/KEY.safetensors     `features` (n, E) float32, of unit length: of the rows that did not fail
search/                    what a search maps into memory, made from the shards (search_files.py)

A row is a video, or a window of one. The row of a video that failed has a `reason` and no feature. KEY is a
hash of the model's identity and of the files' paths, sizes and times: a shard that is there need not be made
again. Where videos failed, a hash of their reasons follows (`KEY-REASONS`): these are tried again.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.numpy import save_file

from vidprompt.files.atomic import replacing, write_json
from vidprompt.files.hashes import digest
from vidprompt.system.errors import DataError

FORMAT_VERSION = 1
INFO, SHARDS, SEARCH = "index.json", "shards", "search"
ROW_TYPES = {
    "video": pa.string(),  # POSIX path below the folder
    "start": pa.float64(),  # seconds
    "end": pa.float64(),
    "size": pa.int64(),  # of the file, in bytes
    "mtime_ns": pa.int64(),
    "sha256": pa.string(),  # of the file
    "reason": pa.string(),  # why the video failed, or ""
}


@dataclass(frozen=True)
class Row:
    """A row of an index; see ROW_TYPES."""

    video: str
    start: float
    end: float
    size: int
    mtime_ns: int
    sha256: str
    reason: str = ""


@dataclass(frozen=True)
class ShardEntry:
    """What `index.json` says of a shard. `rows`: with a feature; `videos`: these are of; `failed`: videos."""

    name: str
    first: str
    last: str
    rows: int
    videos: int
    failed: int


@dataclass(frozen=True)
class IndexInfo:
    """What `index.json` says.

    `model`: the MODEL that it was made with, `identity`: its `Model.identity`, `width`: E. `folder`: of the
    videos, relative to the index where both are on one disk. `window`, `stride`: seconds; None for one row a
    video. `search`: the name of the files in `search/`.
    """

    model: str
    identity: str
    width: int
    folder: str
    window: float | None
    stride: float | None
    shards: tuple[ShardEntry, ...] = ()
    search: str = ""

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def videos(self) -> int:
        return sum(shard.videos for shard in self.shards)

    @property
    def failed(self) -> int:
        return sum(shard.failed for shard in self.shards)

    def fingerprint(self) -> dict[str, Any]:
        """What rows of the same file depend on."""
        return {
            "format": FORMAT_VERSION,
            "identity": self.identity,
            "width": self.width,
            "window": self.window,
            "stride": self.stride,
        }


def relative_folder(index: Path, folder: Path) -> str:
    """How `index.json` names the videos' folder."""
    return Path(os.path.relpath(folder.resolve(), index.resolve())).as_posix()


def video_folder(index: Path, info: IndexInfo) -> Path:
    """The folder of an index's videos."""
    return Path(os.path.normpath(index.resolve() / info.folder))


def read_info(index: Path) -> IndexInfo:
    """Raises DataError where the folder is no index, or one of a newer version."""
    path = index / INFO
    try:
        values = json.loads(path.read_text("utf-8"))
        version = values.pop("format")
    except FileNotFoundError:
        unfinished = (index / SHARDS).is_dir()
        problem = "is not finished" if unfinished else "is no index"
        raise DataError(
            f"{index} {problem}: run `vidprompt embed FOLDER --model MODEL --out {index}`"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({error}): delete it and run embed again") from None
    if version != FORMAT_VERSION:
        raise DataError(
            f"{index} is an index of format {version}, and this version of VidPrompt reads "
            f"{FORMAT_VERSION}: make it again in another folder"
        )
    try:
        shards = tuple(ShardEntry(**entry) for entry in values.pop("shards"))
        for count in ("rows", "videos", "failed"):
            values.pop(count, None)
        return IndexInfo(**values, shards=shards)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}): delete it and run embed again") from error


def write_info(index: Path, info: IndexInfo) -> None:
    counts = {"rows": info.rows, "videos": info.videos, "failed": info.failed}
    write_json(index / INFO, {"format": FORMAT_VERSION, **asdict(info), **counts})


# -- shards -----------------------------------------------------------------------------------


def table_path(index: Path, name: str) -> Path:
    return index / SHARDS / f"{name}.parquet"


def features_path(index: Path, name: str) -> Path:
    return index / SHARDS / f"{name}.safetensors"


def shard_names(index: Path) -> list[str]:
    """The shards that are complete, whether `index.json` lists them or not."""
    try:
        with os.scandir(index / SHARDS) as entries:
            present = {entry.name for entry in entries}
    except FileNotFoundError:
        return []
    tables = (name.removesuffix(".parquet") for name in present if name.endswith(".parquet"))
    return sorted(name for name in tables if f"{name}.safetensors" in present)


def shard_key(name: str) -> str:
    """The key of a shard's name, without the hash of its failures."""
    return name.partition("-")[0]


def write_shard(
    index: Path, key: str, info: IndexInfo, rows: Sequence[Row], features: NDArray[np.float32]
) -> ShardEntry:
    """Write a shard: rows in order, features (n, E) of those without a reason."""
    failures = [(row.video, row.reason) for row in rows if row.reason]
    name = f"{key}-{digest(failures)}" if failures else key
    if len(features) != len(rows) - len(failures):
        raise ValueError(f"{len(features)} features of {len(rows) - len(failures)} rows")
    metadata = _metadata(info)
    with replacing(features_path(index, name)) as temporary:
        # in one key: safetensors writes several in any order, and equal shards have equal bytes
        header = {"made_with": json.dumps(metadata, sort_keys=True)}
        save_file({"features": np.ascontiguousarray(features, "<f4")}, temporary, header)
    columns = {column: [getattr(row, column) for row in rows] for column in ROW_TYPES}
    schema = pa.schema(list(ROW_TYPES.items()), metadata=metadata)
    with replacing(table_path(index, name)) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary)
    return shard_entry(name, columns["video"], columns["reason"])


def _metadata(info: IndexInfo) -> dict[str, str]:
    return {"model": info.model, **{key: str(value) for key, value in info.fingerprint().items()}}


def made_alike(table: pa.Table, info: IndexInfo) -> bool:
    """Whether a shard's rows are what this index has of the same files; the model's name may differ."""
    stored = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return all(stored.get(key) == str(value) for key, value in info.fingerprint().items())


def read_table(index: Path, name: str) -> pa.Table:
    """The rows of a shard. Raises DataError where the file is damaged."""
    path = table_path(index, name)
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def shard_entry(name: str, videos: Sequence[str], reasons: Sequence[str]) -> ShardEntry:
    """What `index.json` says of a shard of these rows."""
    good = [video for video, reason in zip(videos, reasons, strict=True) if not reason]
    failed = len(videos) - len(good)
    return ShardEntry(name, videos[0], videos[-1], len(good), len(set(good)), failed)


def map_features(index: Path, name: str) -> NDArray[np.float32]:
    """The features of a shard, (n, E), mapped into memory and read-only.

    Raises FileNotFoundError, and DataError where the file is damaged.
    """
    path = features_path(index, name)
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            size = os.fstat(file.fileno()).st_size
            if length > size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))["features"]
            shape, begin = tuple(header["shape"]), 8 + length
            if header["dtype"] != "F32" or size != begin + header["data_offsets"][1]:
                raise ValueError("its length is not that of its header")
            if not shape[0]:
                return np.empty(shape, np.float32)
            return np.asarray(np.memmap(file, "<f4", "r", begin, shape))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} is damaged ({error}): delete it and run embed again")


def remove_other_shards(index: Path, kept: Sequence[str]) -> None:
    """Delete the shards that are not `kept`, and temporary files of killed processes."""
    names = set(kept)
    for path in sorted((index / SHARDS).iterdir()):
        if path.name.endswith(".part") or path.stem not in names:
            path.unlink(missing_ok=True)
