"""Captions of stills: shape, colour, texture, size, place and tilt of the object, never its motion.

A caption names some attributes of a still and matches every still that has all of them. Training uses all
matches: many captions of a batch are true of several of its stills.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tools.demo.scenes import COLOURS, SHAPES, STRIPED, TEXTURES, Pose

ANY = -1
_PREFIXES = ("", "a photo of ", "a picture of ", "an image of ", "a drawing of ", "a video of ")
_SIZES = (("small", "little", "tiny"), ("large", "big", "huge"))
_ACROSS = (
    ("on the left", "at the left", "left of the middle"),
    ("on the right", "at the right", "right of the middle"),
)
_DOWN = (
    ("at the top", "up at the top", "in the upper part"),
    ("at the bottom", "down at the bottom", "in the lower part"),
)
_TILT = (
    ("leaning left", "tilted left", "tipped over to the left"),
    ("leaning right", "tilted right", "tipped over to the right"),
)
# shape, colour, texture, size, across, down, tilt: how many values, how often a caption names it
VALUES = (len(SHAPES), len(COLOURS), len(TEXTURES), 2, 2, 2, 2)
_NAMED = (0.92, 0.6, 0.35, 0.35, 0.4, 0.4, 0.4)


@dataclass
class Attributes:
    """(N, 7) integers: shape, colour, texture, size (0 small, 1 large), across (0 left, 1 right),
    down (0 top, 1 bottom), tilt (0 left, 1 right); ANY where one is not clear or not named."""

    values: torch.Tensor

    def first(self, count: int) -> Attributes:
        """The first `count` rows."""
        return Attributes(self.values[:count])

    def matches(self, stills: Attributes) -> torch.Tensor:
        """(captions, stills) bool: does the still have everything the caption names?"""
        caption, still = self.values[:, None], stills.values[None]
        return ((caption == still) | (caption == ANY)).all(-1)


def attributes(
    shape: torch.Tensor, colour: torch.Tensor, texture: torch.Tensor, pose: Pose
) -> Attributes:
    """Attributes of N stills: indices of shape, colour and texture, each (N,), and a pose (N, 1)."""

    def side(value: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.where(value < low, 0, torch.where(value > high, 1, ANY))

    return Attributes(
        torch.stack(
            [
                shape,
                colour,
                texture,
                side(pose.radius[:, 0], 0.42, 0.56),
                side(pose.x[:, 0], -0.15, 0.15),
                side(pose.y[:, 0], -0.15, 0.15),
                side(pose.angle[:, 0], -0.15, 0.15),
            ],
            1,
        )
    )


def draw_captions(stills: Attributes, generator: torch.Generator) -> tuple[list[str], Attributes]:
    """Draw one caption for each still, and the attributes that it names, a random subset."""
    n = len(stills.values)
    keep = torch.rand(n, len(VALUES), generator=generator) < torch.tensor(_NAMED)
    named = torch.where(keep, stills.values, ANY)
    # a plain texture is not named
    named[:, 2] = torch.where(named[:, 2] < STRIPED, ANY, named[:, 2])
    words = torch.randint(3, (n, 4), generator=generator).tolist()
    prefix = torch.randint(len(_PREFIXES), (n,), generator=generator).tolist()
    captions = [
        _PREFIXES[p] + describe(row, w)
        for p, row, w in zip(prefix, named.tolist(), words, strict=True)
    ]
    return captions, Attributes(named)


def caption_banks(generator: torch.Generator) -> list[tuple[list[str], tuple[int, ...]]]:
    """Banks of captions: all values of each attribute, and all shapes in all colours, in random words.

    Returns (captions, indices of the attributes that they name) for each bank; caption i of a bank of two
    attributes names the values (i // values of the second, i % values of the second).
    """

    def caption(row: list[int]) -> str:
        word = torch.randint(3, (4,), generator=generator).tolist()
        prefix = int(torch.randint(len(_PREFIXES), (), generator=generator))
        return _PREFIXES[prefix] + describe(row, word)

    banks: list[tuple[list[str], tuple[int, ...]]] = []
    for attribute, values in enumerate(VALUES):
        after = [ANY] * (len(VALUES) - 1 - attribute)
        rows = [[ANY] * attribute + [v] + after for v in range(values)]
        banks.append(([caption(row) for row in rows], (attribute,)))
    pairs = [naming_shape_and_colour(s, c) for s in range(VALUES[0]) for c in range(VALUES[1])]
    banks.append(([caption(row) for row in pairs], (0, 1)))
    return banks


def naming_shape_and_colour(shape: int, colour: int) -> list[int]:
    """A row of attributes that names only these two."""
    return [shape, colour, *[ANY] * (len(VALUES) - 2)]


def describe(row: list[int], word: list[int] | tuple[int, ...] = (0, 0, 0, 0)) -> str:
    """The caption of one row of attributes; `word` are the synonyms (0 to 2) of size, places and tilt."""
    shape, colour, texture, size, across, down, tilt = row
    parts = []
    if size != ANY:
        parts.append(_SIZES[size][word[0]])
    if texture != ANY:
        parts.append(TEXTURES[texture])
    if colour != ANY:
        parts.append(list(COLOURS)[colour])
    parts.append(SHAPES[shape] if shape != ANY else "object")
    article = "an" if parts[0][0] in "aeiou" or parts[0] == "hourglass" else "a"
    places = []
    if across != ANY:
        places.append(_ACROSS[across][word[1]])
    if down != ANY:
        places.append(_DOWN[down][word[2]])
    if tilt != ANY:
        places.append(_TILT[tilt][word[3]])
    return " ".join([article, *parts, " and ".join(places)]).strip()
