"""Clips for a model: from the frame cache to normalised tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from vidprompt.data.frames import FrameCache
from vidprompt.data.sampling import Batch, clip_rng, segment_frames


@dataclass(frozen=True)
class Augmentation:
    """What training does to a clip; the same for all of its frames.

    `scales`: multi-scale crop, sides as shares of the short side. `flip` must be off where left and
    right are different classes. `jitter`: probability of colour jitter; `jitter_strength`: how much of
    brightness, contrast, saturation and hue (hue costs more than all the rest). `channels`: probability
    of shuffling the colour channels. `greyscale`: probability.
    """

    scales: Sequence[float] = (1.0,)
    flip: bool = False
    jitter: float = 0.0
    jitter_strength: Sequence[float] = (0.4, 0.4, 0.2, 0.1)
    channels: float = 0.0
    greyscale: float = 0.0


def to_clip(frames: np.ndarray) -> torch.Tensor:
    """uint8 (T, H, W, 3) → uint8 (T, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))


def test_view(clip: torch.Tensor, size: int) -> torch.Tensor:
    """Short side to `size`, then a centre crop: uint8 (T, 3, size, size)."""
    height, width = clip.shape[-2:]
    if min(height, width) != size:
        clip = F.resize(clip, [size], antialias=True)
    return F.center_crop(clip, [size, size])


def training_view(
    clip: torch.Tensor, size: int, augmentation: Augmentation, rng: np.random.Generator
) -> torch.Tensor:
    """A random crop (and flip and colours): uint8 (T, 3, size, size)."""
    height, width = clip.shape[-2:]
    side = round(min(height, width) * float(rng.choice(augmentation.scales)))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    clip = clip[..., top : top + side, left : left + side]
    if side != size:
        clip = F.resize(clip, [size, size], antialias=True)
    if augmentation.flip and rng.random() < 0.5:
        clip = clip.flip(-1)
    if augmentation.jitter and rng.random() < augmentation.jitter:
        spread = rng.uniform(-1, 1, 4) * augmentation.jitter_strength
        clip = F.adjust_brightness(clip, 1 + spread[0])
        clip = F.adjust_contrast(clip, 1 + spread[1])
        clip = F.adjust_saturation(clip, 1 + spread[2])
        if spread[3]:
            clip = F.adjust_hue(clip, spread[3])
    if augmentation.channels and rng.random() < augmentation.channels:
        clip = clip[:, torch.from_numpy(rng.permutation(3))]
    if augmentation.greyscale and rng.random() < augmentation.greyscale:
        clip = v2.Grayscale(3)(clip)
    return clip


class Clips(Dataset):
    """One clip a video. Items are (epoch, index) in training, index at test."""

    def __init__(
        self,
        cache: str,
        videos: Sequence[str],
        labels: Sequence[int],
        *,
        num_frames: int,
        size: int,
        seed: int = 0,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.cache = FrameCache(cache)
        self.videos, self.labels = list(videos), list(labels)
        self.num_frames, self.size, self.seed = num_frames, size, seed
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[torch.Tensor, int]:
        epoch, index = item if isinstance(item, tuple) else (0, item)
        video = self.videos[index]
        available = self.cache.num_frames(video)
        if self.augmentation is None:
            positions = segment_frames(available, self.num_frames)
            clip = test_view(to_clip(self.cache.read(video, positions)), self.size)
        else:
            rng = clip_rng(self.seed, epoch, video)
            positions = segment_frames(available, self.num_frames, rng=rng)
            clip = to_clip(self.cache.read(video, positions))
            clip = training_view(clip, self.size, self.augmentation, rng)
        return clip, self.labels[index]


def batches(
    clips: Clips, plan: Sequence[Batch], workers: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The planned batches, in order: uint8 (B, T, 3, size, size), labels (B,)."""
    loader = DataLoader(
        clips,
        batch_sampler=plan,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=bool(workers),
    )
    yield from loader


def normalise(
    clips: torch.Tensor, mean: Sequence[float], std: Sequence[float], device: torch.device
) -> torch.Tensor:
    """uint8 (B, T, 3, H, W) → float32 on the device, normalised."""
    shape = (1, 1, 3, 1, 1)
    scaled = clips.to(device, torch.float32).div_(255)
    centre = torch.tensor(mean, device=device).reshape(shape)
    return (scaled - centre) / torch.tensor(std, device=device).reshape(shape)
