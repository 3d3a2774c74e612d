"""`TrainingClips`: a dataset of random training clips, and its loader."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from vidprompt.data.clips.augmentation import Augmentation, training_view
from vidprompt.data.clips.batch_plan import BatchPlan
from vidprompt.data.clips.loading import load_batches
from vidprompt.data.clips.reading import (
    cached_rows,
    decode_jpegs,
    one_row_a_length,
    read_clip,
    to_clip,
)
from vidprompt.data.frames.cache import FrameCache
from vidprompt.data.frames.sampling import TRAINING_SAMPLINGS, clip_rng, training_frames
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.suggestions import check_choice


class TrainingClips(Dataset):
    """Random clips of training videos, indexed by (epoch, index of the video), as batch plans do.

    An item is (clip uint8 (T, 3, size, size), label), or an `EncodedClip` with `encoded`: stored frames for
    `decode_batch` to decode on another device. A GPU's decoder gives other pixels, by 3 of 255 in the mean.
    The dataset keeps rows instead of names, so that a worker's memory stays small. `sampling`, `stride` and
    `indices`: see `training_frames`.

    Raises DataError for a video that is not in the frame cache, or too few of whose frames are, UserError
    for an unknown sampling.
    """

    def __init__(
        self,
        cache: Path | str,
        videos: Sequence[str],
        labels: Sequence[int],
        *,
        num_frames: int,
        size: int,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        sampling: str = "segment",
        stride: int = 1,
        indices: str = "released",
        encoded: bool = False,
    ) -> None:
        check_choice("sampling", sampling, TRAINING_SAMPLINGS)
        self.cache = FrameCache(cache)
        self.rows = cached_rows(self.cache, videos)
        self.labels = np.asarray(labels, np.int64)
        self.num_frames, self.size, self.seed = num_frames, size, seed
        self.augmentation = augmentation or Augmentation()
        self.sampling, self.stride, self.encoded = sampling, stride, encoded
        self.indices = indices
        for row in one_row_a_length(self.cache, self.rows):
            self._positions(row, np.random.default_rng(0))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: tuple[int, int]) -> Any:
        epoch, index = item
        row, label = int(self.rows[index]), int(self.labels[index])
        rng = clip_rng(self.seed, epoch, self.cache.video_id(row))
        positions = self._positions(row, rng)
        if self.encoded:
            wanted, inverse = np.unique(positions, return_inverse=True)
            return EncodedClip(self.cache.read_encoded(row, wanted), inverse, rng, label)
        clip = read_clip(self.cache, row, positions)
        return training_view(clip, self.size, self.augmentation, rng), label

    def _positions(self, row: int, rng: np.random.Generator) -> np.ndarray:
        """Where the frames of a clip are in the cache, (T,). Raises DataError."""
        try:
            numbers = training_frames(
                self.sampling,
                self.cache.num_source_frames(row),
                self.num_frames,
                self.stride,
                rng,
                cached=self.cache.source_frames(row),
                indices=self.indices,
            )
        except DataError as error:
            raise DataError(f"{self.cache.video_id(row)}: {error}") from error
        return self.cache.positions(row, numbers)


class EncodedClip(NamedTuple):
    """A training clip before decoding: JPEG frames, their order in the clip, and its random generator."""

    frames: list[bytes]
    order: np.ndarray
    rng: np.random.Generator
    label: int


def decode_batch(
    batch: Sequence[EncodedClip], size: int, augmentation: Augmentation, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode and augment clips on a device: uint8 (B, T, 3, size, size), labels (B,).

    Where the device is a GPU, torchvision decodes JPEG there. Raises UserError for other formats.
    """
    clips = []
    for item in batch:
        try:
            frames = decode_jpegs(item.frames, device)
        except RuntimeError as error:
            raise UserError(
                f"frames cannot be decoded on {device} ({str(error).splitlines()[0]}): "
                "set trainer.decode to workers"
            ) from error
        clip = to_clip(frames[torch.from_numpy(item.order).to(device)])
        clips.append(training_view(clip, size, augmentation, item.rng))
    return torch.stack(clips), torch.tensor([item.label for item in batch])


def batches(
    clips: TrainingClips, plan: BatchPlan, workers: int, device: torch.device | None = None
) -> Generator[tuple[torch.Tensor, torch.Tensor], None, None]:
    """Load the planned batches in order: clips uint8 (B, T, 3, size, size), labels (B,).

    `workers`: loading processes, which end when the generator is closed. Encoded clips are decoded on
    `device`. Raises DataError as the clips do.
    """
    item_bytes = 0 if clips.encoded else clips.num_frames * 3 * clips.size**2
    loaded = load_batches(
        clips,
        plan,
        workers,
        pin_memory=torch.cuda.is_available(),
        collate=list if clips.encoded else None,
        batch_bytes=item_bytes * len(plan.batch(0)) if workers else 0,
    )
    with closing(loaded):
        for batch in loaded:
            if clips.encoded:
                where = device or torch.device("cpu")
                batch = decode_batch(batch, clips.size, clips.augmentation, where)
            yield batch
