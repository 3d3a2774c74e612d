"""How prompts that belong to frames start."""

from __future__ import annotations

import torch

from vidprompt.system.suggestions import check_choice

STARTS = ("released", "ramp")
RESAMPLING = ("nearest", "linear")


def ramp(layers: int, num_frames: int, width: int, scale: float) -> torch.Tensor:
    """A random direction a layer times a ramp over the frames, (layers, T, D), of deviation `scale`.

    Independent random starts carry almost no notion of "later": on a small frozen backbone the time
    code then is 1e-5 of what a frame's feature says, and a training of minutes stays on the plateau
    where every motion looks alike. A ramp is the simplest code that tells earlier from later.
    """
    time = torch.linspace(-1, 1, num_frames)[None, :, None]
    time = time / time.square().mean().sqrt()
    return scale * time * torch.randn(layers, 1, width)


def resize_time(code: torch.Tensor, t: int, mode: str = "nearest") -> torch.Tensor:
    """A code of T frames, (T, D), for t frames: resampled along time (a mode of RESAMPLING), (t, D)."""
    if t == len(code):
        return code
    return torch.nn.functional.interpolate(code.T[None], size=t, mode=mode)[0].T


def check_start(start: str) -> None:
    """Raises UserError for an unknown start."""
    check_choice("prompt_start", start, STARTS)
