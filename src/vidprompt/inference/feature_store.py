"""Write and read the stored features of a checkpoint: of each video and view, and of each label set.

video.safetensors   `video` (N, views, E) float32
index.parquet       video_id, whole: one row for each of `video`; written last
text.safetensors    `000`, `001`, … (C, P, E) float32: the distinct label sets; `logit_scale` (1,)
text.json           <split>/<test> → the name of its label set
made_with.json      the checkpoint, prompts, views and lists they are made with (pipeline/lineage.py)
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from vidprompt.data.splits.split_file import Split
from vidprompt.files.atomic import replacing, write_json
from vidprompt.system.errors import DataError

ALL_FRAMES = "all-frames"  # in the id of a re-identification split
VIDEO, INDEX, TEXT, TEXT_OF = "video.safetensors", "index.parquet", "text.safetensors", "text.json"
MADE_WITH = "made_with.json"
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError)


def takes_all_frames(split: Split) -> bool:
    """Whether a split's videos are encoded as whole tracklets, every frame, instead of by views."""
    tracklet = split.id.partition("@")[2]
    return tracklet == ALL_FRAMES or tracklet.startswith(f"{ALL_FRAMES}-")


def all_frames(num_frames: int) -> str:
    """What the id of a split says of tracklets that are encoded whole, in clips of `num_frames` frames.

    `all-frames` are clips of 8, as in the field's code; of others the id says the number: `all-frames-4`.
    """
    return ALL_FRAMES if num_frames == 8 else f"{ALL_FRAMES}-{num_frames}"


class Rows(Protocol):
    """Features of N videos that need not fit into memory; an array (N, views, E) is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, views, E)."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """The rows in order: (views, E), or several at a time (n, views, E)."""


@dataclass
class Features:
    """The stored features of one checkpoint; none is L2-normalised."""

    videos: list[str]
    video: np.ndarray  # (N, views, E) float32; `read_features` maps the file into memory
    text: dict[str, np.ndarray]  # "<split>/<test>" → (C, P, E) float32
    logit_scale: float
    whole: Sequence[bool] = ()  # (N,): encoded from all frames (equal in every view); () for none
    made_with: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        whole = self.whole if len(self.whole) else [False] * len(self.videos)
        self._by_views: dict[str, int] = {}
        self._whole: dict[str, int] = {}
        for row, (video, all_frames) in enumerate(zip(self.videos, whole, strict=True)):
            (self._whole if all_frames else self._by_views)[video] = row

    def rows(self, videos: list[str], whole: bool | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Which of `videos` have features: their positions in `videos`, and their rows in `video`.

        `whole`: only features of all frames, or only of views; None takes either, of views first.
        """
        tables = {None: self._whole | self._by_views, True: self._whole, False: self._by_views}
        row = tables[whole]
        stored = [(i, row[v]) for i, v in enumerate(videos) if v in row]
        pairs = np.array(stored, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]


def write_features(
    folder: Path,
    videos: Sequence[str],
    video: Rows | np.ndarray,
    text: Mapping[str, np.ndarray],
    scale: float,
    whole: Sequence[bool] = (),
    made_with: Mapping[str, Any] | None = None,
) -> None:
    """Replace the features in a folder. Without the index, which is written last, there are none.

    Equal content gives equal bytes. Of `video` only what it yields at a time is in memory. `made_with`
    is stored for readers to check (`pipeline.lineage`).
    """
    if len(videos) != video.shape[0]:
        raise ValueError(f"{len(videos)} ids, {video.shape[0]} features")
    shutil.rmtree(folder, ignore_errors=True)
    _write_video(folder / VIDEO, video)
    names: dict[str, str] = {}  # hash of an array → its name
    tensors = {"logit_scale": np.array([scale], np.float32)}
    text_of = {}
    for test in sorted(text):
        array = np.ascontiguousarray(text[test], np.float32)
        key = hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()
        text_of[test] = names.setdefault(key, f"{len(names):03}")
        tensors[text_of[test]] = array
    with replacing(folder / TEXT) as temporary:
        save_file(tensors, temporary)
    write_json(folder / TEXT_OF, text_of)
    write_json(folder / MADE_WITH, dict(made_with or {}))
    flags = whole if len(whole) else [False] * len(videos)
    index = pa.table(
        {"video_id": pa.array(videos, pa.string()), "whole": pa.array(flags, pa.bool_())}
    )
    with replacing(folder / INDEX) as temporary:
        pq.write_table(index, temporary, store_schema=False)


def _write_video(path: Path, video: Rows | np.ndarray) -> None:
    """Write a safetensors file by its specification: the library needs the whole array in memory."""
    shape = [int(side) for side in video.shape]
    size = 4 * int(np.prod(shape))
    tensors = {"video": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    header = json.dumps(tensors, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    written = 0
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for rows in video:
            written += file.write(np.ascontiguousarray(rows, "<f4").data)
        if written != size:
            raise ValueError(f"{written} bytes of features for {shape}")


def _map_video(path: Path) -> np.ndarray:
    """(N, views, E), mapped into memory and read-only."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size:
            raise ValueError("its header is longer than the file")
        tensor: dict[str, Any] = json.loads(file.read(length))["video"]
    begin = 8 + length
    if path.stat().st_size != begin + tensor["data_offsets"][1]:
        raise ValueError("its length is not that of its header")
    # a plain array over the map: rows taken from it are arrays like any other
    return np.asarray(np.memmap(path, "<f4", "r", begin, tuple(tensor["shape"])))


def read_features(folder: Path) -> Features:
    """The features that `write_features` wrote; those of videos are mapped, not read.

    Raises DataError when they are missing or damaged.
    """
    if not (folder / INDEX).is_file():
        raise DataError(f"no features in {folder}: run `dvc repro features` first")
    try:
        index = pq.read_table(folder / INDEX)
        video = _map_video(folder / VIDEO)
        tensors = load_file(folder / TEXT)
        scale = float(tensors["logit_scale"][0])
        names = json.loads((folder / TEXT_OF).read_text("utf-8"))
        text = {test: tensors[name] for test, name in names.items()}
        made_with = dict(json.loads((folder / MADE_WITH).read_text("utf-8")))
        videos, whole = index["video_id"].to_pylist(), index["whole"].to_pylist()
    except (*_DAMAGE, struct.error, SafetensorError) as error:
        raise DataError(f"{folder} is damaged ({error}): run the features stage again") from error
    if len(videos) != len(video):
        raise DataError(f"{folder}: {len(videos)} ids, {len(video)} features")
    return Features(videos, video, text, scale, whole, made_with)
