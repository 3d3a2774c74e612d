"""The frame cache: a few frames of every video, small, in tar shards with an index.

    shard-00000.tar     one member a video: `<key>.mjpeg`, its JPEG frames one after the other
    shard-00000.json    the same shard's index rows and checksum: what makes a build resumable
    index.parquet       video_id, shard, offset (bytes, of the member's data), lengths (bytes a
                        frame), source_frames (their numbers in the source), n_frames (of the
                        source), height, width; sorted by video_id
    frames.json         parameters, format version, shards with SHA-256; written last

The layout is WebDataset's. One member a video instead of one a frame means one tar header instead
of 32 and one contiguous read a clip, and FFmpeg plays the member (with WebP frames it is
`<key>.webps`, which nothing plays). Equal inputs give equal bytes, however many workers and
interruptions there were. `vidprompt.data.frames` writes it.
"""

from __future__ import annotations

import io
import json
import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidprompt.atomic import replacing, sha256
from vidprompt.data.decoding import Frames
from vidprompt.data.sampling import segment_frames
from vidprompt.errors import DataError, UserError

FORMAT_VERSION = 1
INDEX, PARAMETERS = "index.parquet", "frames.json"


@dataclass(frozen=True)
class FrameSettings:
    """What a cached frame is. UserError for values that make no sense.

    `short_side`: pixels; smaller videos are not enlarged. `frames`: the centres of that many equal
    segments, all frames when there are fewer, or None for all always. `quality`: 1-100. `shard_mb`:
    a shard is closed when it has reached this many megabytes. `stretch`: (height, width) to resize
    to, aspect ratio or not (re-identification); `short_side` is not used then. Resizing is bicubic
    with antialiasing.
    """

    short_side: int = 256
    frames: int | None = 32
    quality: int = 90
    format: Literal["jpeg", "webp"] = "jpeg"
    shard_mb: int = 256
    stretch: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.stretch is not None:
            if len(self.stretch) != 2:
                raise UserError(f"stretch is (height, width), not {self.stretch}")
            object.__setattr__(self, "stretch", tuple(int(side) for side in self.stretch))
        positive = [self.short_side, self.quality, self.shard_mb, *(self.stretch or ())]
        if min(positive) < 1 or (self.frames is not None and self.frames < 1):
            raise UserError(f"frame settings must be positive: {self}")
        if self.quality > 100:
            raise UserError(f"frame quality {self.quality} is above 100")
        if self.format not in ("jpeg", "webp"):
            raise UserError(f"unknown frame format {self.format!r}: choose jpeg or webp")


def segment_centres(n_frames: int, frames: int | None) -> NDArray[np.int64]:
    """Frame numbers at the centres of `frames` equal segments; all when there are no more."""
    if frames is None or n_frames <= frames:
        return np.arange(n_frames)
    return segment_frames(n_frames, frames)


def write_index(rows: list[dict[str, Any]], path: Path) -> None:
    """Write `index.parquet` atomically; the rows' keys are the columns named above."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    int32 = pa.int32()
    types = {
        "video_id": pa.string(),
        "shard": pa.string(),
        "offset": pa.int64(),
        "lengths": pa.list_(int32),
        "source_frames": pa.list_(int32),
        "n_frames": int32,
        "height": int32,
        "width": int32,
    }
    schema = pa.schema(list(types.items()))
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)


class FrameCache:
    """Random access to a finished frame cache; cheap to open and to send to other processes.

    The index stays in Arrow. Shards are opened when first read, in each process for itself, and
    read with `pread`, so forked and threaded readers do not disturb each other. Nothing is checked
    while reading; `verify` does. DataError when the folder holds no finished cache.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._handles: dict[str, int] = {}
        self._load()

    def _load(self) -> None:
        import pyarrow.parquet as pq

        if not (self.path / PARAMETERS).is_file() or not (self.path / INDEX).is_file():
            raise DataError(f"{self.path} has no finished frame cache: run the frames stage")
        self.parameters: dict[str, Any] = json.loads((self.path / PARAMETERS).read_text("utf-8"))
        version = self.parameters.get("version")
        if version != FORMAT_VERSION:
            raise DataError(
                f"{self.path} is a frame cache of format {version}, this program reads"
                f" {FORMAT_VERSION}: run the frames stage again"
            )
        table = pq.read_table(self.path / INDEX).combine_chunks()
        columns = {name: table.column(name).combine_chunks() for name in table.column_names}
        self._ids, self._shards = columns["video_id"], columns["shard"]
        self._numbers = {
            name: columns[name].to_numpy(zero_copy_only=False)
            for name in ("offset", "n_frames", "height", "width")
        }
        self._starts = columns["lengths"].offsets.to_numpy()
        self._lengths = columns["lengths"].values.to_numpy()
        self._source_frames = columns["source_frames"].values.to_numpy()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the shards; a later read opens them again."""
        handles, self._handles = self.__dict__.get("_handles", {}), {}
        for handle in handles.values():
            os.close(handle)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, video_id: object) -> bool:
        return isinstance(video_id, str) and self._find(video_id) is not None

    @property
    def ids(self) -> list[str]:
        """All video ids, sorted."""
        return list(self._ids.to_pylist())

    def num_frames(self, video_id: str) -> int:
        """How many frames of the video are cached."""
        row = self._row(video_id)
        return int(self._starts[row + 1] - self._starts[row])

    def num_source_frames(self, video_id: str) -> int:
        """How many frames the video itself has."""
        return int(self._numbers["n_frames"][self._row(video_id)])

    def source_frames(self, video_id: str) -> NDArray[np.int32]:
        """The numbers that the cached frames have in the video, ascending, int32 (cached,)."""
        row = self._row(video_id)
        frames: NDArray[np.int32] = self._source_frames[self._starts[row] : self._starts[row + 1]]
        return frames

    def size(self, video_id: str) -> tuple[int, int]:
        """(height, width) of the cached frames in pixels."""
        row = self._row(video_id)
        return int(self._numbers["height"][row]), int(self._numbers["width"][row])

    def read(self, video_id: str, positions: Sequence[int] | NDArray[np.int64]) -> Frames:
        """Cached frames by position (0 to `num_frames` - 1), uint8 RGB (n, H, W, 3).

        Positions may repeat and come in any order. DataError for a position out of range, an
        unknown video and a shard that cannot be read or decoded.
        """
        row = self._row(video_id)
        lengths = self._lengths[self._starts[row] : self._starts[row + 1]]
        wanted, back = np.unique(np.asarray(positions, dtype=np.int64), return_inverse=True)
        if wanted.size == 0:
            raise DataError(f"{video_id}: no frame was asked for")
        if wanted[0] < 0 or wanted[-1] >= len(lengths):
            raise DataError(
                f"{video_id}: position {wanted[0] if wanted[0] < 0 else wanted[-1]} is out of"
                f" range, {len(lengths)} frames are cached"
            )
        ends = np.cumsum(lengths, dtype=np.int64) + int(self._numbers["offset"][row])
        spans = [(int(ends[i] - lengths[i]), int(ends[i])) for i in wanted]
        shard = self._shards[row].as_py()
        frames = np.empty((len(wanted), *self.size(video_id), 3), dtype=np.uint8)
        for target, data in zip(frames, self._bytes(shard, spans), strict=True):
            self._decode(data, target, shard, video_id)
        return frames[back]

    def _bytes(self, shard: str, spans: list[tuple[int, int]]) -> list[bytes]:
        """The bytes of ascending spans; in one read when most of what lies between is wanted."""
        handle = self._handle(shard)
        first, last = spans[0][0], spans[-1][1]
        if 2 * sum(end - begin for begin, end in spans) < last - first:
            return [os.pread(handle, end - begin, begin) for begin, end in spans]
        block = os.pread(handle, last - first, first)
        return [block[begin - first : end - first] for begin, end in spans]

    def _decode(self, data: bytes, target: Frames, shard: str, video_id: str) -> None:
        from PIL import Image

        try:
            with Image.open(io.BytesIO(data)) as image:
                target[...] = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(
                f"{self.path / shard} is damaged at {video_id} ({error}): run the frames stage"
            ) from error

    def verify(self) -> None:
        """Recompute every shard's SHA-256; DataError names those that are damaged or missing."""
        damaged = [
            shard["name"]
            for shard in self.parameters["shards"]
            if not (self.path / shard["name"]).is_file()
            or sha256(self.path / shard["name"]) != shard["sha256"]
        ]
        if damaged:
            raise DataError(
                f"{self.path} is damaged in {', '.join(damaged)}: run the frames stage again,"
                " it rebuilds these alone"
            )

    def _handle(self, shard: str) -> int:
        handle = self._handles.get(shard)
        if handle is None:
            try:
                handle = os.open(self.path / shard, os.O_RDONLY)
            except OSError as error:
                raise DataError(f"{self.path / shard}: {error.strerror}") from error
            handle = self._handles.setdefault(shard, handle)
        return handle

    def _find(self, video_id: str) -> int | None:
        row = bisect_left(range(len(self._ids)), video_id, key=lambda i: self._ids[i].as_py())
        return row if row < len(self._ids) and self._ids[row].as_py() == video_id else None

    def _row(self, video_id: str) -> int:
        row = self._find(video_id)
        if row is None:
            raise DataError(f"{self.path}: there is no video {video_id!r} in this frame cache")
        return row
