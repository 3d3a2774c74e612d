"""Features: each (checkpoint, video, view) encoded once, and each prompt set once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from vidprompt.atomic import replacing
from vidprompt.errors import DataError


@dataclass
class Features:
    """Stored features of one checkpoint; see docs/architecture.md."""

    videos: list[str]
    video: np.ndarray  # (N, views, E) float32
    text: dict[str, np.ndarray]  # "<split>/<test>" → (C, P, E) float32
    logit_scale: float

    def __post_init__(self) -> None:
        self._row = {video: row for row, video in enumerate(self.videos)}

    def rows(self, videos: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Positions in `videos` that have features, and their rows here."""
        found = [(i, self._row[v]) for i, v in enumerate(videos) if v in self._row]
        pairs = np.array(found, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]


def write_features(
    folder: Path,
    videos: list[str],
    video: np.ndarray,
    text: Mapping[str, np.ndarray],
    scale: float,
) -> None:
    """Write `features.safetensors` and `index.parquet` atomically."""
    tensors = {"video": np.ascontiguousarray(video), "logit_scale": np.array([scale], np.float32)}
    tensors |= {f"text/{name}": np.ascontiguousarray(value) for name, value in text.items()}
    with replacing(folder / "features.safetensors") as temporary:
        save_file(tensors, temporary)
    with replacing(folder / "index.parquet") as temporary:
        pq.write_table(pa.table({"video_id": videos}), temporary, store_schema=False)


def read_features(folder: Path) -> Features:
    """Read what `write_features` wrote. Raises DataError when it is not there or does not agree."""
    if not (folder / "index.parquet").is_file():
        raise DataError(f"no features in {folder}: run `dvc repro features` first")
    tensors = load_file(folder / "features.safetensors")
    videos = pq.read_table(folder / "index.parquet")["video_id"].to_pylist()
    if len(videos) != len(tensors["video"]):
        raise DataError(f"{folder}: {len(videos)} ids, {len(tensors['video'])} features")
    text = {k.removeprefix("text/"): v for k, v in tensors.items() if k.startswith("text/")}
    return Features(videos, tensors["video"], text, float(tensors["logit_scale"][0]))
