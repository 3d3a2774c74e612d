"""A model without weights, for tests: a "video" is a file of text, and its hash makes its feature."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from vidprompt.system.errors import DataError

WIDTH = 16
READ: list[str] = []  # names of the files that were decoded in this process


def feature_of(text: str) -> np.ndarray:
    """The feature (WIDTH,) of a file's text, or of a sentence, of unit length."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    feature = np.random.default_rng(seed).standard_normal(WIDTH)
    return (feature / np.linalg.norm(feature)).astype(np.float32)


@dataclass(frozen=True)
class FakeInput:
    """Decodes; `seconds` for each file."""

    seconds: float = 0.0

    def decode(self, path: Path | str, max_pixels: int = 0) -> str:
        time.sleep(self.seconds)
        READ.append(Path(path).name)
        text = Path(path).read_text("utf-8")
        if "broken" in text:
            raise DataError(f"{path}: it cannot be read as a video")
        return text


@dataclass
class FakeModel:
    """As `prediction.model.Model`, as far as an index uses it."""

    name: str = "fake"
    identity: str = "fake-identity"
    width: int = WIDTH
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    input: FakeInput = field(default_factory=FakeInput)

    def cut(self, decoded: str, video: Path | str) -> Any:
        clips = torch.from_numpy(feature_of(decoded))[None]
        return SimpleNamespace(clips=clips, duration=float(len(decoded)))

    def encode(self, clips: torch.Tensor) -> np.ndarray:
        return clips.numpy() * 3

    def windows(self, video: Path, window: float, stride: float, **_: Any) -> Iterator[Any]:
        text = self.input.decode(video)
        for number, word in enumerate(text.split()):
            start = number * stride
            yield SimpleNamespace(start=start, end=start + window, feature=feature_of(word))

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([feature_of(text) for text in texts])

    def embed(self, videos: Sequence[str]) -> Any:
        features = np.stack([feature_of(Path(video).read_text("utf-8")) for video in videos])
        return SimpleNamespace(features=features, failures=())


def write_videos(folder: Path, texts: dict[str, str]) -> Path:
    """Files of these names (without .mp4) and texts."""
    for name, text in texts.items():
        path = folder / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder
