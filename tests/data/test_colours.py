"""Colours have torchvision's values to the last bit; the hue is within 1 of 255 of the exact one."""

import colorsys

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from vidprompt.data.clips.augmentation import Augmentation, training_view
from vidprompt.data.clips.colours import (
    Blend,
    Jitter,
    greyscale,
    jitter_of,
    jittered,
    shift_hue,
)


def pictures(*shape: int) -> torch.Tensor:
    """Noise with patches of one colour and of grey, uint8 (…, 3, 32, 40)."""
    draw = torch.Generator().manual_seed(0)
    made = torch.randint(256, (*shape, 3, 32, 40), generator=draw, dtype=torch.uint8)
    made[..., :8, :8] = made[..., :1, :8, :8]
    made[..., 8:16, :8] = torch.tensor([200, 13, 13], dtype=torch.uint8)[:, None, None]
    return made


def plain(frame: torch.Tensor, spread: np.ndarray) -> torch.Tensor:
    """torchvision's functions, one after another, without the hue."""
    frame = F.adjust_brightness(frame, 1 + spread[0])
    frame = F.adjust_contrast(frame, 1 + spread[1])
    return F.adjust_saturation(frame, 1 + spread[2])


def spreads(n: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (n, 4)) * (0.4, 0.4, 0.2, 0.0)


@pytest.mark.parametrize("interleaved", [False, True])
def test_brightness_contrast_and_saturation_are_torchvisions(interleaved: bool) -> None:
    """With numbers, as on the CPU, and with a tensor of factors, as whole batches on a device have."""
    drawn, frames = spreads(60), pictures(60)
    if interleaved:
        frames = frames.contiguous(memory_format=torch.channels_last)
    expected = torch.stack([plain(one, row) for one, row in zip(frames, drawn, strict=True)])
    found = [jittered(f, jitter_of(row), wide=False) for f, row in zip(frames, drawn, strict=True)]
    assert torch.equal(torch.stack(found), expected)
    b, c, s = (1 + drawn[:, i, None, None, None] for i in range(3))
    as_tensors = [torch.from_numpy(one.astype(np.float32)) for one in (b, c, 1 - c, s, 1 - s)]
    b, c, d, s, e = as_tensors
    still = torch.zeros(60, 1, 1, 1)
    whole = jittered(frames, Jitter(b, Blend(c, d), Blend(s, e), still), wide=False)
    assert torch.equal(whole, expected)
    assert torch.equal(greyscale(frames), F.rgb_to_grayscale(frames, 3))


@pytest.mark.parametrize("wide", [False, True])
def test_a_hue_is_shifted_as_hsv_says(wide: bool) -> None:
    frames, most = pictures(), 0.5 if wide else 1 / 6
    rows = frames.flatten(1).T
    for shift in np.linspace(-most, most, 9):
        found = shift_hue(frames, float(shift), wide=wide).flatten(1).T.float()
        assert torch.equal(found.amin(1), rows.amin(1).float())
        assert torch.equal(found.amax(1), rows.amax(1).float())
        for pixel, new in zip(rows[::5].tolist(), found[::5].tolist(), strict=True):
            h, s, v = colorsys.rgb_to_hsv(*(one / 255 for one in pixel))
            exact = [255 * one for one in colorsys.hsv_to_rgb((h + shift) % 1, s, v)]
            assert np.abs(np.subtract(exact, new)).max() <= 0.501, (pixel, shift)
    assert torch.equal(shift_hue(frames, 0.0, wide=wide), frames)
    shifts = torch.tensor([0.1, -0.04]).reshape(2, 1, 1, 1)
    both = shift_hue(torch.stack([frames, frames]), shifts, wide=wide)
    assert torch.equal(both[0], shift_hue(frames, 0.1, wide=wide))
    assert torch.equal(both[1], shift_hue(frames, -0.04, wide=wide))


def test_torchvisions_hue_is_as_near() -> None:
    """Its way through HSV, which was used before, differs from ours by its own rounding."""
    frames = pictures(4)
    for shift in (-0.1, 0.03, 0.1):
        apart = shift_hue(frames, shift).int() - F.adjust_hue(frames, shift).int()
        assert apart.abs().max() <= 1


def test_jitter_of_a_clip_without_hue_is_what_it_was() -> None:
    """The demo's recipe, whose numbers do not move."""
    clip = pictures(5)
    chosen = Augmentation(jitter=1.0, jitter_strength=(0.4, 0.4, 0.2, 0.0))
    found = training_view(clip[..., :32], 32, chosen, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    _ = (
        rng.choice(chosen.scales),
        rng.integers(1),
        rng.integers(1),
        rng.random(),
    )  # the crop, and whether
    assert torch.equal(found, plain(clip[..., :32], rng.uniform(-1, 1, 4) * chosen.jitter_strength))
