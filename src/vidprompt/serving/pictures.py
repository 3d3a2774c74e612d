"""Frames as pictures in JSON."""

from __future__ import annotations

import io
from base64 import b64encode

import numpy as np
from numpy.typing import NDArray

_QUALITY = 85


def picture_uris(frames: NDArray[np.uint8]) -> list[str]:
    """uint8 RGB (n, H, W, 3) → data: URIs of JPEGs."""
    from PIL import Image

    uris = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=_QUALITY)
        uris.append("data:image/jpeg;base64," + b64encode(buffer.getvalue()).decode())
    return uris
