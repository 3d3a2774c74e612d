"""Read clips from the frame cache as tensors, and normalise them for a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.io import ImageReadMode, decode_jpeg

from vidprompt.data.frames.cache import FrameCache
from vidprompt.system.errors import DataError


def to_clip(frames: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Frames uint8 (T, H, W, 3) → a view (T, 3, H, W) of the same memory.

    The memory stays channels last: resizing is several times faster, with equal results.
    """
    return torch.as_tensor(frames).permute(0, 3, 1, 2)


def read_clip(cache: FrameCache, row: int, positions: np.ndarray) -> torch.Tensor:
    """Cached frames of a video as uint8 (T, 3, H, W); positions may repeat and come in any order."""
    return stack_frames(read_frames(cache, row, positions))


def read_frames(cache: FrameCache, row: int, positions: np.ndarray) -> list[torch.Tensor]:
    """As `read_clip`, but each frame by itself, (3, H, W): to crop them before they are put together."""
    if cache.format != "jpeg":
        return list(to_clip(cache.read(row, positions)))
    wanted, inverse = np.unique(positions, return_inverse=True)
    frames = decode_frames(cache.read_encoded(row, wanted))
    return [frames[place] for place in inverse]


def stack_frames(frames: Sequence[torch.Tensor]) -> torch.Tensor:
    """Frames (3, H, W) → (T, 3, H, W), channels last in memory."""
    return torch.stack([frame.permute(1, 2, 0) for frame in frames]).permute(0, 3, 1, 2)


def decode_frames(encoded: Sequence[bytes]) -> list[torch.Tensor]:
    """Decode JPEG by torchvision, equal to Pillow's and faster: uint8 (3, H, W) each, channels last."""
    data = [torch.frombuffer(bytearray(frame), dtype=torch.uint8) for frame in encoded]
    pictures: list[torch.Tensor] = decode_jpeg(data, mode=ImageReadMode.RGB)
    return pictures


def cached_rows(cache: FrameCache, videos: Sequence[str]) -> np.ndarray:
    """Each video's row in the cache, int64 (n,). Raises DataError for a video that is not cached."""
    rows = cache.rows(videos)
    if (rows < 0).any():
        missing = videos[int(np.flatnonzero(rows < 0)[0])]
        raise DataError(f"{missing} is not in the frame cache {cache.path}")
    return rows


def one_row_a_length(cache: FrameCache, rows: np.ndarray) -> list[int]:
    """One of the rows for each number of frames and of cached frames: which are cached follows from these.

    To find out before a run, and quickly, whether all clips can be made.
    """
    lengths = {(cache.num_source_frames(row), cache.num_frames(row)): row for row in rows.tolist()}
    return list(lengths.values())


def normalise(
    clips: torch.Tensor, mean: Sequence[float], std: Sequence[float], device: torch.device
) -> torch.Tensor:
    """(B, T, 3, H, W) in [0, 255] → float32 on the device: to [0, 1], minus `mean`, divided by `std`."""
    scaled = clips.to(device, non_blocking=True).to(torch.float32).div_(255)
    return scaled.sub_(_channels(mean, device)).div_(_channels(std, device))


def _channels(values: Sequence[float], device: torch.device) -> torch.Tensor:
    """A number for each colour, (3, 1, 1); the processor does not wait for the device."""
    return torch.tensor(values).to(device, non_blocking=True)[:, None, None]
