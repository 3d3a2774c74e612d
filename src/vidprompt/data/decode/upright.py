"""Convert decoded frames and images to upright RGB of 8 bits.

Videos say how they are turned in a display matrix, images in an EXIF tag.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# AVColorSpace → the matrices that FFmpeg's scaler does not convert
_UNCONVERTIBLE = {
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    11: "SMPTE 2085",
    12: "derived from the primaries",
    13: "derived from the primaries, with constant luminance",
    14: "ICtCp",
    15: "IPT",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes of grey images
_EXIF_ORIENTATION = 0x0112

Frames = NDArray[np.uint8]  # RGB, (H, W, 3) or (n, H, W, 3)


class ColourError(Exception):
    """Pixels that cannot be converted to RGB; the message is a phrase about them."""


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
_EXIF_ORIENTATIONS = {
    2: Orientation(0, True),
    3: Orientation(180),
    4: Orientation(180, True),
    5: Orientation(270, True),
    6: Orientation(90),
    7: Orientation(90, True),
    8: Orientation(270),
}


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
    FFmpeg repeats it instead, whichever interpolation is set. The frame says which matrix and range
    its colours have (unspecified: BT.601, limited, as in the ffmpeg program); alpha is dropped, and
    transfer and primaries stay as they are.
    """

    def __init__(self) -> None:
        from av.video.reformatter import Interpolation, VideoReformatter

        self._reformatter = VideoReformatter()
        self._bicubic = Interpolation.BICUBIC
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: Any) -> Frames:
        """The picture. Raises ColourError where FFmpeg does not convert its colours."""
        from av import FFmpegError

        self._size = self._size or (frame.width, frame.height)
        width, height = self._size
        try:
            converted = self._reformatter.reformat(
                frame, width, height, "rgb24", interpolation=self._bicubic, threads=1
            )
        except MemoryError:
            raise
        except FFmpegError as error:
            matrix = _UNCONVERTIBLE.get(frame.colorspace, str(frame.colorspace))
            raise ColourError(
                f"FFmpeg does not convert its colours ({frame.format.name}, matrix {matrix}): re-encode"
                " it, for example with ffmpeg -vf zscale=matrix=709"
            ) from error
        image = np.asarray(converted.to_ndarray(), dtype=np.uint8)
        upright = orientation(frame)
        return image if upright == UPRIGHT else np.ascontiguousarray(upright.apply(image))


def image_orientation(image: Any) -> Orientation:
    """The orientation that the EXIF tag of a loaded Pillow image gives (Pillow itself turns TIFF)."""
    return _EXIF_ORIENTATIONS.get(image.getexif().get(_EXIF_ORIENTATION), UPRIGHT)


def check_colours(image: Any) -> None:
    """Raise ColourError for a Pillow image whose numbers have no known range."""
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise ColourError(f"its pixels are 32-bit numbers of unknown range (mode {image.mode})")


def upright_image(image: Any) -> Frames:
    """A Pillow image as upright uint8 RGB (H, W, 3); alpha is dropped, 16 bits are rounded to 8.

    Raises ColourError for pixels without a known range, and OSError for a damaged image.
    """
    check_colours(image)
    if image.mode in _SIXTEEN_BITS or image.mode == "I":  # Pillow would clip them at 255
        grey = (np.asarray(image, dtype=np.uint32) * 255 + 32767) // 65535
        pixels = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    else:
        pixels = np.asarray(image.convert("RGB"))
    upright = image_orientation(image)
    return pixels if upright == UPRIGHT else np.ascontiguousarray(upright.apply(pixels))
