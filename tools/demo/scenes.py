"""Render scenes of one object, a background and distractors.

The action videos and the captioned stills that the demo backbone is trained on are made here. A scene is an
`Appearance` (constant over a video) and a `Pose` (place, size and angle of the object in each frame).
Rendering is a pure function of the two.

Coordinates: the short side of the picture spans [-1, 1]; x to the right, y down; angles in radians,
positive = clockwise on the screen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.12, 0.12),
    "green": (0.15, 0.70, 0.20),
    "blue": (0.15, 0.30, 0.90),
    "yellow": (0.92, 0.85, 0.15),
    "purple": (0.60, 0.20, 0.75),
    "white": (0.95, 0.95, 0.95),
    "orange": (0.95, 0.50, 0.08),
    "cyan": (0.15, 0.80, 0.85),
}
PLAIN, STRIPED, SPOTTED = 0, 1, 2
TEXTURES: tuple[str, ...] = ("plain", "striped", "spotted")

_ATLAS_CELLS = 96
_ATLAS_EXTENT = 1.6  # the atlas covers [-1.6, 1.6] object radii
_MAX_DOTS = 3


def _ring(radius: float, start: float, stop: float, steps: int) -> list[tuple[float, float]]:
    angles = [start + (stop - start) * i / (steps - 1) for i in range(steps)]
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _polygon(corners: int, radius: float = 1.0) -> list[tuple[float, float]]:
    turn = 2 * math.pi / corners
    return [(radius * math.sin(i * turn), -radius * math.cos(i * turn)) for i in range(corners)]


def _heart() -> list[tuple[float, float]]:
    points = []
    for i in range(40):
        t = 2 * math.pi * i / 40
        x = 16 * math.sin(t) ** 3
        y = -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))
        points.append((x / 16.5, (y + 2.0) / 16.5))
    return points


def _crescent() -> list[tuple[float, float]]:
    outer = _ring(1.0, math.radians(60), math.radians(300), 30)
    tip_x, tip_y = outer[-1]
    centre_x = 0.62
    radius = math.hypot(tip_x - centre_x, tip_y)
    angle = math.atan2(tip_y, tip_x - centre_x)
    inner = _ring(radius, angle, -angle - 2 * math.pi, 30)
    return outer + [(x + centre_x, y) for x, y in inner[1:-1]]


def _mushroom() -> list[tuple[float, float]]:
    cap = _ring(1.0, math.pi, 2 * math.pi, 24)
    return [*cap, (0.3, 0.0), (0.3, 0.95), (-0.3, 0.95), (-0.3, 0.0)]


def _drop() -> list[tuple[float, float]]:
    body = _ring(0.66, math.radians(-25), math.radians(205), 26)
    return [*((x, y + 0.34) for x, y in body), (0.0, -1.05)]


def _star() -> list[tuple[float, float]]:
    outer, inner = _polygon(5), _polygon(5, 0.42)
    turn = math.pi / 5
    points: list[tuple[float, float]] = []
    for (ox, oy), (ix, iy) in zip(outer, inner, strict=True):
        points.append((ox, oy))
        points.append(
            (ix * math.cos(turn) - iy * math.sin(turn), ix * math.sin(turn) + iy * math.cos(turn))
        )
    return points


_A = 0.30
OUTLINES: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.76, -0.76), (0.76, -0.76), (0.76, 0.76), (-0.76, 0.76)],
    "triangle": _polygon(3),
    "cross": [
        (-_A, -1), (_A, -1), (_A, -_A), (1, -_A), (1, _A), (_A, _A),
        (_A, 1), (-_A, 1), (-_A, _A), (-1, _A), (-1, -_A), (-_A, -_A),
    ],
    "star": _star(),
    "heart": _heart(),
    "crescent": _crescent(),
    "arrow": [
        (0.0, -1.0), (0.75, -0.15), (0.28, -0.15), (0.28, 1.0),
        (-0.28, 1.0), (-0.28, -0.15), (-0.75, -0.15),
    ],
    "drop": _drop(),
    "hourglass": [
        (-0.75, -0.95), (0.75, -0.95), (0.14, 0.0), (0.75, 0.95), (-0.75, 0.95), (-0.14, 0.0),
    ],
    "mushroom": _mushroom(),
}  # fmt: skip
SHAPES: tuple[str, ...] = tuple(OUTLINES)


def _signed_distance(corners: list[tuple[float, float]], cells: int) -> torch.Tensor:
    """Exact signed distance of a polygon on a (cells, cells) grid, negative inside."""
    axis = (torch.arange(cells) + 0.5) / cells * 2 * _ATLAS_EXTENT - _ATLAS_EXTENT
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    point = torch.stack([x, y], -1)
    nearest = torch.full((cells, cells), math.inf)
    inside = torch.zeros(cells, cells, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        a, edge = torch.tensor([ax, ay]), torch.tensor([bx - ax, by - ay])
        to_point = point - a
        share = ((to_point @ edge) / (edge @ edge).clamp_min(1e-12)).clamp(0, 1)
        nearest = torch.minimum(nearest, (to_point - share[..., None] * edge).norm(dim=-1))
        if ay != by:
            crossing = (y - ay) / (by - ay) * (bx - ax) + ax
            inside ^= ((ay > y) != (by > y)) & (x < crossing)
    return torch.where(inside, -nearest, nearest)


_atlas: torch.Tensor | None = None


def shape_atlas() -> torch.Tensor:
    """Signed distances of all shapes, (len(SHAPES), 1, cells, cells), in object radii."""
    global _atlas
    if _atlas is None:
        maps = [_signed_distance(OUTLINES[s], _ATLAS_CELLS) for s in SHAPES]
        _atlas = torch.stack(maps)[:, None]
    return _atlas


@dataclass
class Appearance:
    """Appearance of N scenes; every field has N rows."""

    shape: torch.Tensor  # (N,) index into SHAPES
    colour: torch.Tensor  # (N, 3) in [0, 1]
    texture: torch.Tensor  # (N,) index into TEXTURES
    texture_scale: torch.Tensor  # (N,) waves an object radius
    background: torch.Tensor  # (N, 3, 5, 7) a coarse picture, enlarged smoothly
    dot_position: torch.Tensor  # (N, 3, 2) distractors at the middle of the video
    dot_velocity: torch.Tensor  # (N, 3, 2) a video length
    dot_radius: torch.Tensor  # (N, 3), 0 = absent
    dot_colour: torch.Tensor  # (N, 3, 3)
    grain: torch.Tensor  # (N,) standard deviation of the sensor noise, in [0, 1]

    def repeat_each(self, times: int) -> Appearance:
        """Repeat each scene `times` times: N · times rows."""
        return Appearance(
            **{f.name: getattr(self, f.name).repeat_interleave(times, 0) for f in fields(self)}
        )


@dataclass
class Pose:
    """Place, size and angle of the object in N videos of T frames; every field is (N, T)."""

    x: torch.Tensor
    y: torch.Tensor
    radius: torch.Tensor
    angle: torch.Tensor
    camera: torch.Tensor  # (N, T, 2) shift of the whole picture
    time: torch.Tensor  # (N, T) in [0, 1], moves the distractors


def render(
    appearance: Appearance, pose: Pose, height: int, width: int, generator: torch.Generator
) -> torch.Tensor:
    """Render N videos of T frames, uint8 (N, T, height, width, 3).

    `generator` is for the sensor noise only.
    """
    count, frames = pose.x.shape
    flat = appearance.repeat_each(frames)
    total = count * frames
    short = min(height, width)
    ys = ((torch.arange(height) + 0.5) * 2 - height) / short
    xs = ((torch.arange(width) + 0.5) * 2 - width) / short
    camera = pose.camera.reshape(total, 1, 1, 2)
    px = xs[None, None, :] - camera[..., 0]
    py = ys[None, :, None] - camera[..., 1]
    px, py = px.expand(total, height, width), py.expand(total, height, width)

    # The background reaches beyond the picture so that camera shake never shows its border.
    reach = max(height, width) / short * 1.15
    picture = F.grid_sample(
        flat.background,
        torch.stack([px, py], -1) / reach,
        mode="bicubic",
        padding_mode="border",
        align_corners=True,
    )

    for dot in range(_MAX_DOTS):
        where = flat.dot_position[:, dot] + flat.dot_velocity[:, dot] * (
            pose.time.reshape(total, 1) - 0.5
        )
        distance = torch.hypot(px - where[:, 0, None, None], py - where[:, 1, None, None])
        radius = flat.dot_radius[:, dot, None, None]
        cover = ((radius - distance) * short / 2 + 0.5).clamp(0, 1) * (radius > 0)
        picture = torch.lerp(picture, flat.dot_colour[:, dot, :, None, None], cover[:, None])

    radius = pose.radius.reshape(total, 1, 1)
    cos, sin = (fn(pose.angle.reshape(total, 1, 1)) for fn in (torch.cos, torch.sin))
    dx = (px - pose.x.reshape(total, 1, 1)) / radius
    dy = (py - pose.y.reshape(total, 1, 1)) / radius
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    distance = F.grid_sample(
        shape_atlas()[flat.shape],
        torch.stack([u, v], -1) / _ATLAS_EXTENT,
        padding_mode="border",
        align_corners=False,
    )[:, 0]
    cover = (0.5 - distance * radius * short / 2).clamp(0, 1)
    wave = flat.texture_scale[:, None, None] * 2 * math.pi
    stripes = torch.sin(u * wave)
    spots = stripes * torch.sin(v * wave)
    kind = flat.texture[:, None, None]
    pattern = torch.where(kind == STRIPED, stripes, torch.where(kind == SPOTTED, spots, 0.0))
    light = 1 + 0.10 * (u - v).clamp(-1, 1) + 0.35 * pattern.clamp(-0.6, 0.6)
    light = light * (1 - 0.35 * (distance > -0.10))  # a darker rim
    paint = (flat.colour[:, :, None, None] * light[:, None]).clamp(0, 1)
    picture = torch.lerp(picture, paint, cover[:, None])

    noise = torch.randn(picture.shape, generator=generator)
    picture = picture + noise * flat.grain[:, None, None, None]
    pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).reshape(count, frames, height, width, 3)


@dataclass(frozen=True)
class Style:
    """Distribution from which the appearances of a set of scenes are drawn."""

    shapes: tuple[str, ...]
    colours: tuple[str, ...]
    textures: tuple[str, ...]
    background_level: tuple[float, float]  # mean brightness
    background_tint: float  # strength of the background's own colour
    radius: tuple[float, float]  # before growth
    dots: tuple[int, int]  # fewest and most distractors
    grain: tuple[float, float]


FULL_STYLE = Style(
    shapes=SHAPES,
    colours=tuple(COLOURS),
    textures=TEXTURES,
    background_level=(0.1, 0.75),
    background_tint=0.16,
    radius=(0.42, 0.56),
    dots=(0, 3),
    grain=(0.0, 0.03),
)


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> torch.Tensor:
    """Uniform random numbers in [low, high) of a shape."""
    return low + (high - low) * torch.rand(*shape, generator=generator)


def draw_appearance(
    style: Style,
    shape: torch.Tensor,
    generator: torch.Generator,
    colour: torch.Tensor | None = None,
) -> tuple[Appearance, torch.Tensor, torch.Tensor]:
    """Draw the appearance of N scenes with the given shapes (N,), indices into SHAPES.

    Returns it with the indices of colour (into COLOURS) and texture (into TEXTURES), each (N,).
    """
    n = shape.numel()
    if colour is None:
        names = list(COLOURS)
        choices = torch.tensor([names.index(c) for c in style.colours])
        colour = choices[torch.randint(len(choices), (n,), generator=generator)]
    texture_choices = torch.tensor([TEXTURES.index(t) for t in style.textures])
    texture = texture_choices[torch.randint(len(texture_choices), (n,), generator=generator)]
    palette = torch.tensor(list(COLOURS.values()))
    paint = palette[colour] + uniform(generator, -0.06, 0.06, n, 3)

    level = uniform(generator, *style.background_level, n, 1, 1, 1)
    tint = uniform(generator, -style.background_tint, style.background_tint, n, 3, 1, 1)
    rough = uniform(generator, -0.10, 0.10, n, 1, 5, 7)
    background = (level + tint + rough).clamp(0.02, 0.98)
    fewest, most = style.dots
    number = torch.randint(fewest, most + 1, (n, 1), generator=generator)
    present = torch.arange(_MAX_DOTS)[None] < number
    appearance = Appearance(
        shape=shape,
        colour=paint.clamp(0, 1),
        texture=texture,
        texture_scale=uniform(generator, 0.9, 1.5, n),
        background=background,
        dot_position=uniform(generator, -0.95, 0.95, n, _MAX_DOTS, 2),
        dot_velocity=uniform(generator, -0.8, 0.8, n, _MAX_DOTS, 2),
        dot_radius=uniform(generator, 0.05, 0.10, n, _MAX_DOTS) * present,
        dot_colour=palette[torch.randint(len(palette), (n, _MAX_DOTS), generator=generator)],
        grain=uniform(generator, *style.grain, n),
    )
    return appearance, colour, texture
