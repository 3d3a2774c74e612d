"""Windows of a camera or a stream, which has no end."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Any

from vidprompt.data.decode.upright import ColourError, Frames, UprightRGB
from vidprompt.data.probe.result import Limits
from vidprompt.prediction.decoding import ChooseFrames, PrepareFrame
from vidprompt.prediction.windows import VideoEnd, WindowCutter, WindowFrames, cut_frames
from vidprompt.system.errors import DataError

_OPEN_S, _READ_S = 20.0, 20.0  # seconds without an answer
_PASSWORD = re.compile(r"(?<=://)[^/@\s]*@")


def live_windows(
    source: str,
    choose: ChooseFrames,
    prepare: PrepareFrame,
    window: float,
    stride: float,
    max_pixels: int = Limits.max_pixels,
) -> Generator[WindowFrames | VideoEnd, None, None]:
    """The windows of a stream as they end; a VideoEnd where it does end.

    Raises DataError where it cannot be opened, has no pictures, or breaks off without any.
    """
    cutter = WindowCutter(choose, prepare, window, stride)
    convert = UprightRGB()

    def upright(frame: Any) -> Frames:
        try:
            return convert(frame)
        except ColourError as error:
            raise DataError(f"{without_password(source)}: {error}") from error

    yield from cut_frames(_frames(source, max_pixels), cutter, upright)
    if not cutter.count:
        raise DataError(f"{without_password(source)}: it gives no pictures")


def without_password(source: str) -> str:
    """The address without `user:password@`, for messages."""
    return _PASSWORD.sub("", source)


def _frames(source: str, max_pixels: int) -> Iterator[Any]:
    """PyAV's frames as they arrive. A connection that breaks ends them."""
    import av

    options = {"max_pixels": str(max_pixels)}
    if source.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"
    form = "v4l2" if source.startswith("/dev/video") else None
    name = without_password(source)
    started = False
    try:
        with av.open(source, format=form, options=options, timeout=(_OPEN_S, _READ_S)) as container:
            if not container.streams.video:
                raise DataError(f"{name}: it has no video stream")
            stream = container.streams.video[0]
            if stream.width * stream.height > max_pixels:
                raise DataError(
                    f"{name}: its pictures are {stream.width} × {stream.height}, more than the limit of "
                    f"{max_pixels:,} pixels"
                )
            stream.codec_context.thread_count = 1
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except MemoryError:
                    raise
                except av.FFmpegError:  # it began between two key frames, or a packet was lost
                    continue
                for frame in frames:
                    started = True
                    yield frame
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError, OSError) as error:
        if started:
            return
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{name}: it cannot be opened: {reason}") from error
