"""Make strips of frames for the page of a dataset: data URIs of pictures from the frame cache."""

from __future__ import annotations

import hashlib
import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprompt.data.frames.cache import FrameCache
from vidprompt.data.frames.sampling import segment_frames
from vidprompt.system.errors import DataError

TALLEST = 96  # pixels; larger frames are shrunk, smaller ones are shown at twice their size
QUALITY = 82


@dataclass(frozen=True)
class Picture:
    """A picture to embed, and the size to show it at."""

    uri: str
    width: int
    height: int
    pixelated: bool


def choose(video_ids: Sequence[str], count: int) -> list[str]:
    """Choose `count` videos by a hash of their ids, independent of the other videos."""
    return sorted(set(video_ids), key=lambda v: hashlib.sha256(v.encode()).hexdigest())[:count]


def strip(
    cache: FrameCache, video_id: str, frames: int, num_pictures: int = 1, mosaic: bool = False
) -> list[Picture]:
    """Evenly spaced frames side by side in `num_pictures` pictures; empty for a video without frames.

    `mosaic` pixelates the upper third of every frame.
    """
    if video_id not in cache:
        return []
    try:
        images = cache.read(video_id, _evenly(cache, video_id, frames))
    except DataError:
        return []
    return pictures_of(
        [pixelated_top(frame) if mosaic else frame for frame in images], num_pictures
    )


def pictures_of(frames: Sequence[NDArray[np.uint8]], num_pictures: int) -> list[Picture]:
    """Frames (H, W, 3) side by side in `num_pictures` pictures."""
    shown = [_shrunk(frame) for frame in frames]
    size = -(-len(shown) // num_pictures)
    return [_encoded(shown[start : start + size]) for start in range(0, len(shown), size)]


def _evenly(cache: FrameCache, video_id: str, count: int) -> NDArray[np.int64]:
    """At most `count` positions in the cache, evenly spaced in the video."""
    cached = cache.source_frames(video_id)
    wanted = segment_frames(cache.num_source_frames(video_id), count)
    return np.unique(np.minimum(np.searchsorted(cached, wanted), len(cached) - 1))


def pixelated_top(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame (H,W,3) with its upper third in squares, six across, which hide a face."""
    from PIL import Image

    height, width = frame.shape[:2]
    top = -(-height // 3)
    block = max(2, width // 6)
    image = Image.fromarray(frame[:top])
    coarse = (max(1, width // block), max(1, top // block))
    small = image.resize(coarse, Image.Resampling.BOX)
    out = frame.copy()
    out[:top] = np.asarray(small.resize((width, top), Image.Resampling.NEAREST))
    return out


def _shrunk(frame: NDArray[np.uint8]) -> Any:
    from PIL import Image

    image = Image.fromarray(frame)
    if image.height <= TALLEST:
        return image
    width = max(1, round(image.width * TALLEST / image.height))
    return image.resize((width, TALLEST), Image.Resampling.LANCZOS)


def _encoded(images: Sequence[Any]) -> Picture:
    """Images of equal size in a row as one WebP, with a transparent line between them."""
    from PIL import Image

    width, height = images[0].size
    row = Image.new("RGBA", ((width + 1) * len(images) - 1, height))
    for i, image in enumerate(images):
        row.paste(image, (i * (width + 1), 0))
    buffer = io.BytesIO()
    row.save(buffer, "WEBP", quality=QUALITY, method=4)
    uri = "data:image/webp;base64," + b64encode(buffer.getvalue()).decode()
    scale = 2 if height < TALLEST else 1
    return Picture(uri, row.width * scale, height * scale, scale == 2)
