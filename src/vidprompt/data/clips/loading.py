"""Clips for a model: from the frame cache to normalised tensors."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from vidprompt.data.clips.batch_plan import BatchPlan
from vidprompt.data.clips.crops import multi_scale_box, resized_box
from vidprompt.data.clips.rand_augment import RandAugment, rand_augment
from vidprompt.data.frames.cache import FrameCache
from vidprompt.data.frames.sampling import (
    TRAINING_SAMPLINGS,
    Views,
    clip_rng,
    tracklet_clips,
    training_frames,
)
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.suggestions import check_choice


@dataclass(frozen=True)
class Augmentation:
    """What training does to a clip; the same for all of its frames, in this order.

    `rand_augment`: numbers of RandAugment, on whole pictures. `scales`, `distort`, `fixed_places`:
    multi-scale crop (see multi_scale_box); or, in its place, `area` and `ratio` (see resized_box).
    `flip` must be off where left and right are different classes. `jitter`: probability of colour
    jitter; `jitter_strength`: how much of brightness, contrast, saturation and hue (hue costs more
    than all the rest); `jitter_by_frame`: drawn anew for every frame, as EZ-CLIP's released code does.
    `channels`: probability of shuffling the colour channels. `greyscale`: probability.

    Raises UserError for a range that is none.
    """

    rand_augment: Mapping[str, Any] | None = None
    scales: Sequence[float] = (1.0,)
    distort: int = 0
    fixed_places: bool = False
    area: Sequence[float] | None = None
    ratio: Sequence[float] = (3 / 4, 4 / 3)
    flip: bool = False
    jitter: float = 0.0
    jitter_strength: Sequence[float] = (0.4, 0.4, 0.2, 0.1)
    jitter_by_frame: bool = False
    channels: float = 0.0
    greyscale: float = 0.0

    def __post_init__(self) -> None:
        if self.rand_augment is not None:
            RandAugment.of(self.rand_augment)
        for name, values, most in (("area", self.area, 1.0), ("ratio", self.ratio, np.inf)):
            fine = values is None or (len(values) == 2 and 0 < values[0] <= values[1] <= most)
            if not fine:
                raise UserError(f"augmentation.{name} is a smallest and a largest, not {values}")


def to_clip(frames: np.ndarray | torch.Tensor) -> torch.Tensor:
    """uint8 (T, H, W, 3) → uint8 (T, 3, H, W) of the same memory.

    Pixels stay together (channels last): so resizing is several times faster, with equal results.
    """
    return torch.as_tensor(frames).permute(0, 3, 1, 2)


def read_clip(cache: FrameCache, row: int, positions: np.ndarray) -> torch.Tensor:
    """Cached frames of a video as uint8 (T, 3, H, W); positions may repeat and come in any order."""
    wanted, back = np.unique(positions, return_inverse=True)
    if cache.format != "jpeg":
        return to_clip(cache.read(row, positions))
    encoded = cache.read_encoded(row, wanted)
    frames = _decoded(encoded, torch.device("cpu"))
    if (np.diff(positions) <= 0).any():
        frames = frames[torch.from_numpy(back)]
    return to_clip(frames)


def _decoded(encoded: Sequence[bytes], device: torch.device) -> torch.Tensor:
    """JPEG → uint8 (n, H, W, 3), by torchvision: on a CPU the same as PIL's, in less time."""
    data = [torch.frombuffer(bytearray(frame), dtype=torch.uint8) for frame in encoded]
    pictures = decode_jpeg(data, mode=ImageReadMode.RGB, device=device)
    return torch.stack([picture.permute(1, 2, 0) for picture in pictures])


def spatial_crops(clip: torch.Tensor, size: int, crops: int = 1) -> torch.Tensor:
    """Short side to `size`, then crops: uint8 (crops, T, 3, size, size).

    1: the centre; 3: the beginning, middle and end of the longer side.
    """
    height, width = clip.shape[-2:]
    if min(height, width) != size:
        clip = F.resize(clip, [size], antialias=True)
        height, width = clip.shape[-2:]
    if crops == 1:
        return F.center_crop(clip, [size, size])[None]
    rooms = height - size, width - size
    places = [(round(rooms[0] * k / 2), round(rooms[1] * k / 2)) for k in range(crops)]
    return torch.stack([clip[..., y : y + size, x : x + size] for y, x in places])


def training_view(
    clip: torch.Tensor, size: int, augmentation: Augmentation, rng: np.random.Generator
) -> torch.Tensor:
    """A random crop (and flip and colours): uint8 (T, 3, size, size)."""
    if augmentation.rand_augment is not None:
        clip = rand_augment(clip, RandAugment.of(augmentation.rand_augment), rng)
    top, left, height, width = _crop_box(clip, augmentation, rng)
    clip = clip[..., top : top + height, left : left + width]
    if (height, width) != (size, size):
        clip = F.resize(clip, [size, size], antialias=True)
    if augmentation.flip and rng.random() < 0.5:
        clip = clip.flip(-1)
    if augmentation.jitter and rng.random() < augmentation.jitter:
        strength = augmentation.jitter_strength
        if augmentation.jitter_by_frame:
            clip = torch.cat([_jittered(frame, strength, rng) for frame in clip.split(1)])
        else:
            clip = _jittered(clip, strength, rng)
    if augmentation.channels and rng.random() < augmentation.channels:
        clip = clip[:, torch.from_numpy(rng.permutation(3))]
    if augmentation.greyscale and rng.random() < augmentation.greyscale:
        clip = v2.Grayscale(3)(clip)
    return clip


def _crop_box(
    clip: torch.Tensor, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    height, width = clip.shape[-2:]
    if augmentation.area is not None:
        area, ratio = augmentation.area, augmentation.ratio
        return resized_box(height, width, rng, area=area, ratio=ratio)
    return multi_scale_box(
        height,
        width,
        rng,
        scales=augmentation.scales,
        distort=augmentation.distort,
        fixed_places=augmentation.fixed_places,
    )


def _jittered(
    clip: torch.Tensor, strength: Sequence[float], rng: np.random.Generator
) -> torch.Tensor:
    spread = rng.uniform(-1, 1, 4) * strength
    clip = F.adjust_brightness(clip, 1 + spread[0])
    clip = F.adjust_contrast(clip, 1 + spread[1])
    clip = F.adjust_saturation(clip, 1 + spread[2])
    return F.adjust_hue(clip, spread[3]) if spread[3] else clip


class Clips(Dataset):
    """Random clips of videos to train on: items are (epoch, index), as batch plans give them.

    Of the videos it keeps rows and labels alone, so that a worker's memory does not grow with names.
    `sampling` and `stride`: see `training_frames`. `encoded`: give frames as they are stored, for
    `decode_batch` to decode elsewhere (on a GPU), with equal results.

    Raises DataError for a video that is not in the frame cache, UserError for an unknown sampling.
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
        encoded: bool = False,
    ) -> None:
        check_choice("sampling", sampling, TRAINING_SAMPLINGS)
        self.cache = FrameCache(cache)
        self.rows = _cached_rows(self.cache, videos)
        self.labels = np.asarray(labels, np.int64)
        self.num_frames, self.size, self.seed = num_frames, size, seed
        self.augmentation = augmentation or Augmentation()
        self.sampling, self.stride, self.encoded = sampling, stride, encoded

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: tuple[int, int]) -> Any:
        epoch, index = item
        row, label = int(self.rows[index]), int(self.labels[index])
        rng = clip_rng(self.seed, epoch, self.cache.video_id(row))
        positions = training_frames(
            self.sampling, self.cache.num_frames(row), self.num_frames, self.stride, rng
        )
        if self.encoded:
            wanted, back = np.unique(positions, return_inverse=True)
            return EncodedClip(self.cache.read_encoded(row, wanted), back, rng, label)
        clip = read_clip(self.cache, row, positions)
        return training_view(clip, self.size, self.augmentation, rng), label


class EncodedClip(NamedTuple):
    """A training clip before it is decoded: JPEG frames, which of them make it, its random numbers."""

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
            frames = _decoded(item.frames, device)
        except RuntimeError as error:
            raise UserError(
                f"frames cannot be decoded on {device} ({str(error).splitlines()[0]}): "
                "set trainer.decode to workers"
            ) from error
        clip = to_clip(frames[torch.from_numpy(item.order).to(device)])
        clips.append(training_view(clip, size, augmentation, item.rng))
    return torch.stack(clips), torch.tensor([item.label for item in batch])


class TestClips(Dataset):
    """Clips of videos to test: item i is a clip, `owner[i]` the number of its video.

    Items are (crops, T, 3, size, size) uint8; those of video v begin at `first[v]`, and `first` ends
    with their number. `views` for all videos, or `whole=True`: all frames in clips
    (re-identification), of the views only the order. Raises DataError for a video that is not in the
    frame cache, and with `whole` for one of which only some frames are there.
    """

    __test__ = False  # no test, whatever pytest thinks

    def __init__(
        self,
        cache: Path | str,
        videos: Sequence[str],
        *,
        num_frames: int,
        size: int,
        views: Views | None = None,
        whole: bool = False,
    ) -> None:
        self.cache = FrameCache(cache)
        self.rows = _cached_rows(self.cache, videos)
        self.num_frames, self.size, self.whole = num_frames, size, whole
        self.views = views or Views()
        self.crops = 1 if whole else self.views.crops
        counts = [self._clips_of(int(row)) for row in self.rows] if whole else self.views.clips
        self.owner = np.repeat(np.arange(len(self.rows)), counts)
        self.first = np.searchsorted(self.owner, np.arange(len(self.rows) + 1))
        self._last = -1, np.empty((0, 0), np.int64)

    def _clips_of(self, row: int) -> int:
        cached, source = self.cache.num_frames(row), self.cache.num_source_frames(row)
        if cached < source:
            raise DataError(
                f"{self.cache.video_id(row)}: {cached} of {source} frames are cached, and all are "
                "asked for: set frames to null for its source in params/frames and cache them again"
            )
        return -(-cached // self.num_frames)

    def _positions(self, video: int) -> np.ndarray:
        """Of all clips of a video, (clips, T): kept, for its clips are asked for one after the other."""
        if self._last[0] != video:
            row = int(self.rows[video])
            available, name = self.cache.num_frames(row), self.cache.video_id(row)
            if self.whole:
                clips = self.views.ordered(tracklet_clips(available, self.num_frames), name)
            else:
                clips = self.views.positions(available, self.num_frames, name)
            self._last = video, clips
        return self._last[1]

    def __len__(self) -> int:
        return len(self.owner)

    def __getitem__(self, item: int) -> torch.Tensor:
        video = int(self.owner[item])
        positions = self._positions(video)[item - self.first[video]]
        clip = read_clip(self.cache, int(self.rows[video]), positions)
        return spatial_crops(clip, self.size, self.crops)


def _cached_rows(cache: FrameCache, videos: Sequence[str]) -> np.ndarray:
    rows = cache.rows(videos)
    if (rows < 0).any():
        missing = videos[int(np.flatnonzero(rows < 0)[0])]
        raise DataError(f"{missing} is not in the frame cache {cache.path}")
    return rows


def _undisturbed(_worker: int) -> None:
    """Signals often go to a whole group of processes: who trains decides when its workers end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def batches(
    clips: Clips, plan: BatchPlan, workers: int, device: torch.device | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The planned batches, in order: uint8 (B, T, 3, size, size), labels (B,).

    Encoded clips are decoded on `device`.
    """
    loader = DataLoader(
        clips,
        batch_sampler=plan,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_undisturbed,
        pin_memory=torch.cuda.is_available(),
        collate_fn=list if clips.encoded else None,
    )
    try:
        for batch in loader:
            if clips.encoded:
                where = device or torch.device("cpu")
                batch = decode_batch(batch, clips.size, clips.augmentation, where)
            yield batch
    except DataError as error:  # of a worker: its sentence stands behind its traceback
        raise DataError(str(error).strip().rpartition("DataError: ")[2]) from error


def normalise(
    clips: torch.Tensor, mean: Sequence[float], std: Sequence[float], device: torch.device
) -> torch.Tensor:
    """uint8 (B, T, 3, H, W) → float32 on the device, normalised."""
    shape = (1, 1, 3, 1, 1)
    scaled = clips.to(device, non_blocking=True).to(torch.float32).div_(255)
    centre = torch.tensor(mean, device=device).reshape(shape)
    return scaled.sub_(centre).div_(torch.tensor(std, device=device).reshape(shape))
