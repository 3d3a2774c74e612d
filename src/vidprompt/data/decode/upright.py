"""Convert decoded frames to upright RGB: rotation and mirroring from the display matrix."""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]  # RGB, (H, W, 3) or (n, H, W, 3)


class Orientation(NamedTuple):
    """How to set a picture upright: mirror it left to right if `mirrored`, then turn it clockwise.

    `rotation` is in degrees: 0, 90, 180 or 270.
    """

    rotation: int = 0
    mirrored: bool = False

    @property
    def sideways(self) -> bool:
        """Whether width and height are swapped."""
        return self.rotation % 180 == 90

    def apply(self, image: Frames) -> Frames:
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


class UprightRGB:
    """Converts PyAV frames of one video to upright uint8 RGB (H, W, 3), all of the first one's size.

    It keeps the scaler between frames: setting one up costs more than converting a small frame. The
    scaler is bicubic, as in the ffmpeg program; where colour is stored at half the size and 8 bits,
    FFmpeg repeats it instead, whichever interpolation is set.
    """

    def __init__(self) -> None:
        from av.video.reformatter import Interpolation, VideoReformatter

        self._reformatter = VideoReformatter()
        self._bicubic = Interpolation.BICUBIC
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: Any) -> Frames:
        self._size = self._size or (frame.width, frame.height)
        width, height = self._size
        converted = self._reformatter.reformat(
            frame, width, height, "rgb24", interpolation=self._bicubic, threads=1
        )
        image = np.asarray(converted.to_ndarray(), dtype=np.uint8)
        upright = orientation(frame)
        return image if upright == UPRIGHT else np.ascontiguousarray(upright.apply(image))
