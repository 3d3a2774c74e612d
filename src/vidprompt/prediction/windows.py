"""Cut a long video, or a stream without an end, into windows while it is decoded once, in order.

Windows are in seconds of the time stamps: window k begins at k · stride. Of its frames those are taken that
the model's views take of a video of so many frames. A frame is converted and resized when a window takes
it, once for all windows that do. What is held are the frames of one window: memory does not grow with the
video.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vidprompt.data.decode.decoder_log import DecoderLog
from vidprompt.data.decode.reader import image_names
from vidprompt.data.decode.upright import ColourError, Frames, UprightRGB, upright_image
from vidprompt.data.probe.result import Limits
from vidprompt.prediction.decoding import (
    FOLDER_RATE,
    ChooseFrames,
    Clock,
    Numbers,
    PrepareFrame,
    existing_video,
    pictures,
    upright_rgb,
)
from vidprompt.system.errors import DataError, UserError

WINDOW_S, STRIDE_S = 2.0, 1.0
MIN_STRIDE_S = 0.01
_RAW_BYTES = 128 << 20  # of decoded frames that wait unconverted: 40 of full HD, 10 of 4K
_MAX_HELD = 1024  # frames of one window; of a longer one every second, fourth, … is held
_EPSILON = 1e-6  # seconds by which a time stamp may be rounded
_END_S = 0.01  # a rest of the video that is shorter makes no window


@dataclass(frozen=True)
class WindowFrames:
    """A window and those of its frames that no window before it had.

    `start`, `end`: seconds. `numbers` (clips, T): the frames of its clips, in the video. `frames`: number →
    uint8 RGB (H, W, 3), prepared. `first`: no window from here on has a frame before this one.
    """

    start: float
    end: float
    numbers: Numbers
    frames: dict[int, Frames]
    first: int


@dataclass(frozen=True)
class VideoEnd:
    """What is known of a video when it ends; `duration` in seconds, `note` a sentence on damage, or ""."""

    n_frames: int
    duration: float
    note: str = ""


def check_window(window: float, stride: float) -> None:
    """Raise UserError for seconds that make no windows."""
    if not (math.isfinite(window) and window > 0):
        raise UserError(f"window={window:g}: give a number of seconds above 0")
    if not (math.isfinite(stride) and stride >= MIN_STRIDE_S):
        raise UserError(f"stride={stride:g}: give at least {MIN_STRIDE_S:g} seconds")


def decode_windows(
    path: Path | str,
    choose: ChooseFrames,
    prepare: PrepareFrame,
    window: float = WINDOW_S,
    stride: float = STRIDE_S,
    max_pixels: int = Limits.max_pixels,
) -> Iterator[WindowFrames | VideoEnd]:
    """The windows of a video file or a folder of images, then a VideoEnd.

    The last window ends with the video and may be shorter; a video that is shorter than a window is one.
    Raises DataError, naming the file, where it cannot be read or has no frame.
    """
    path = existing_video(path)
    cutter = WindowCutter(choose, prepare, window, stride)
    if path.is_dir():
        yield from _folder_windows(path, cutter)
        return
    with DecoderLog() as log:
        frames = pictures(path, max_pixels, log)
        yield from cut_frames(frames, cutter, partial(upright_rgb, path, UprightRGB()), log)
    if not cutter.count:
        raise DataError(f"{path}: no frame of it can be decoded")


def cut_frames(
    frames: Iterator[Any],
    cutter: WindowCutter,
    convert: Callable[[Any], Frames],
    log: DecoderLog | None = None,
) -> Iterator[WindowFrames | VideoEnd]:
    """The windows of PyAV's frames, then a VideoEnd; `convert` makes a frame upright RGB."""
    clock = Clock()
    for frame in frames:
        size = sum(plane.buffer_size for plane in frame.planes)
        yield from cutter.add(clock(frame), partial(convert, frame), size)
    yield from cutter.finish(clock.end)
    yield VideoEnd(cutter.count, clock.end, log.sentence if log else "")


def _folder_windows(path: Path, cutter: WindowCutter) -> Iterator[WindowFrames | VideoEnd]:
    """The windows of a folder of images, which are all resized to the first one's size."""
    names = image_names(path)
    if not names:
        raise DataError(f"{path}: there is no image in this folder")
    size = _read_image(path / names[0]).shape[1::-1]
    for number, name in enumerate(names):
        yield from cutter.add(number / FOLDER_RATE, partial(_read_image, path / name, size), 0)
    duration = len(names) / FOLDER_RATE
    yield from cutter.finish(duration)
    yield VideoEnd(len(names), duration)


def _read_image(path: Path, size: tuple[int, ...] | None = None) -> Frames:
    """An image as upright RGB, resized to (width, height) as `data.decode.reader` does."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            frame = upright_image(image)
    except (OSError, ColourError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if size is None or frame.shape[1::-1] == size:
        return frame
    width, height = size
    resized = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized)


@dataclass
class _Held:
    """A frame that a window may take: unconverted until one does."""

    number: int
    time: float
    read: Callable[[], Frames]
    size: int  # bytes of the unconverted frame
    prepared: Frames | None = field(default=None)
    sent: bool = False


class WindowCutter:
    """Cuts frames that come in order into windows.

    Args:
        choose: number of frames → those of the clips, (clips, T).
        prepare: what is done with a frame that is taken.
        window, stride: seconds.

    `count`: frames that came. Raises UserError for seconds that make no windows.
    """

    def __init__(
        self, choose: ChooseFrames, prepare: PrepareFrame, window: float, stride: float
    ) -> None:
        check_window(window, stride)
        self._choose, self._prepare = choose, prepare
        self._window, self._stride = window, stride
        self._held: deque[_Held] = deque()
        self._raw = 0  # bytes of unconverted frames
        self._every = 1  # of a long window, only frames whose numbers this divides are held
        self._index = 0  # of the window that is open
        self.count = 0

    def add(self, time: float, read: Callable[[], Frames], size: int) -> Iterator[WindowFrames]:
        """The windows that end before a frame, which is shown at `time`; the frame is held."""
        while time >= self._start + self._window - _EPSILON:
            yield self._close(self._start + self._window)
        number = self.count
        self.count += 1
        if time < self._start - _EPSILON:  # between windows: only the last of these may be needed
            self._discard(len(self._held))
        elif number % self._every:
            return
        self._held.append(_Held(number, time, read, size))
        self._raw += size
        if len(self._held) > _MAX_HELD:
            self._every *= 2
            kept = [one for one in self._held if one.number % self._every == 0]
            self._raw = sum(one.size for one in kept if one.prepared is None)
            self._held = deque(kept)
        if self._raw > _RAW_BYTES:
            for one in self._held:
                self._picture(one)

    def finish(self, duration: float) -> Iterator[WindowFrames]:
        """The windows that are left when the video ends after `duration` seconds."""
        covered = self._start - self._stride + self._window if self._index else 0.0
        while self._held and self._start < duration - _END_S and covered < duration - _END_S:
            covered = min(self._start + self._window, duration)
            yield self._close(covered)
        if self._held and not self._index:  # shorter than a rest that makes a window
            yield self._close(duration)

    @property
    def _start(self) -> float:
        return self._index * self._stride

    def _close(self, end: float) -> WindowFrames:
        """The open window; the next one is open then."""
        start = self._start
        own = [one for one in self._held if one.time >= start - _EPSILON]
        if not own:  # no frame begins in it: the one before is still shown
            own = [self._held[-1]]
        kept = np.array([one.number for one in own])
        wanted = kept[0] + self._choose(int(kept[-1] - kept[0]) + 1)
        rows = _nearest_rows(kept, wanted)
        frames = dict[int, Frames]()
        for row in np.unique(rows):
            if not own[row].sent:
                own[row].sent = True
                frames[own[row].number] = self._picture(own[row])
        self._index += 1
        later = sum(one.time >= self._start - _EPSILON for one in self._held)
        self._discard(len(self._held) - max(later, 1))
        return WindowFrames(start, end, kept[rows], frames, self._held[0].number)

    def _picture(self, one: _Held) -> Frames:
        """The frame, converted and prepared; what it was decoded to is freed."""
        if one.prepared is None:
            one.prepared = self._prepare(one.read())
            one.read, self._raw = _converted, self._raw - one.size
        return one.prepared

    def _discard(self, count: int) -> None:
        """Free the first frames that are held."""
        for _ in range(count):
            one = self._held.popleft()
            self._raw -= one.size if one.prepared is None else 0


def _converted() -> Frames:
    raise AssertionError("the frame is converted already")


def _nearest_rows(kept: Numbers, wanted: Numbers) -> Numbers:
    """Where the nearest of the `kept` numbers (ascending) is for each wanted one."""
    after = np.searchsorted(kept, wanted).clip(0, len(kept) - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(kept[before] - wanted) < np.abs(kept[after] - wanted)
    return np.where(nearer, before, after)
