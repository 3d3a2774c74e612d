"""Note what a viewer would see otherwise: pixels that are read as they are stored.

Interlaced video, HDR, pixels that are not square and transparent ones are usable, and everybody trains
on them, but whoever wonders about a result should know.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_HDR = {16: "PQ", 18: "HLG"}  # AVColorTransferCharacteristic
_SQUARE = 0.02  # by how much a pixel may be wider than high: less is a rounded size


class PixelNotes:
    """Collects notes on the frames of one video while they are decoded in order."""

    def __init__(self) -> None:
        self._interlaced = self._count = 0
        self._transfer = ""
        self._transparent = False

    def add(self, frame: Any) -> None:
        """Look at a PyAV frame; transfer and alpha are judged by the first one."""
        if self._count == 0:
            self._transfer = _HDR.get(int(frame.color_trc), "")
            self._transparent = _has_transparent_pixels(frame)
        self._interlaced += frame.interlaced_frame
        self._count += 1

    def sentences(self, stream: Any) -> tuple[str, ...]:
        """The notes, each "what: what was done" (`stream`: PyAV's)."""
        notes = []
        if self._interlaced:
            share = f"{self._interlaced:,} of {self._count:,} frames"
            notes.append(f"Interlaced: {share} hold two fields, read as one picture.")
        if self._transfer:
            notes.append(f"HDR ({self._transfer}): read without tone mapping.")
        aspect = stream.sample_aspect_ratio
        if aspect and abs(float(aspect) - 1) > _SQUARE:
            ratio = f"{aspect.numerator}:{aspect.denominator}"
            notes.append(f"Pixels not square: {ratio}, read as they are stored.")
        if self._transparent or stream.metadata.get("alpha_mode") == "1":
            notes.append("Transparent pixels: read without alpha, in the colour stored below it.")
        return tuple(notes)


def _has_transparent_pixels(frame: Any) -> bool:
    if not any(component.is_alpha for component in frame.format.components):
        return False
    alpha = frame.reformat(format="rgba", threads=1).to_ndarray()[..., 3]
    return bool((alpha < np.iinfo(alpha.dtype).max).any())
