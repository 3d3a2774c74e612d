"""Decode the frames that an explanation shows, in the video's own geometry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidprompt.data.decode.decoder_log import DecoderLog
from vidprompt.data.decode.reader import open_container, picture_stream, read_frames
from vidprompt.data.decode.upright import Frames, UprightRGB
from vidprompt.data.probe.result import Limits
from vidprompt.prediction.decoding import (
    FOLDER_RATE,
    Clock,
    DecodedVideo,
    Numbers,
    PrepareFrame,
    pictures,
    upright_rgb,
)
from vidprompt.system.errors import DataError

SHOWN_SIDE = 480  # pixels of the short side of frames that are shown; larger ones are reduced


@dataclass(frozen=True)
class ShownFrames:
    """Frames to draw on: uint8 RGB (n, H, W, 3), reduced where they are large.

    `size`: width and height of the video's own frames, upright.
    """

    pictures: Frames
    size: tuple[int, int]


def header_seconds(path: Path | str) -> float:
    """How long a video is by its header, to choose what to decode; 0 where it does not say."""
    import av

    path = Path(path)
    if not path.is_file():
        return 0.0
    try:
        with open_container(path, Limits.max_pixels) as container:
            stream = picture_stream(container, Limits.max_pixels)
            if stream is not None and stream.duration and stream.time_base:
                return float(stream.duration * stream.time_base)
            return float(container.duration or 0) / 1_000_000
    except (av.FFmpegError, ValueError):
        return 0.0


def read_shown(path: Path | str, numbers: Numbers, max_pixels: int) -> ShownFrames:
    """The frames of a video to draw on; `numbers` ascending. Raises DataError."""
    size, shown = (0, 0), list[Frames]()
    for _, _, frame in _full_frames(Path(path), numbers, max_pixels):
        size = size if shown else (frame.shape[1], frame.shape[0])
        shown.append(_reduced(frame, shown[0].shape if shown else None))
    return ShownFrames(np.stack(shown), size)


def read_part(
    path: Path | str, numbers: Numbers, prepare: PrepareFrame, max_pixels: int
) -> tuple[DecodedVideo, ShownFrames]:
    """Frames of a part of a video, prepared for a model and to draw on; `numbers` ascending.

    The video is decoded up to the last of these; `n_frames` and `duration` are the part's. Raises DataError.
    """
    prepared, times, shown, size = list[Frames](), list[float](), list[Frames](), (0, 0)
    for _, time, frame in _full_frames(Path(path), numbers, max_pixels):
        size = size if shown else (frame.shape[1], frame.shape[0])
        prepared.append(prepare(frame))
        shown.append(_reduced(frame, shown[0].shape if shown else None))
        times.append(time)
    part = DecodedVideo(np.stack(prepared), numbers, np.array(times), len(numbers), times[-1])
    return part, ShownFrames(np.stack(shown), size)


def _full_frames(
    path: Path, numbers: Numbers, max_pixels: int
) -> Iterator[tuple[int, float, Frames]]:
    """Number, time in seconds, and upright RGB of some frames, in order."""
    if path.is_dir():
        frames = read_frames(path, numbers.tolist(), "frames")
        for number, frame in zip(numbers.tolist(), frames, strict=True):
            yield number, number / FOLDER_RATE, frame
        return
    wanted, found = set(numbers.tolist()), 0
    convert, clock = UprightRGB(), Clock()
    with DecoderLog() as log:
        for number, frame in enumerate(pictures(path, max_pixels, log)):
            time = clock(frame)
            if number in wanted:
                yield number, time, upright_rgb(path, convert, frame)
                found += 1
            if found == len(wanted):
                return
    raise DataError(f"{path}: two decodes give different numbers of frames")


def _reduced(frame: Frames, shape: tuple[int, ...] | None) -> Frames:
    """The frame at most SHOWN_SIDE high or wide, or in the given shape (of the first frame)."""
    from PIL import Image

    height, width = frame.shape[:2]
    scale = min(1.0, SHOWN_SIDE / min(height, width))
    rows, columns = (round(height * scale), round(width * scale)) if shape is None else shape[:2]
    if (rows, columns) == (height, width):
        return frame
    return np.asarray(Image.fromarray(frame).resize((columns, rows), Image.Resampling.LANCZOS))
