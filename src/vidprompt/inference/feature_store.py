"""Stored features: each (checkpoint, video, view) once, each label set once; read without loading them.

video.safetensors   `video` (N, views, E) float32
index.parquet       video_id, whole: a row a row of `video`; written last
text.safetensors    `000`, `001`, … (C, P, E) float32: the different label sets; `logit_scale` (1)
text.json           <split>/<test> → which of them
made_with.json      what all of it follows from (stages/lineage.py)
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
    """Are a split's videos encoded as whole tracklets, every frame, instead of by views?"""
    return split.id.partition("@")[2] == ALL_FRAMES


class Rows(Protocol):
    """Features of N videos that need not be in memory together; an array of (N, views, E) is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, views, E)."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """The rows in order, one or several at a time."""


@dataclass
class Features:
    """Stored features of one checkpoint; see docs/architecture.md."""

    videos: list[str]
    video: (
        np.ndarray
    )  # (N, views, E) float32; `read_features` maps the file, rows are read when asked for
    text: dict[str, np.ndarray]  # "<split>/<test>" → (C, P, E) float32
    logit_scale: float
    whole: Sequence[bool] = ()  # (N,): of all frames of a tracklet (in every view); () none
    made_with: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        whole = self.whole if len(self.whole) else [False] * len(self.videos)
        self._by_views: dict[str, int] = {}
        self._whole: dict[str, int] = {}
        for row, (video, all_frames) in enumerate(zip(self.videos, whole, strict=True)):
            (self._whole if all_frames else self._by_views)[video] = row

    def rows(self, videos: list[str], whole: bool | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Positions in `videos` that have features, and their rows here.

        `whole`: of whole tracklets or not; None takes what there is, by views where there is both.
        """
        tables = {None: self._whole | self._by_views, True: self._whole, False: self._by_views}
        row = tables[whole]
        found = [(i, row[v]) for i, v in enumerate(videos) if v in row]
        pairs = np.array(found, np.int64).reshape(-1, 2)
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
    """Replace a folder's features; without the index, which is last, there are none. `made_with` says
    what they follow from, for who reads them.

    Equal content gives equal bytes. Of `video` only what it gives at a time is in memory.
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
    """A safetensors file by its specification, because the library wants the whole array at once."""
    shape = [int(side) for side in video.shape]
    size = 4 * int(np.prod(shape))
    about = {"video": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    header = json.dumps(about, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    written = 0
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for rows in video:
            written += file.write(np.ascontiguousarray(rows, "<f4").data)
        if written != size:
            raise ValueError(f"{written} bytes of features for {shape}")


def _map_video(path: Path) -> np.ndarray:
    """(N, views, E), mapped and read-only."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size:
            raise ValueError("its header is longer than the file")
        about: dict[str, Any] = json.loads(file.read(length))["video"]
    begin = 8 + length
    if path.stat().st_size != begin + about["data_offsets"][1]:
        raise ValueError("it is not as long as it says")
    # a plain array over the map: rows taken from it are arrays like any other
    return np.asarray(np.memmap(path, "<f4", "r", begin, tuple(about["shape"])))


def read_features(folder: Path) -> Features:
    """What `write_features` wrote; video features are mapped, not read.

    Raises DataError when they are not there, damaged, or do not agree.
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
