"""Decode the frames of a video that a model looks at, in one pass and without torch.

Frames are those of a decode in order, numbered from 0, as everywhere (`data.decode.reader`). Which are wanted
depends on how many there are, and only the decode shows that: the packets are counted first, which is cheap,
and in the rare case that this count is wrong the video is decoded a second time.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprompt.data.decode.decoder_log import DecoderLog
from vidprompt.data.decode.reader import (
    decoded,
    image_names,
    is_video_format,
    open_container,
    picture_stream,
    read_frames,
)
from vidprompt.data.decode.upright import ColourError, Frames, UprightRGB
from vidprompt.data.probe.result import Limits
from vidprompt.data.shards.build import encode_frames
from vidprompt.data.shards.plan import FrameSettings
from vidprompt.system.errors import DataError

Numbers = NDArray[np.int64]
ChooseFrames = Callable[[int], Numbers]  # number of frames → those that are wanted, of any shape
FOLDER_RATE = 25.0  # frames a second that a folder of images is taken to have
_MAX_GAP_S, _MAX_STALL_S = 3600.0, 1.0  # between time stamps that are believed


@dataclass(frozen=True)
class DecodedVideo:
    """Some frames of a video.

    `frames`: uint8 RGB (n, H, W, 3), prepared as wanted; `numbers` (n,): theirs, ascending; `times` (n,):
    when they are shown, in seconds from the first frame. `n_frames`, `duration` (seconds): of the video.
    `note`: a sentence on damage that the decoder met, or "".
    """

    frames: Frames
    numbers: Numbers
    times: NDArray[np.float64]
    n_frames: int
    duration: float
    note: str = ""


@dataclass(frozen=True)
class PrepareFrame:
    """What is done with a decoded frame at once, so that no large picture waits for the others.

    `stored`: it is resized, encoded and decoded as the frame cache of the training stores frames; the pixels
    are then those of the tests. `short_side`: it is resized to that (Pillow, `interpolation`), as a test's
    view does first. Without both it stays as it is.
    """

    stored: FrameSettings | None = None
    short_side: int | None = None
    interpolation: str = "bicubic"

    def __call__(self, frame: Frames) -> Frames:
        """uint8 RGB (H, W, 3) → the same in another size."""
        from PIL import Image

        if self.stored is not None:
            (encoded,) = encode_frames(frame[None], self.stored)
            with Image.open(io.BytesIO(encoded)) as image:
                return np.asarray(image.convert("RGB"))
        height, width = frame.shape[:2]
        if self.short_side is None or min(height, width) == self.short_side:
            return frame
        short = min(height, width)
        size = width * self.short_side // short, height * self.short_side // short
        kind = Image.Resampling[self.interpolation.upper()]
        return np.asarray(Image.fromarray(frame).resize(size, kind))


def decode_video(
    path: Path | str,
    choose: ChooseFrames,
    prepare: PrepareFrame,
    max_pixels: int = Limits.max_pixels,
) -> DecodedVideo:
    """Decode the frames that `choose` picks, of a video file or a folder of images.

    Raises DataError, naming the file, where it cannot be read, has no frame, or has larger pictures than
    `max_pixels`.
    """
    path = existing_video(path)
    if path.is_dir():
        return _decode_folder(path, choose, prepare)
    expected = _count_packets(path, max_pixels)
    result = _decode_file(path, choose, prepare, max_pixels, expected)
    if isinstance(result, int):
        result = _decode_file(path, choose, prepare, max_pixels, result)
    if isinstance(result, int):
        raise DataError(f"{path}: two decodes give different numbers of frames")
    return result


def existing_video(path: Path | str) -> Path:
    """The path of a file that is not empty, or of a folder. Raises DataError for anything else."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_dir():
        return path
    if not path.is_file():
        raise DataError(f"{path}: it is a pipe or a device, not a file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: it is empty (0 bytes)")
    return path


def _decode_folder(path: Path, choose: ChooseFrames, prepare: PrepareFrame) -> DecodedVideo:
    count = len(image_names(path))
    if not count:
        raise DataError(f"{path}: there is no image in this folder")
    numbers = np.unique(choose(count))
    frames = np.stack([prepare(frame) for frame in read_frames(path, numbers.tolist(), "frames")])
    return DecodedVideo(frames, numbers, numbers / FOLDER_RATE, count, count / FOLDER_RATE)


def _count_packets(path: Path, max_pixels: int) -> int:
    """How many packets the pictures have; 0 where even that cannot be read."""
    import av

    try:
        with open_container(path, max_pixels) as container:
            stream = picture_stream(container, max_pixels)
            if stream is None:
                return 0
            return sum(packet.size > 0 for packet in container.demux(stream))
    except (av.FFmpegError, ValueError):
        return 0


def _decode_file(
    path: Path, choose: ChooseFrames, prepare: PrepareFrame, max_pixels: int, expected: int
) -> DecodedVideo | int:
    """The frames that are wanted of `expected` ones; the number of frames if these are others."""
    wanted = set(choose(expected).ravel().tolist()) if expected else set()
    frames: list[Frames] = []
    kept: list[int] = []
    times = list[float]()
    clock = Clock()
    count = 0
    convert = UprightRGB()
    with DecoderLog() as log:
        for frame in pictures(path, max_pixels, log):
            time = clock(frame)
            if count in wanted:
                frames.append(prepare(upright_rgb(path, convert, frame)))
                kept.append(count)
                times.append(time)
            count += 1
    if not count:
        raise DataError(f"{path}: no frame of it can be decoded")
    numbers = np.unique(choose(count))
    if not set(numbers.tolist()) <= set(kept):
        return count
    rows = np.searchsorted(kept, numbers)
    return DecodedVideo(
        frames=np.stack([frames[row] for row in rows]),
        numbers=numbers,
        times=np.array(times)[rows],
        n_frames=count,
        duration=clock.end,
        note=log.sentence if log else "",
    )


def upright_rgb(path: Path, convert: UprightRGB, frame: Any) -> Frames:
    """A decoded frame as upright uint8 RGB (H, W, 3). Raises DataError where its colours are unknown."""
    try:
        return convert(frame)
    except ColourError as error:
        raise DataError(f"{path}: {error}") from error


def pictures(
    path: Path, max_pixels: int = Limits.max_pixels, log: DecoderLog | None = None
) -> Iterator[Any]:
    """PyAV's frames of a file's pictures, in order; `log` gets what the decoder complains about.

    Raises DataError where there are none to decode.
    """
    import av

    try:
        with open_container(path, max_pixels) as container:
            name = container.format.name
            if not is_video_format(name):
                raise DataError(f"{path}: it is no video, its content is {name}")
            stream = picture_stream(container, max_pixels)
            if stream is None:
                raise DataError(f"{path}: it has no video stream ({name})")
            if stream.width * stream.height > max_pixels:
                raise DataError(
                    f"{path}: its pictures are {stream.width} × {stream.height}, more than the limit of "
                    f"{max_pixels:,} pixels"
                )
            yield from decoded(container, stream, log)
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: it cannot be read as a video: {reason}") from error


class Clock:
    """When frames are shown, in seconds from the first one; without time stamps, by the stream's rate.

    Times never go back. Where time stamps go back or stand still for a second of frames, or leap by more
    than an hour, a new count has begun (joined recordings, a camera that starts anew): time goes on from
    the frame before. `end`: when the last frame ends.
    """

    def __init__(self) -> None:
        self._first: float | None = None  # the time stamp of 0 s
        self._last, self.end = 0.0, 0.0
        self._stalled = 0.0  # seconds of frames since the time last moved

    def __call__(self, frame: Any) -> float:
        """The time of the next frame."""
        step = float(frame.duration * frame.time_base) if frame.duration else 0.0
        step = step if 0 < step < _MAX_GAP_S else 1 / FOLDER_RATE
        stamp = frame.time
        if self._first is None:
            self._first = stamp if stamp is not None else 0.0
            time = 0.0
        elif stamp is None:
            time = self.end
        else:
            time = stamp - self._first
            if time <= self._last:
                self._stalled += step
            if self._stalled > _MAX_STALL_S or time > self._last + _MAX_GAP_S:
                time = max(self.end, self._last + self._stalled)
                self._first = stamp - time
        if time > self._last:
            self._stalled = 0.0
        self._last = max(time, self._last)
        self.end = self._last + step
        return self._last


def stack_clips(video: DecodedVideo, numbers: Sequence[int] | Numbers) -> Frames:
    """The frames of one clip in its order, uint8 (T, H, W, 3); numbers may repeat."""
    rows = np.searchsorted(video.numbers, np.asarray(numbers))
    return video.frames[rows]
