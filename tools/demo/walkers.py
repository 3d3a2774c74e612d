"""Render walking figures: jointed capsules with a person's build and gait.

A walk has three inputs: a `Walker`, the person with the same build and gait in every recording; an `Outfit`,
its clothes; and a `Shot`, the recording with its camera, light, direction and time. Rendering is a pure
function of the three.

Coordinates: pixels of a 32 × 64 picture, x to the right, y down; angles in radians, positive swings
a limb forwards. The figure is seen half from the side: shoulders and hips show some of their width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tools.demo.scenes import PLAIN, SPOTTED, STRIPED

WIDTH, HEIGHT = 32, 64
SHORT_HAIR, LONG_HAIR, HAT = 0, 1, 2
SKIN = (0.80, 0.62, 0.50)  # the same for all: a person must not be recognised by it
_GROUND = 61.0
_EDGE = 1.5  # pixels of a soft edge; sharper ones make larger files

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Walker:
    """Build and gait of a person. Lengths are fractions of the height unless noted otherwise."""

    height: float  # pixels, standing
    legs: float  # hip to sole
    shoulders: float  # half width
    hips: float  # half width
    head: float  # radius
    limbs: float  # radius of a thigh
    frequency: float  # cycles (two steps) a frame
    stride: float  # radians, how far a thigh swings either way
    arm_swing: float  # radians either way
    bounce: float  # pixels up and down
    lean: float  # radians forwards
    elbow: float  # radians, how far the forearms are bent


TRAITS: dict[str, tuple[float, float]] = {
    "height": (43.0, 57.0),
    "legs": (0.42, 0.55),
    "shoulders": (0.065, 0.125),
    "hips": (0.055, 0.105),
    "head": (0.058, 0.090),
    "limbs": (0.024, 0.046),
    "frequency": (0.045, 0.115),
    "stride": (0.20, 0.46),
    "arm_swing": (0.05, 0.80),
    "bounce": (0.0, 1.6),
    "lean": (-0.08, 0.26),
    "elbow": (0.0, 1.0),
}


@dataclass(frozen=True)
class Outfit:
    """Clothes: everything about a figure that changes with them."""

    torso: Colour
    legs: Colour
    shoes: Colour
    hair: Colour  # or the hat's
    headwear: int  # SHORT_HAIR, LONG_HAIR or HAT
    pattern: int  # of the torso: PLAIN, STRIPED or SPOTTED


@dataclass(frozen=True)
class Shot:
    """One recording of T frames."""

    background: torch.Tensor  # (3, rows, columns) a coarse picture in [0, 1], enlarged smoothly
    floor: float  # brightness of the floor, a factor
    light: torch.Tensor  # (3,) factor on everything
    scale: float  # of the figure, about 1
    facing: int  # 1 = walks to the right, -1 = to the left
    phase: float  # of the first frame, radians
    pace: float  # factor on the person's stride frequency, about 1
    shift: torch.Tensor  # (T, 2) pixels, how far the box is off


def draw_walker(share: torch.Tensor) -> Walker:
    """The walker at a point of the unit cube; `share` (len(TRAITS),) in [0, 1]."""
    values = zip(TRAITS.items(), share.tolist(), strict=True)
    return Walker(**{name: low + (high - low) * s for (name, (low, high)), s in values})


def _point(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.stack([x, y], -1)


def _reach(angle: torch.Tensor, length: float) -> torch.Tensor:
    """End of a limb of `length` that hangs from the origin at `angle` (T,), (T, 2)."""
    return length * _point(angle.sin(), angle.cos())


def _joints(walker: Walker, shot: Shot, frames: int) -> dict[str, torch.Tensor]:
    """Every joint in every frame, each (T, 2), facing right, the hip's x at 0."""
    tall = walker.height * shot.scale
    leg = walker.legs * tall
    moment = torch.arange(frames, dtype=torch.float32)
    phase = shot.phase + 2 * math.pi * walker.frequency * shot.pace * moment
    joint: dict[str, torch.Tensor] = {}
    for side, turn, sign in (("near", 0.0, 1.0), ("far", math.pi, -1.0)):
        thigh = walker.stride * torch.sin(phase + turn)
        # the knee bends while the leg swings forwards, the more the longer the stride
        bend = 0.08 + 1.9 * walker.stride * torch.cos(phase + turn).clamp_min(0)
        offset = torch.tensor([sign * 0.35 * walker.hips * tall, 0.0])
        joint[f"{side} hip"] = offset.expand(frames, 2)
        joint[f"{side} knee"] = offset + _reach(thigh, 0.5 * leg)
        ankle = joint[f"{side} knee"] + _reach(thigh - bend, 0.46 * leg)
        joint[f"{side} ankle"] = ankle
        joint[f"{side} toe"] = ankle + _reach(thigh - bend + 1.45, 0.11 * leg + 0.8)
    sole = torch.maximum(joint["near ankle"][:, 1], joint["far ankle"][:, 1]) + 0.04 * leg
    hip = _point(
        torch.zeros(frames), _GROUND - sole - walker.bounce * (0.5 + 0.5 * torch.cos(2 * phase))
    )

    spine = tall - leg - 2 * walker.head * tall - 0.02 * tall
    lean = torch.full((frames,), math.pi + walker.lean)
    up = _reach(-lean, 1.0) * torch.tensor([-1.0, 1.0])  # hip to neck, leaning to the right
    joint["waist"] = torch.zeros(frames, 2)
    joint["neck"] = up * spine
    joint["head"] = up * (spine + (0.02 + walker.head) * tall)
    for side, turn, sign in (("near", math.pi, 1.0), ("far", 0.0, -1.0)):
        swing = walker.arm_swing * torch.sin(phase + turn)
        offset = torch.tensor([sign * 0.8 * walker.shoulders * tall, 0.05 * tall])
        joint[f"{side} shoulder"] = joint["neck"] + offset
        elbow = joint[f"{side} shoulder"] + _reach(swing, 0.17 * tall)
        joint[f"{side} elbow"] = elbow
        joint[f"{side} hand"] = elbow + _reach(swing + walker.elbow, 0.15 * tall)
    return {name: where + hip for name, where in joint.items()}


def _capsule(
    grid: torch.Tensor, a: torch.Tensor, b: torch.Tensor, start: float, stop: float
) -> torch.Tensor:
    """Distance to a capsule whose radius goes from `start` at a to `stop` at b.

    `grid` (T, H, W, 2), `a` and `b` (T, 2); returns (T, H, W), negative inside.
    """
    a, b = a[:, None, None], b[:, None, None]
    edge, to_point = b - a, grid - a
    share = (to_point * edge).sum(-1) / (edge * edge).sum(-1).clamp_min(1e-6)
    share = share.clamp(0, 1)
    radius = start + (stop - start) * share
    return (to_point - share[..., None] * edge).norm(dim=-1) - radius


def _torso(
    grid: torch.Tensor, waist: torch.Tensor, neck: torch.Tensor, hips: float, shoulders: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distance to a rounded trapezium and the coordinates across and along it, each (T, H, W)."""
    axis = neck - waist
    length = axis.norm(dim=-1)[:, None, None]
    axis = axis[:, None, None] / length[..., None]
    to_point = grid - waist[:, None, None]
    along = (to_point * axis).sum(-1)
    across = to_point[..., 0] * axis[..., 1] - to_point[..., 1] * axis[..., 0]
    half = hips + (shoulders - hips) * (along / length).clamp(0, 1)
    corner = 0.5 * min(hips, shoulders)
    out = torch.stack(
        [across.abs() - half + corner, (along - length / 2).abs() - length / 2 + corner - 1.0]
    )
    distance = out.clamp_min(0).norm(dim=0) + out.amax(0).clamp_max(0) - corner
    return distance, across, along


def _backdrop(shot: Shot, frames: int, speed: float) -> torch.Tensor:
    """The background, moving behind a walking figure, (T, 3, HEIGHT, WIDTH)."""
    y = torch.linspace(-1, 1, HEIGHT)
    x = torch.linspace(-0.3, 0.3, WIDTH)
    travelled = shot.facing * speed * (torch.arange(frames) - (frames - 1) / 2)
    grid_x = (x[None] + travelled[:, None])[:, None].expand(frames, HEIGHT, WIDTH)
    grid = torch.stack([grid_x, y[None, :, None].expand_as(grid_x)], -1)
    picture = F.grid_sample(
        shot.background.expand(frames, -1, -1, -1),
        grid,
        mode="bicubic",
        padding_mode="reflection",
        align_corners=True,
    )
    below = torch.sigmoid((torch.arange(HEIGHT) - 50.0) / 1.5)[:, None]
    return picture * (1 + (shot.floor - 1) * below)


class _Canvas:
    """Frames (T, 3, H, W) that shapes are painted on, back to front."""

    def __init__(self, picture: torch.Tensor, grid: torch.Tensor) -> None:
        self.picture, self.grid = picture, grid

    def paint(
        self, distance: torch.Tensor, colour: Colour, light: float | torch.Tensor = 1.0
    ) -> None:
        """Paint where `distance` (T, H, W) is negative, softly; `light` is a factor of the colour."""
        cover = (0.5 - distance / _EDGE).clamp(0, 1)[:, None]
        paint = torch.tensor(colour)[None, :, None, None] * light
        self.picture = torch.lerp(self.picture, paint.expand_as(self.picture), cover)


def _paint_limbs(
    canvas: _Canvas,
    joint: dict[str, torch.Tensor],
    side: str,
    part: str,
    thick: float,
    wear: Outfit,
) -> None:
    light = {"near leg": 1.0, "far leg": 0.68, "near arm": 0.80, "far arm": 0.60}[f"{side} {part}"]
    names = ("hip", "knee", "ankle", "toe") if part == "leg" else ("shoulder", "elbow", "hand")
    points = [joint[f"{side} {name}"] for name in names]
    cloth = wear.legs if part == "leg" else wear.torso
    size = thick if part == "leg" else 0.78 * thick
    for a, b, taper in zip(points, points[1:], (0.85, 0.65), strict=False):
        canvas.paint(_capsule(canvas.grid, a, b, size, size * taper), cloth, light)
        size *= 0.82
    if part == "leg":
        shoe = 0.55 * thick + 0.35
        canvas.paint(_capsule(canvas.grid, points[2], points[3], shoe, shoe), wear.shoes, light)
    else:
        hand = 0.5 * thick + 0.3
        canvas.paint(_capsule(canvas.grid, points[2], points[2], hand, hand), SKIN, light)


def _paint_head(canvas: _Canvas, joint: dict[str, torch.Tensor], size: float, wear: Outfit) -> None:
    head = joint["head"]
    canvas.paint(_capsule(canvas.grid, joint["neck"], head, 0.45 * size, 0.45 * size), SKIN, 0.85)
    face = _capsule(canvas.grid, head, head, size, size)
    canvas.paint(face, SKIN)
    offset = canvas.grid - head[:, None, None]
    # hair: the part of the head above a line that falls towards the back
    line = 0.55 * offset[..., 0] + offset[..., 1] + 0.1 * size
    if wear.headwear == HAT:
        line = offset[..., 1] + 0.3 * size
        brow = head + torch.tensor([0.0, -0.35 * size])
        brim = head + torch.tensor([1.6 * size, -0.3 * size])
        canvas.paint(_capsule(canvas.grid, brow, brim, 0.7, 0.6), wear.hair, 0.8)
    elif wear.headwear == LONG_HAIR:
        back = head + torch.tensor([-0.75 * size, 0.0])
        tips = back + torch.tensor([-0.1 * size, 1.4 * size])
        canvas.paint(_capsule(canvas.grid, back, tips, 0.45 * size, 0.35 * size), wear.hair, 0.9)
    canvas.paint(torch.maximum(face - 0.3, line), wear.hair)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: for tensors this small, waiting for a busy core costs many times the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def render_walk(walker: Walker, wear: Outfit, shot: Shot) -> torch.Tensor:
    """Render one walk, uint8 (T, HEIGHT, WIDTH, 3)."""
    frames = len(shot.shift)
    tall = walker.height * shot.scale
    joint = _joints(walker, shot, frames)
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    grid = torch.stack([x, y], -1) - shot.shift[:, None, None]
    grid = torch.stack([(grid[..., 0] - WIDTH / 2) * shot.facing, grid[..., 1]], -1)
    speed = 0.35 * walker.frequency * shot.pace * walker.stride
    canvas = _Canvas(_backdrop(shot, frames, speed), grid)

    thick = walker.limbs * tall
    for side, part in (("far", "arm"), ("far", "leg"), ("near", "leg")):
        _paint_limbs(canvas, joint, side, part, thick, wear)
    _paint_head(canvas, joint, walker.head * tall, wear)
    distance, across, along = _torso(
        grid, joint["waist"], joint["neck"], walker.hips * tall, walker.shoulders * tall
    )
    light = torch.ones_like(along)
    assert wear.pattern in (PLAIN, STRIPED, SPOTTED)
    if wear.pattern == STRIPED:
        light = 1 + 0.25 * torch.sin(along * 1.0)
    elif wear.pattern == SPOTTED:
        light = 1 + 0.3 * torch.sin(along * 0.9) * torch.sin(across * 0.9)
    canvas.paint(distance, wear.torso, light[:, None])
    _paint_limbs(canvas, joint, "near", "arm", thick, wear)

    lit = (canvas.picture * shot.light[:, None, None]).clamp(0, 1)
    return (lit * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
