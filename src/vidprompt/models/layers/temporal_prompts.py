"""Initial values of per-frame prompts, and their resampling to another number of frames."""

from __future__ import annotations

import math

import torch

RESAMPLING = ("nearest", "linear")


def uniform(shape: tuple[int, ...], patch: tuple[int, int], scale: float = 1.0) -> torch.Tensor:
    """Prompts (…, D), uniform in ± scale · √(6 / (3·p² + D)): the start of both released methods.

    Visual Prompt Tuning's (Jia et al., 2022), for tokens of p × p pixels.
    """
    bound = scale * math.sqrt(6 / (3 * patch[0] * patch[1] + shape[-1]))
    return torch.empty(shape).uniform_(-bound, bound)


def ramp(layers: int, num_frames: int, width: int, std: float) -> torch.Tensor:
    """One random direction a layer times a ramp over the frames: (layers, T, D) of deviation `std`.

    Independent random prompts hold almost no information about the order of frames: on a small frozen
    backbone they change a frame's feature by 1e-5 of its size, and a training of minutes does not get
    past the plateau where all motions have the same feature. A ramp is the simplest code of order.
    """
    time = torch.linspace(-1, 1, num_frames)[None, :, None]
    time = time / time.square().mean().sqrt()
    return std * time * torch.randn(layers, 1, width)


def resample(prompts: torch.Tensor, t: int, mode: str = "nearest") -> torch.Tensor:
    """Prompts of T frames (T, D) → of t frames (t, D), interpolated in time by a mode of RESAMPLING."""
    if t == len(prompts):
        return prompts
    return torch.nn.functional.interpolate(prompts.T[None], size=t, mode=mode)[0].T
