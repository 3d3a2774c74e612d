"""Little videos for tests, in the codecs that make random access go wrong and right."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "h264.mp4": ("libx264", {"x264-params": "bframes=2:keyint=12:scenecut=0", "preset": "fast"}),
    "open_gop.mp4": ("libx264", {"x264-params": "bframes=3:keyint=12:open-gop=1:scenecut=0"}),
    "mpeg4.avi": ("mpeg4", {}),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
}


def pictures(n: int, height: int, width: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """A drifting pattern; each frame differs from every other, also after lossy coding."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(a / (7 + seed % 5 + i)) for i, a in enumerate((x, y, x + y))]
    pattern = np.stack(waves, axis=-1).astype(np.uint8)
    frames = []
    for number in range(n):
        frame = np.roll(pattern, 3 * number, axis=1)
        frame[4:20, 4 : 6 + 2 * (number % 24)] = 255
        frames.append(frame)
    return frames


def write_video(
    path: Path, n: int = 48, height: int = 96, width: int = 128, kind: str = "", seed: int = 0
) -> Path:
    """Encode `n` pictures at 25 frames a second; `kind` (default: the file's name) is in CODECS."""
    codec, options = CODECS[kind or path.name]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = 12
        if codec != "libvpx-vp9":
            stream.codec_context.max_b_frames = 2
        for picture in pictures(n, height, width, seed):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decode_in_order(path: Path) -> NDArray[np.uint8]:
    """What a plain decode gives: the reference that reading is held against."""
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
