"""Eight motions of the object, in four pairs that differ only in the order of frames.

The object has four channels: x, y, log radius, angle. Each has a centre, an amplitude and a phase u
in [-1, 1]. A motion sweeps the phase of *one* channel from -1 to 1 (or back); the others keep a
constant phase. The constant phase is drawn from the distribution that a sweep has at a uniformly
random time, so at any random frame all four channels are distributed alike whatever the motion is: a
single frame does not give the motion away, and the two motions of a pair are each other's reversal.
"""

from __future__ import annotations

import torch
from tools.demo.scenes import Pose, Style, uniform

MOTIONS: tuple[str, ...] = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "growing",
    "shrinking",
    "turning clockwise",
    "turning anticlockwise",
)
PAIRS: tuple[tuple[str, str], ...] = tuple(zip(MOTIONS[::2], MOTIONS[1::2], strict=True))
# channel (x, y, log radius, angle) and direction of each motion
_SWEEP: tuple[tuple[int, int], ...] = (
    (0, -1), (0, 1), (1, -1), (1, 1), (2, 1), (2, -1), (3, 1), (3, -1),
)  # fmt: skip


def _progress(count: int, time: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Phase in [-1, 1] of `count` sweeps with random start, pace and stop, at `time` (count, T) in [0, 1]."""
    start = uniform(generator, 0.0, 0.15, count, 1)
    stop = uniform(generator, 0.85, 1.0, count, 1)
    bend = uniform(generator, 0.75, 1.33, count, 1)
    share = ((time - start) / (stop - start)).clamp(0, 1)
    # the mean of an ease-in and its mirror image keeps the distribution symmetric in u
    return share**bend + 1 - (1 - share) ** bend - 1


def frame_times(count: int, frames: int) -> torch.Tensor:
    """Evenly spaced times in [0, 1], (count, frames)."""
    return ((torch.arange(frames) + 0.5) / frames).expand(count, frames)


def draw_pose(
    motion: torch.Tensor, time: torch.Tensor, style: Style, generator: torch.Generator
) -> Pose:
    """Draw the poses of N objects at `time` (N, T) in [0, 1]; `motion` (N,) are indices into MOTIONS."""
    n, frames = time.shape
    sweep = torch.tensor(_SWEEP)[motion]
    phases = []
    for channel in range(4):
        moment = torch.rand(n, 1, generator=generator)
        joint = torch.cat([time, moment], 1)
        phase = _progress(n, joint, generator)
        direction = torch.where(torch.rand(n, 1, generator=generator) < 0.5, -1.0, 1.0)
        still = (phase[:, -1:] * direction).expand(n, frames)
        swept = phase[:, :-1] * sweep[:, 1:]
        phases.append(torch.where(sweep[:, :1] == channel, swept, still))

    centre_x, centre_y = uniform(generator, -0.12, 0.12, 2, n, 1)
    reach_x, reach_y = uniform(generator, 0.26, 0.44, 2, n, 1)
    radius = uniform(generator, *style.radius, n, 1)
    growth = uniform(generator, 0.26, 0.42, n, 1)
    # Objects stand upright on the whole; a turn stays within the symmetry of the squares and crosses
    # (quarter turns) and nearly of the stars, so that its direction can be seen at every step.
    facing = uniform(generator, -0.12, 0.12, n, 1)
    turn = uniform(generator, 0.42, 0.62, n, 1)  # radians either way

    shake = torch.cumsum(torch.randn(n, frames, 2, generator=generator) * 0.008, 1)
    wobble = torch.randn(n, frames, 4, generator=generator) * torch.tensor(
        [0.008, 0.008, 0.012, 0.025]
    )
    return Pose(
        x=centre_x + reach_x * phases[0] + wobble[..., 0],
        y=centre_y + reach_y * phases[1] + wobble[..., 1],
        radius=radius * torch.exp(growth * phases[2] + wobble[..., 2]),
        angle=facing + turn * phases[3] + wobble[..., 3],
        camera=shake - shake.mean(1, keepdim=True),
        time=time,
    )
