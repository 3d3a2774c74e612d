"""What a search maps into memory: all features in float16, and which video and time each row is.

search/NAME.npy      (N, E) float16
search/NAME.arrow    video, start, end (seconds): a row for each feature

search/NAME.faiss    of large indexes alone: see approximate.py

NAME is a hash of the shards. The files are made from the shards, and again when these change.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vidprompt.files.atomic import replacing
from vidprompt.files.hashes import digest
from vidprompt.index.approximate import approximate_path, write_approximate
from vidprompt.index.store import SEARCH, IndexInfo, ShardEntry, map_features, read_table
from vidprompt.system.errors import DataError

_SCHEMA = pa.schema([("video", pa.string()), ("start", pa.float64()), ("end", pa.float64())])


def matrix_path(index: Path, name: str) -> Path:
    return index / SEARCH / f"{name}.npy"


def rows_path(index: Path, name: str) -> Path:
    return index / SEARCH / f"{name}.arrow"


def write_search_files(index: Path, info: IndexInfo, shards: Sequence[ShardEntry]) -> str:
    """Write the files of these shards unless they are there; returns their name."""
    name = digest([info.fingerprint(), [shard.name for shard in shards]])
    total = sum(shard.rows for shard in shards)
    if not matrix_path(index, name).is_file():
        with replacing(matrix_path(index, name)) as temporary, temporary.open("wb") as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": (total, info.width)}
            np.lib.format.write_array_header_1_0(file, header)
            for shard in shards:
                features = map_features(index, shard.name)
                if features.shape != (shard.rows, info.width):
                    raise DataError(f"{index}: shard {shard.name} has other rows than its table")
                file.write(np.ascontiguousarray(features, "<f2").data)
    if not rows_path(index, name).is_file():
        with (
            replacing(rows_path(index, name)) as temporary,
            pa.ipc.new_file(str(temporary), _SCHEMA) as writer,
        ):
            for shard in shards:
                table = read_table(index, shard.name)
                table = table.filter(pc.equal(table["reason"], "")).select(_SCHEMA.names)
                writer.write_table(table.cast(_SCHEMA).combine_chunks())
    write_approximate(approximate_path(index, name), map_matrix(index, name))
    return name


def remove_other_search_files(index: Path, name: str) -> None:
    """Delete those of other names, and temporary files of killed processes."""
    for path in sorted((index / SEARCH).iterdir()):
        if path.name.endswith(".part") or not path.name.startswith(f"{name}."):
            path.unlink(missing_ok=True)


def map_matrix(index: Path, name: str) -> NDArray[np.float16]:
    """(N, E), mapped into memory."""
    # copy on write, though nothing writes: PyTorch warns of arrays that are read-only
    matrix: NDArray[np.float16] = np.load(
        matrix_path(index, name), mmap_mode="c", allow_pickle=False
    )
    return matrix


def map_rows(index: Path, name: str) -> pa.Table:
    """video, start and end of each row, mapped into memory."""
    with pa.memory_map(str(rows_path(index, name))) as source:
        return pa.ipc.open_file(source).read_all()
