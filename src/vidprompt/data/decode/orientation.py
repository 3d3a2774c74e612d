"""Which way up a decoded picture is, as its display matrix says."""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Orientation(NamedTuple):
    """How a picture is set upright: mirrored left to right if `mirrored`, then turned clockwise.

    `rotation` is in degrees: 0, 90, 180 or 270.
    """

    rotation: int = 0
    mirrored: bool = False

    @property
    def sideways(self) -> bool:
        """Whether width and height change places."""
        return self.rotation % 180 == 90

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The upright picture of uint8 (H, W, 3), a view of it."""
        return np.rot90(image[:, ::-1] if self.mirrored else image, -self.rotation // 90)


UPRIGHT = Orientation()


def orientation(frame: Any) -> Orientation:
    """The orientation of a PyAV frame, to the nearest quarter turn.

    The matrix [[a, b], [c, d]] moves the point (x, y) to (ax + cy, bx + dy), y pointing down.
    """
    from av.sidedata.sidedata import Type

    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return Orientation(round(math.degrees(math.atan2(b, a)) / 90) % 4 * 90, mirrored)
