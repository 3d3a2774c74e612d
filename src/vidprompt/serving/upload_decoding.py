"""Decode an upload in a process of its own, within the limits of a request. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vidprompt.data.decode.reader import is_video_format, open_container, picture_stream
from vidprompt.prediction.clip_input import ClipInput
from vidprompt.prediction.decoding import FOLDER_RATE, DecodedVideo, decode_video
from vidprompt.prediction.windows import STRIDE_S, VideoEnd, WindowFrames, decode_windows
from vidprompt.system.errors import DataError

# What a file may be called for FFmpeg, which chooses some formats by their suffix; never a playlist
VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".avi", ".divx", ".mkv", ".webm", ".ts"),
        *(".m2ts", ".mts", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".flv", ".f4v", ".wmv"),
        *(
            ".asf",
            ".ogv",
            ".ogg",
            ".gif",
            ".apng",
            ".webp",
            ".y4m",
            ".mxf",
            ".mjpeg",
            ".mjpg",
            ".h264",
        ),
        *(".264", ".h265", ".265", ".hevc", ".av1", ".obu", ".ivf", ".dv", ".rm", ".rmvb", ".nut"),
    }
)
_PLAYLISTS = (b"#EXTM3U", b"ffconcat version", b"[playlist]", b"v=0\r", b"v=0\n", b"RTSPtext")
_HEAD = 4096


@dataclass(frozen=True)
class UploadItem:
    """An upload to decode.

    `name`: the client's, for sentences. `max_seconds`, `max_pixels`: limits. `window`, `stride`: seconds, to
    decode windows of a long video; None: the frames of its clips.
    """

    path: Path
    name: str
    input: ClipInput
    max_seconds: float
    max_pixels: int
    window: float | None = None
    stride: float = STRIDE_S


@dataclass(frozen=True)
class TooLarge:
    """The video is over a limit: the sentence."""

    message: str


Decoded = DecodedVideo | WindowFrames | VideoEnd | TooLarge


def decode_upload(item: UploadItem) -> Iterator[Decoded]:
    """Yield the decoded frames or windows, or that the video is too large.

    Raises DataError, naming `name`, where it cannot be decoded.
    """
    try:
        check_head(item.path)
        message = too_large(item.path, item.max_seconds, item.max_pixels)
        if message:
            yield TooLarge(f"{item.name}: {message}")
            return
        choose = partial(item.input.clips, name=item.name)
        prepare, pixels = item.input.prepare, item.max_pixels
        if item.window is None:
            yield decode_video(item.path, choose, prepare, pixels)
        else:
            window, stride = item.window, item.stride
            yield from decode_windows(item.path, choose, prepare, window, stride, pixels)
    except DataError as error:
        raise DataError(str(error).replace(str(item.path), item.name)) from error


def check_head(path: Path) -> None:
    """Raises DataError for a playlist: FFmpeg would open the files that it names."""
    with path.open("rb") as file:
        head = file.read(_HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(_PLAYLISTS) or b"<MPD" in head or b"CompositionPlaylist" in head:
        raise DataError(f"{path}: it is a playlist, no video: upload the video itself")


def too_large(path: Path, max_seconds: float, max_pixels: int) -> str:
    """What is too large about a video, by its packets, before any is decoded; "" where nothing is."""
    import av

    try:
        with open_container(path) as container:
            if not is_video_format(container.format.name):
                return ""  # decoding says so
            stream = picture_stream(container)
            if stream is None:
                return ""
            if stream.width * stream.height > max_pixels:
                size = f"{stream.width:,} × {stream.height:,}"
                return f"its pictures are {size}, and the limit is {max_pixels:,} pixels"
            first: float | None = None
            rate = float(stream.average_rate or 0) or FOLDER_RATE
            for count, packet in enumerate(container.demux(stream)):
                if packet.pts is None or packet.time_base is None:
                    time = count / rate if packet.size else 0.0
                else:
                    time = float(packet.pts * packet.time_base)
                first = time if first is None else min(first, time)
                if time - first > max_seconds:
                    return f"it is longer than {max_seconds:g} s"
    except (av.FFmpegError, ValueError):
        return ""  # decoding says why
    return ""
