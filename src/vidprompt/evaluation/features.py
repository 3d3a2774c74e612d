"""Features: each (checkpoint, video, view) encoded once, and each prompt set once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from vidprompt.atomic import replacing
from vidprompt.data.loading import Clips, normalise
from vidprompt.errors import DataError
from vidprompt.models.video_clip import VideoCLIP
from vidprompt.progress import Progress


@dataclass
class Features:
    """Stored features of one checkpoint; see docs/architecture.md."""

    videos: list[str]
    video: np.ndarray  # (N, views, E) float32
    text: dict[str, np.ndarray]  # "<split>/<test>" → (C, P, E) float32
    logit_scale: float

    def rows(self, videos: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Positions in `videos` that have features, and their rows here."""
        where = {video: row for row, video in enumerate(self.videos)}
        found = [(i, where[v]) for i, v in enumerate(videos) if v in where]
        pairs = np.array(found, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]


@torch.inference_mode()
def encode_videos(
    model: VideoCLIP, clips: Clips, *, batch_size: int, device: torch.device, progress: Progress
) -> torch.Tensor:
    """Video features (N, 1, E) of the centre view of every clip, in order, not normalised."""
    model.eval().to(device)
    parts = []
    for frames, _ in DataLoader(clips, batch_size=batch_size):
        video = normalise(frames, model.backbone.mean, model.backbone.std, device)
        parts.append(model.encode_video(video)[1].float().cpu())
        progress.advance(len(frames))
    return torch.cat(parts)[:, None]


def write_features(
    folder: Path,
    videos: list[str],
    video: torch.Tensor,
    text: Mapping[str, torch.Tensor],
    scale: float,
) -> None:
    """Write `features.safetensors` and `index.parquet` atomically."""
    tensors = {"video": video.contiguous(), "logit_scale": torch.tensor(scale)}
    tensors |= {f"text/{name}": value.contiguous() for name, value in text.items()}
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
    return Features(videos, tensors["video"], text, float(tensors["logit_scale"]))
