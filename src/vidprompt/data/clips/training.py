"""`TrainingClips`: a dataset of random training clips, and its loader."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from vidprompt.data.clips.augmentation import Augmentation, training_view
from vidprompt.data.clips.batch_augmentation import augment_batch, collate_drawn, drawn_clip
from vidprompt.data.clips.batch_plan import BatchPlan
from vidprompt.data.clips.loading import load_batches
from vidprompt.data.clips.reading import cached_rows, one_row_a_length, read_frames
from vidprompt.data.clips.shared_batches import Stack
from vidprompt.data.frames.cache import FrameCache
from vidprompt.data.frames.sampling import TRAINING_SAMPLINGS, clip_rng, training_frames
from vidprompt.system.errors import DataError
from vidprompt.system.suggestions import check_choice


class TrainingClips(Dataset):
    """Random clips of training videos, indexed by (epoch, index of the video), as batch plans do.

    An item is (clip uint8 (T, 3, size, size), label), or with `drawn` a `DrawnClip`, which `augment_batch`
    finishes on a device. The dataset keeps rows instead of names, so that a worker's memory stays small.
    `sampling`, `stride` and `indices`: see `training_frames`.

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
        drawn: bool = False,
    ) -> None:
        check_choice("sampling", sampling, TRAINING_SAMPLINGS)
        self.cache = FrameCache(cache)
        self.rows = cached_rows(self.cache, videos)
        self.labels = np.asarray(labels, np.int64)
        self.num_frames, self.size, self.seed = num_frames, size, seed
        self.augmentation = augmentation or Augmentation()
        self.sampling, self.stride, self.drawn = sampling, stride, drawn
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
        frames = read_frames(self.cache, row, positions)
        if self.drawn:
            return drawn_clip(frames, label, self.size, self.augmentation, rng)
        return training_view(frames, self.size, self.augmentation, rng), label

    @property
    def item_bytes(self) -> int:
        """Bytes of a clip's pixels as a loading process passes it on; of whole pictures, a large one's."""
        pixels = self.size**2
        if self.drawn and self.augmentation.rand_augment is not None:
            some = self.rows[:: max(1, len(self.rows) // 1000)].tolist()
            pixels = max(height * width for height, width in map(self.cache.size, some))
        return self.num_frames * 3 * pixels

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


def batches(
    clips: TrainingClips, plan: BatchPlan, workers: int, device: torch.device | None = None
) -> Generator[tuple[torch.Tensor, torch.Tensor], None, None]:
    """Load the planned batches in order: clips uint8 (B, T, 3, size, size), labels (B,).

    `workers`: loading processes, which end when the generator is closed. A batch that they loaded changes
    when the next one is asked for: its memory is used again. Drawn clips are augmented on `device` (default:
    the CPU), where their batches then are. Raises DataError as the clips do.
    """
    loaded = load_batches(
        clips,
        plan,
        workers,
        collate=partial(collate_drawn, clips.augmentation) if clips.drawn else _collate,
        pin_memory=torch.cuda.is_available(),
        batch_bytes=clips.item_bytes * len(plan.batch(0)) if workers else 0,
    )
    with closing(loaded):
        for batch in loaded:
            if clips.drawn:
                where = device or torch.device("cpu")
                batch = augment_batch(batch, clips.size, clips.augmentation, where)
            yield batch


def _collate(
    items: Sequence[tuple[torch.Tensor, int]], stack: Stack
) -> tuple[torch.Tensor, torch.Tensor]:
    return stack([clip for clip, _ in items]), torch.tensor([label for _, label in items])
