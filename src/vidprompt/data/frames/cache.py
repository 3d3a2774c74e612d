"""Read the frame cache: some small frames of every video, in tar shards with an index.

    shard-00000.tar     one member a video: `<key>.mjpeg`, its JPEG frames one after the other
    shard-00000.json    the same shard's index rows and checksum: what makes a build resumable
    index.arrow         video_id, shard, offset (bytes, of the member's data), lengths (bytes a
                        frame), crc32 (of a frame), source_frames (their numbers in the source),
                        n_frames (of the source), height, width; sorted by video_id, a batch a shard
    frames.json         parameters, format version, shards with SHA-256; written last

The layout is WebDataset's. One member a video instead of one a frame means one tar header instead
of 32 and one contiguous read a clip, and FFmpeg plays the member (with WebP frames it is
`<key>.webps`, which no program plays). Equal inputs give equal bytes, however many workers, machines
and interruptions there were. `vidprompt.data.shards.cache_build` writes the cache.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprompt.system.errors import DataError

Frames = NDArray[np.uint8]  # (n, H, W, 3) RGB
FORMAT_VERSION = 3
INDEX, PARAMETERS = "index.arrow", "frames.json"


class _Batch:
    """A shard's rows of the index, as views into the mapped file."""

    def __init__(self, batch: Any, first_row: int) -> None:
        self.first_row, self.count = first_row, batch.num_rows
        self.ids = batch.column("video_id")
        self.shard = batch.column("shard")[0].as_py()
        self.numbers = {
            name: batch.column(name).to_numpy(zero_copy_only=True)
            for name in ("offset", "n_frames", "height", "width")
        }
        self.starts = batch.column("lengths").offsets.to_numpy(zero_copy_only=True)
        self.frames = {
            name: batch.column(name).values.to_numpy(zero_copy_only=True)
            for name in ("lengths", "crc32", "source_frames")
        }

    def frame_values(self, name: str, row: int) -> NDArray[Any]:
        """The values of a row's frames: `lengths`, `crc32` or `source_frames`."""
        return self.frames[name][self.starts[row] : self.starts[row + 1]]

    def find(self, video_id: str) -> int | None:
        """The row of a video within the batch."""
        row = bisect_left(range(self.count), video_id, key=lambda i: self.ids[i].as_py())
        return row if row < self.count and self.ids[row].as_py() == video_id else None


class FrameCache:
    """Random access to a finished frame cache; cheap to open and to pickle for other processes.

    The index is memory-mapped: processes share it, and each reads only what it looks up. Each process
    opens shards when it first reads them, and reads with `pread`, so forked and threaded readers do not
    interfere. Every frame's checksum is checked when it is read. Raises DataError when the folder holds
    no finished cache.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._handles: dict[str, int] = {}
        self._load()

    def _load(self) -> None:
        import pyarrow as pa

        if not (self.path / PARAMETERS).is_file() or not (self.path / INDEX).is_file():
            raise DataError(f"{self.path} has no finished frame cache: run the frames stage")
        self.parameters: dict[str, Any] = json.loads((self.path / PARAMETERS).read_text("utf-8"))
        version = self.parameters.get("version")
        if version != FORMAT_VERSION:
            raise DataError(
                f"{self.path} is a frame cache of format {version}, this program reads"
                f" {FORMAT_VERSION}: run the frames stage again"
            )
        reader = pa.ipc.open_file(pa.memory_map(str(self.path / INDEX)))
        self._batches: list[_Batch] = []
        for number in range(reader.num_record_batches):
            self._batches.append(_Batch(reader.get_batch(number), len(self)))
        self._firsts = [batch.ids[0].as_py() for batch in self._batches]
        self._first_rows = [batch.first_row for batch in self._batches]

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

    @property
    def format(self) -> str:
        """`jpeg` or `webp`."""
        return str(self.parameters["settings"]["format"])

    def __len__(self) -> int:
        return self._batches[-1].first_row + self._batches[-1].count if self._batches else 0

    def __contains__(self, video_id: object) -> bool:
        return isinstance(video_id, str) and self._find(video_id) >= 0

    def rows(self, video_ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each video, int64 (n,); -1 where it is not cached."""
        return np.fromiter((self._find(video_id) for video_id in video_ids), np.int64)

    def shards(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of each row's shard, int64 (n,)."""
        return np.searchsorted(self._first_rows, rows, side="right") - 1

    def video_id(self, row: int) -> str:
        batch, within = self._at(row)
        return str(batch.ids[within].as_py())

    def num_frames(self, video: str | int) -> int:
        """How many frames of the video (an id or a row) are cached."""
        batch, row = self._at(video)
        return int(batch.starts[row + 1] - batch.starts[row])

    def num_source_frames(self, video: str | int) -> int:
        """How many frames the video itself has."""
        batch, row = self._at(video)
        return int(batch.numbers["n_frames"][row])

    def source_frames(self, video: str | int) -> NDArray[np.int64]:
        """The numbers in the video of the frames that are cached, ascending, (n,)."""
        batch, row = self._at(video)
        return batch.frame_values("source_frames", row).astype(np.int64)

    def positions(self, video: str | int, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where frames of the video are in the cache; `numbers` of any shape, in any order, with repeats.

        Raises DataError for a frame that is not cached.
        """
        cached = self.source_frames(video)
        positions = np.searchsorted(cached, numbers)
        absent = cached[np.minimum(positions, len(cached) - 1)] != numbers
        if absent.any():
            raise DataError(
                f"{self._name(video)}: frame {numbers[absent].min()} is needed, and {len(cached)} of "
                f"{self.num_source_frames(video)} are cached: list these clips under `tests` in "
                "params/frames, or set frames=all, and run the frames stage again"
            )
        return positions

    def size(self, video: str | int) -> tuple[int, int]:
        """(height, width) of the cached frames in pixels."""
        batch, row = self._at(video)
        return int(batch.numbers["height"][row]), int(batch.numbers["width"][row])

    def read(self, video: str | int, positions: Sequence[int] | NDArray[np.int64]) -> Frames:
        """Cached frames by position (0 to `num_frames` - 1), uint8 RGB (n, H, W, 3).

        Positions may repeat and come in any order. Raises DataError for a position out of range, an
        unknown video, and frames that are damaged or cannot be read.
        """
        wanted, back = np.unique(np.asarray(positions, dtype=np.int64), return_inverse=True)
        encoded = self.read_encoded(video, wanted)
        frames = np.empty((len(wanted), *self.size(video), 3), dtype=np.uint8)
        for target, data in zip(frames, encoded, strict=True):
            self._decode(data, target, video)
        return frames[back]

    def read_encoded(
        self, video: str | int, positions: Sequence[int] | NDArray[np.int64]
    ) -> list[bytes]:
        """Cached frames as they are stored (JPEG or WebP); positions ascending, each once."""
        batch, row = self._at(video)
        lengths, checksums = batch.frame_values("lengths", row), batch.frame_values("crc32", row)
        wanted = np.asarray(positions, dtype=np.int64)
        if wanted.size == 0:
            raise DataError(f"{self._name(video)}: the list of frames to read is empty")
        if wanted[0] < 0 or wanted[-1] >= len(lengths):
            raise DataError(
                f"{self._name(video)}: position {wanted[0] if wanted[0] < 0 else wanted[-1]} is out"
                f" of range, {len(lengths)} frames are cached"
            )
        ends = np.cumsum(lengths, dtype=np.int64) + int(batch.numbers["offset"][row])
        spans = [(int(ends[i] - lengths[i]), int(ends[i])) for i in wanted]
        encoded = self._bytes(batch.shard, spans)
        for position, data in zip(wanted, encoded, strict=True):
            if zlib.crc32(data) != checksums[position]:
                raise DataError(
                    f"{self.path / batch.shard} is damaged at {self._name(video)}, frame {position}:"
                    " run the frames stage, it rebuilds only this shard"
                )
        return encoded

    def _bytes(self, shard: str, spans: list[tuple[int, int]]) -> list[bytes]:
        """The bytes of ascending spans; in one read when they are most of the bytes between."""
        handle = self._handle(shard)
        first, last = spans[0][0], spans[-1][1]
        if 2 * sum(end - begin for begin, end in spans) < last - first:
            return [os.pread(handle, end - begin, begin) for begin, end in spans]
        block = os.pread(handle, last - first, first)
        return [block[begin - first : end - first] for begin, end in spans]

    def _decode(self, data: bytes, target: Frames, video: str | int) -> None:
        from PIL import Image

        try:
            with Image.open(io.BytesIO(data)) as image:
                target[...] = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{self._name(video)}: a frame cannot be decoded: {error}") from error

    def _handle(self, shard: str) -> int:
        handle = self._handles.get(shard)
        if handle is None:
            try:
                handle = os.open(self.path / shard, os.O_RDONLY)
            except OSError as error:
                raise DataError(f"{self.path / shard}: {error.strerror}") from error
            handle = self._handles.setdefault(shard, handle)
        return handle

    def _name(self, video: str | int) -> str:
        return video if isinstance(video, str) else self.video_id(video)

    def _find(self, video_id: str) -> int:
        number = bisect_right(self._firsts, video_id) - 1
        if number < 0:
            return -1
        row = self._batches[number].find(video_id)
        return -1 if row is None else self._batches[number].first_row + row

    def _at(self, video: str | int) -> tuple[_Batch, int]:
        row = self._find(video) if isinstance(video, str) else int(video)
        if not 0 <= row < len(self):
            raise DataError(f"{self.path}: there is no video {video!r} in this frame cache")
        batch = self._batches[bisect_right(self._first_rows, row) - 1]
        return batch, row - batch.first_row
