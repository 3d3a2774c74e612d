"""Batches that a device augments have the pixels that the loading processes would have made of them.

The device here is the CPU: the same functions on whole batches. Colours are equal to the last bit; where
pictures are resized or moved, few pixels differ, by 1 of 255 before later operations.
"""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from vidprompt.data.clips.augmentation import Augmentation, cropped, training_view
from vidprompt.data.clips.batch_augmentation import (
    DrawnBatch,
    augment_batch,
    collate_drawn,
    drawn_clip,
    resized,
)
from vidprompt.data.clips.batch_operations import apply_plan, plan_operations
from vidprompt.data.clips.loading import _as_tensors, _collate_arrays
from vidprompt.data.clips.rand_augment import OPERATIONS, DrawnOperation, apply_operation
from vidprompt.data.clips.shared_batches import stack

SIZE, FRAMES = 32, 3
CPU = torch.device("cpu")
EZ_CLIP: dict[str, Any] = {
    "scales": (1.0, 0.875, 0.75, 0.66), "distort": 1, "fixed_places": True, "flip": True,
    "jitter": 0.8, "jitter_strength": (0.4, 0.4, 0.2, 0.1), "jitter_by_frame": True, "greyscale": 0.2,
}  # fmt: skip
VITA_CLIP: dict[str, Any] = {
    "rand_augment": {"layers": 4, "magnitude": 7, "std": 0.5, "probability": 0.5},
    "area": (0.08, 1.0), "ratio": (0.75, 1.3333),
}  # fmt: skip
REID: dict[str, Any] = {
    "flip": True, "jitter": 0.5, "jitter_strength": (0.4, 0.4, 0.2, 0.0), "channels": 0.4, "erase": 0.5,
}  # fmt: skip


def clip(seed: int, height: int = 40, width: int = 56) -> torch.Tensor:
    """Smooth pictures with noise, uint8 (T, 3, H, W), of interleaved memory as decoders make it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 9 + seed), np.cos(y / 7 - seed), np.sin(x / 5) * np.cos(y / 6)]
    frames = 128 + 80 * np.stack(waves, -1) + rng.normal(0, 6, (FRAMES, height, width, 3))
    return torch.from_numpy(frames.clip(5, 250).astype(np.uint8)).permute(0, 3, 1, 2)


def both(options: dict[str, Any], clips: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch by the device's way, and the clips of the loading processes' way."""
    chosen = Augmentation(**options)
    rngs = [[np.random.default_rng(seed) for seed in range(len(clips))] for _ in range(2)]
    drawn = [
        drawn_clip(one, n, SIZE, chosen, rng)
        for n, (one, rng) in enumerate(zip(clips, rngs[0], strict=True))
    ]
    found, labels = augment_batch(collate_drawn(chosen, drawn, stack), SIZE, chosen, CPU)
    assert labels.tolist() == list(range(len(clips)))
    pairs = zip(clips, rngs[1], strict=True)
    return found, torch.stack([training_view(one, SIZE, chosen, rng) for one, rng in pairs])


def apart(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    assert one.shape == other.shape
    assert one.dtype == other.dtype == torch.uint8
    return (one.int() - other.int()).abs()


@pytest.mark.parametrize("options", [EZ_CLIP, REID, EZ_CLIP | REID, {}])
def test_crops_and_colours_are_equal_to_the_last_bit(options: dict[str, Any]) -> None:
    clips = [clip(seed, *((40, 56), (56, 40))[seed % 3 == 0]) for seed in range(40)]
    found, expected = both(options, clips)
    assert torch.equal(found, expected)
    assert len({one.numpy().tobytes() for one in found}) == 40


def test_rand_augment_and_its_crop_are_nearly_equal() -> None:
    clips = [clip(seed, *((40, 56), (56, 40), (40, 40))[seed % 3]) for seed in range(48)]
    found, expected = both(VITA_CLIP, clips)
    off = apart(found, expected)
    assert (off > 1).float().mean() < 0.01  # operations after a moved picture make more of its 1
    assert off.float().mean() < 0.05


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_that_of_a_single_clip(name: str) -> None:
    drawn = [
        DrawnOperation(name, magnitude, sign)
        for magnitude in (0.0, 3.3, 7.1, 9.9)
        for sign in (1, -1)
    ]
    clips = torch.stack([clip(seed).contiguous() for seed in range(len(drawn) + 1)])
    plan = plan_operations([[one] for one in drawn] + [[]], *clips.shape[-2:])
    assert plan is not None
    expected = [apply_operation(one, own) for one, own in zip(clips[:-1], drawn, strict=True)]
    found = apply_plan(clips.clone(), plan)
    assert torch.equal(found[-1], clips[-1])  # for which nothing was drawn
    moving = name.startswith(("rotate", "shear", "translate"))
    off = apart(found[:-1], torch.stack(expected))
    assert off.max() <= (1 if moving else 0)
    assert off.float().mean() < 1e-3


def test_operations_of_a_clip_keep_their_order() -> None:
    orders = [["invert", "solarise"], ["solarise", "invert"], ["equalise", "posterise", "invert"]]
    drawn = [[DrawnOperation(name, 6.0, 1) for name in own] for own in orders]
    clips = torch.stack([clip(seed).contiguous() for seed in range(3)])
    expected = clips.clone()
    for row, own in enumerate(drawn):
        for one in own:
            expected[row] = apply_operation(expected[row], one)
    plan = plan_operations(drawn, *clips.shape[-2:])
    assert plan is not None
    assert torch.equal(apply_plan(clips, plan), expected)


def test_boxes_are_resized_as_on_the_cpu() -> None:
    boxes = torch.tensor(
        [[0, 0, 40, 56], [3, 5, 17, 40], [8, 2, 32, 32], [39, 55, 1, 1], [0, 9, 40, 9]]
    )
    clips = torch.stack([clip(seed) for seed in range(len(boxes))])
    found = resized(clips, boxes, SIZE)
    expected = [
        cropped(one, tuple(box), SIZE) for one, box in zip(clips, boxes.tolist(), strict=True)
    ]
    off = apart(found, torch.stack(expected))
    assert off.max() <= 1
    assert off.float().mean() < 0.03
    assert torch.equal(found[2], expected[2])  # as large as it is


def test_a_batch_passes_through_pipes() -> None:
    """Without tensors, which would need shared memory."""
    chosen = Augmentation(**VITA_CLIP)
    drawn = [drawn_clip(clip(n), n, SIZE, chosen, np.random.default_rng(n)) for n in range(6)]
    sent = _collate_arrays(partial(collate_drawn, chosen), drawn)
    arrived = _as_tensors(sent)
    assert isinstance(sent, DrawnBatch)
    assert isinstance(sent.groups[0].pixels, np.ndarray)
    one, other = (
        augment_batch(batch, SIZE, chosen, CPU)[0]
        for batch in (arrived, collate_drawn(chosen, drawn, stack))
    )
    assert torch.equal(one, other)
