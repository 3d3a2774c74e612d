"""Augment whole batches on a device, with the random numbers that loading processes drew.

Without RandAugment a loading process crops and resizes, and the device does the colours: the same values as
`training_view`. RandAugment comes before the crop, so with it whole pictures go to the device; resizing and
moving pictures rounds differently there, by 1 of 255 before later operations. Nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from vidprompt.data.clips.augmentation import (
    ERASED,
    Augmentation,
    Draws,
    Frames,
    as_clip,
    cropped,
    draw,
    wide_hue,
)
from vidprompt.data.clips.batch_operations import Plan, apply_plan, plan_operations
from vidprompt.data.clips.colours import Blend, Jitter, greyscale, jittered
from vidprompt.data.clips.shared_batches import Stack

AT_ONCE = 64  # clips, which bounds the memory of values in float32: some 1.2 GB at 8 × 224 × 224


class DrawnClip(NamedTuple):
    """A training clip before the device's part: pixels uint8 (T, H, W, 3), and what was drawn."""

    pixels: torch.Tensor
    draws: Draws
    label: int


class ClipGroup(NamedTuple):
    """Clips of a batch whose pictures have one size."""

    rows: torch.Tensor  # their places in the batch, int64 (n,)
    pixels: torch.Tensor  # uint8 (n, T, H, W, 3)
    plan: Plan | None  # RandAugment's
    boxes: torch.Tensor | None  # crops (n, 4): top, left, height, width; None: cropped and resized


class DrawnBatch(NamedTuple):
    """A batch of clips and what was drawn for each, in tensors; None: nothing, or not for any clip."""

    groups: list[ClipGroup]
    flip: torch.Tensor | None  # bool (B,)
    jitter: (
        torch.Tensor | None
    )  # float32 (B, T, 6): factors and complements as in `Jitter`, and the hue
    channels: torch.Tensor | None  # int64 (B, 3)
    greyscale: torch.Tensor | None  # bool (B,)
    erased: torch.Tensor | None  # int64 (B, 4); without height: nothing
    labels: torch.Tensor  # int64 (B,)


def drawn_clip(
    frames: Frames, label: int, size: int, augmentation: Augmentation, rng: np.random.Generator
) -> DrawnClip:
    """A loading process's part for a clip uint8 (T, 3, H, W): draw, and crop unless RandAugment is first."""
    height, width = frames[0].shape[-2:]
    draws = draw(len(frames), height, width, size, augmentation, rng)
    whole = augmentation.rand_augment is not None
    clip = as_clip(frames) if whole else cropped(frames, draws.box, size)
    return DrawnClip(clip.permute(0, 2, 3, 1).contiguous(), draws, label)


def collate_drawn(
    augmentation: Augmentation, clips: Sequence[DrawnClip], stack: Stack
) -> DrawnBatch:
    """Put clips together, grouped by the size of their pictures."""
    draws, whole = [clip.draws for clip in clips], augmentation.rand_augment is not None
    of_size: dict[tuple[int, int], list[int]] = {}
    for row, clip in enumerate(clips):
        height, width = clip.pixels.shape[1:3]
        of_size.setdefault((height, width), []).append(row)
    groups = [
        ClipGroup(
            torch.tensor(rows),
            stack([clips[row].pixels for row in rows]),
            plan_operations([draws[row].operations for row in rows], *size) if whole else None,
            torch.tensor([draws[row].box for row in rows]) if whole else None,
        )
        for size, rows in of_size.items()
    ]
    frames = len(clips[0].pixels)
    flip, grey = ([getattr(one, name) for one in draws] for name in ("flip", "greyscale"))
    jitter, channels, erased = (
        any(getattr(one, name) is not None for one in draws)
        for name in ("jitter", "channels", "erased")
    )
    return DrawnBatch(
        groups,
        torch.tensor(flip) if any(flip) else None,
        torch.stack([_factors(one, frames) for one in draws]) if jitter else None,
        torch.tensor([_order(one) for one in draws]) if channels else None,
        torch.tensor(grey) if any(grey) else None,
        torch.tensor([one.erased or (0, 0, 0, 0) for one in draws]) if erased else None,
        torch.tensor([clip.label for clip in clips]),
    )


def _order(draws: Draws) -> list[int]:
    return [0, 1, 2] if draws.channels is None else draws.channels.tolist()


def _factors(draws: Draws, frames: int) -> torch.Tensor:
    """The jitter of each frame, float32 (T, 6); complements are rounded once, as on a CPU."""
    spreads = np.zeros((1, 4)) if draws.jitter is None else draws.jitter
    brightness, contrast, saturation = (1 + spreads[:, i] for i in range(3))
    columns = [brightness, contrast, 1 - contrast, saturation, 1 - saturation, spreads[:, 3]]
    return torch.from_numpy(np.stack(columns, 1).astype(np.float32)).expand(frames, -1)


def augment_batch(
    batch: DrawnBatch, size: int, augmentation: Augmentation, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do on a device what is left: clips uint8 (B, T, 3, size, size) and labels (B,), both there."""
    moved: DrawnBatch = to_device(batch, device)
    count, wide = len(batch.labels), wide_hue(augmentation)
    clips = _assembled(moved.groups, count, size)
    for start in range(0, count, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        clips[part] = _coloured(clips[part], moved, part, wide)
    return clips, moved.labels


def to_device(value: Any, device: torch.device) -> Any:
    """Tensors in lists and named tuples, on the device; the CPU does not wait for the copies."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(one, device) for one in value))
    if isinstance(value, list):
        return [to_device(one, device) for one in value]
    return value


def _assembled(groups: Sequence[ClipGroup], count: int, size: int) -> torch.Tensor:
    """The clips of all groups after RandAugment and crop, uint8 (count, T, 3, size, size)."""
    first = groups[0].pixels
    clips = first.new_empty((count, first.shape[1], 3, size, size))
    for group in groups:
        pixels = group.pixels.permute(0, 1, 4, 2, 3)
        if group.plan is not None:
            pixels = apply_plan(pixels.contiguous(), group.plan)
        if group.boxes is not None:
            boxes = group.boxes.split(AT_ONCE)
            parts = zip(pixels.split(AT_ONCE), boxes, strict=True)
            pixels = torch.cat([resized(part, own, size) for part, own in parts])
        clips.index_copy_(0, group.rows, pixels)
    return clips


def _coloured(clips: torch.Tensor, batch: DrawnBatch, part: slice, wide: bool) -> torch.Tensor:
    """Some clips (n, T, 3, S, S) of the batch after all that follows the crop, in the order of `Draws`."""
    if batch.flip is not None:
        clips = torch.where(_by_clip(batch.flip[part]), clips.flip(-1), clips)
    if batch.jitter is not None:
        factors = batch.jitter[part, :, None, None, None].unbind(-1)
        clips = jittered(
            clips,
            Jitter(factors[0], Blend(*factors[1:3]), Blend(*factors[3:5]), factors[5]),
            wide=wide,
        )
    if batch.channels is not None:
        clips = clips.gather(2, batch.channels[part, None, :, None, None].expand(clips.shape))
    if batch.greyscale is not None:
        clips = torch.where(_by_clip(batch.greyscale[part]), greyscale(clips), clips)
    if batch.erased is not None:
        clips = _erased(clips, batch.erased[part])
    return clips


def _by_clip(values: torch.Tensor) -> torch.Tensor:
    """(n,) → (n, 1, 1, 1, 1)."""
    return values[:, None, None, None, None]


def _erased(clips: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    places = torch.arange(clips.shape[-1], device=clips.device)
    top, left, height, width = (one[:, None] for one in boxes.unbind(1))
    rows = (places >= top) & (places < top + height)
    columns = (places >= left) & (places < left + width)
    inside = (rows[:, :, None] & columns[:, None])[:, None, None]
    grey = torch.tensor(ERASED, dtype=torch.uint8).to(clips.device, non_blocking=True)
    return torch.where(inside, grey[:, None, None], clips)


def resized(pixels: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
    """The boxes (n, 4) of clips uint8 (n, T, 3, H, W), resized to uint8 (n, T, 3, size, size).

    Bilinear with antialiasing, as two products with the weights of each clip: rows, then columns, rounded
    to 8 bits after each as on a CPU.
    """
    (n, t, _, height, width), boxes = pixels.shape, boxes.to(torch.float32)
    across = _weights(boxes[:, 1], boxes[:, 3], width, size)  # (n, size, W)
    down = _weights(boxes[:, 0], boxes[:, 2], height, size)
    planes = pixels.reshape(n, t * 3 * height, width).to(torch.float32)
    narrow = torch.bmm(planes, across.transpose(1, 2)).round_().clamp_(0, 255)
    narrow = narrow.reshape(n, t * 3, height, size)
    out = torch.matmul(down[:, None], narrow).round_().clamp_(0, 255)
    return out.to(torch.uint8).reshape(n, t, 3, size, size)


def _weights(start: torch.Tensor, length: torch.Tensor, extent: int, size: int) -> torch.Tensor:
    """Shares (n, size, extent) that the places of a line have in each of `size` places of its part.

    The part is `length` (n,) long from `start` (n,) on. A triangle around each place's middle, as wide as two
    places of the coarser of both lines, cut off at the ends of the part.
    """
    device = start.device
    scale = (length / size)[:, None, None]
    middle = (torch.arange(size, device=device, dtype=torch.float32)[:, None] + 0.5) * scale
    places = torch.arange(extent, device=device, dtype=torch.float32) - start[:, None, None]
    weights = (1 - (places + 0.5 - middle).abs() / scale.clamp(min=1)).clamp_(min=0)
    weights = weights * ((places >= 0) & (places < length[:, None, None]))
    return weights / weights.sum(-1, keepdim=True)
