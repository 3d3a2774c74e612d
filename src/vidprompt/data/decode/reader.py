"""Read frames by number: the same frame whatever reads it.

The truth is a decode in order (PyAV). Random access (decord) is several times faster on short
closed-GOP files and wrong on others: MPEG-4 AVI with B-frames, which UCF-101 and HMDB-51 are, comes
out shifted by up to dozens of frames. `read_frames` uses random access only where the probe found
that the two agree to the last bit.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprompt.data.decode.decoder_log import Complaints
from vidprompt.data.decode.orientation import UPRIGHT, Orientation, orientation
from vidprompt.system.errors import DataError

Frames = NDArray[np.uint8]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def read_frames(
    path: Path | str, indices: Sequence[int], kind: str = "video", exact: bool = True
) -> Frames:
    """Frames by number, uint8 RGB (n, H, W, 3): exactly those of a decode in order.

    Indices may repeat and come in any order. `kind` is `video` or `frames` (a folder of images, in
    the order of their names; all are brought to the first one's size). `exact` is the probe's
    verdict: True reads by random access, False decodes from the start. Rotation is applied; pixels
    that are not square stay as they are stored, and both fields of interlaced video in one frame.
    DataError names the file for an index out of range, and for a file that cannot be read.
    """
    path = Path(path)
    wanted, back = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
    if wanted.size == 0:
        raise DataError(f"{path}: no frame was asked for")
    if wanted[0] < 0:
        raise DataError(f"{path}: frame {wanted[0]} is out of range (frames count from 0)")
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if kind != "frames" and not path.is_file():
        raise DataError(f"{path}: it is a folder, a pipe or a device, not a file")
    frames: Frames | None = None
    if kind == "frames":
        frames = _read_folder(path, wanted)
    elif exact:
        frames = _read_random(path, wanted)
    if frames is None:
        frames = _read_in_order(path, wanted)
    return frames[back]


def _out_of_range(path: Path, index: int, n_frames: int) -> DataError:
    return DataError(f"{path}: frame {index} is out of range, it has {n_frames} frames")


def _read_folder(path: Path, wanted: NDArray[np.int64]) -> Frames:
    from PIL import Image

    names = image_names(path)
    if wanted[-1] >= len(names):
        raise _out_of_range(path, int(wanted[-1]), len(names))
    frames = []
    size: tuple[int, int] | None = None
    for index in [0, *wanted] if wanted[0] else wanted:  # image 0 gives the size
        try:
            with Image.open(path / names[index]) as opened:
                image = opened.convert("RGB")
        except OSError as error:
            raise DataError(f"{path / names[index]}: cannot be read: {error}") from error
        size = size or image.size
        if image.size != size:
            image = image.resize(size, Image.Resampling.BICUBIC)
        frames.append(np.asarray(image))
    return np.stack(frames[-len(wanted) :])


def _read_random(path: Path, wanted: NDArray[np.int64]) -> Frames | None:
    """By decord, in one ascending batch of a fresh reader; None when decord refuses the file."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(native_name(path), num_threads=1)
        if wanted[-1] < len(reader):
            return np.asarray(reader.get_batch(wanted.tolist()).asnumpy())
    except (decord.DECORDError, RuntimeError):
        return None
    raise _out_of_range(path, int(wanted[-1]), len(reader))


def _read_in_order(path: Path, wanted: NDArray[np.int64]) -> Frames:
    import av

    found: list[Frames] = []
    targets = deque(int(index) for index in wanted)
    index = -1
    try:
        with open_container(path) as container:
            stream = picture_stream(container)
            if stream is None:
                raise DataError(f"{path}: it has no video stream")
            convert = UprightRGB()
            for index, frame in enumerate(decoded(container, stream)):
                if index == targets[0]:
                    found.append(convert(frame))
                    targets.popleft()
                    if not targets:
                        return np.stack(found)
    except av.FFmpegError as error:
        raise DataError(f"{path}: cannot be decoded: {error.strerror}") from error
    raise _out_of_range(path, targets[-1], index + 1)


def open_container(path: Path, max_pixels: int | None = None) -> Any:
    """A PyAV container; FFmpegError when FFmpeg knows no format that fits.

    Pictures of more than `max_pixels` are refused by the decoder before memory is taken for them.
    Nothing but files is opened, also where the file is a playlist of addresses.
    """
    import av

    options = {"protocol_whitelist": "file"}
    if max_pixels is not None:
        options["max_pixels"] = str(max_pixels)
    settings: dict[str, Any] = {"options": options}
    if int(av.__version__.split(".")[0]) < 19:
        settings["metadata_errors"] = "ignore"  # titles need not be UTF-8
    return av.open(native_name(path), **settings)


def native_name(path: Path) -> str:
    """The path as FFmpeg takes it for a file: a relative one may look like a protocol (`a:b.mp4`)."""
    return str(path.absolute())


def picture_stream(container: Any, max_pixels: int | None = None) -> Any | None:
    """The first video stream that is not a cover picture, decoding in this thread alone."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            stream.codec_context.thread_count = 1
            if max_pixels is not None:
                stream.codec_context.options = {"max_pixels": str(max_pixels)}
            return stream
    return None


def decoded(container: Any, stream: Any, complaints: Complaints | None = None) -> Iterator[Any]:
    """All frames in order. Packets that the decoder refuses are skipped and noted in `complaints`.

    MemoryError when there is none left: it says nothing about the packet.
    """
    import av

    complaints = Complaints() if complaints is None else complaints
    packets = container.demux(stream)
    count = 0
    while True:
        try:
            packet = next(packets, None)
        except MemoryError:
            raise
        except av.FFmpegError as error:  # the container itself breaks off
            complaints.refuse(count, error.strerror or type(error).__name__)
            return
        if packet is None:
            return
        complaints.packets += packet.size > 0
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except av.FFmpegError as error:
            complaints.refuse(count, error.strerror or type(error).__name__)
            continue
        complaints.listen(count)
        for frame in frames:
            complaints.inspect(count, frame)
            yield frame
            count += 1


class UprightRGB:
    """Converts one video's frames to upright uint8 RGB (H, W, 3), all of the first one's size.

    The scaler is kept from frame to frame: to set it up costs more than a small frame's conversion.
    It is bicubic, as in the ffmpeg program; where colour is stored at half the size and 8 bits,
    FFmpeg repeats it instead, whichever is asked for.
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
        upright: Orientation = orientation(frame)
        return image if upright == UPRIGHT else np.ascontiguousarray(upright.apply(image))


def image_names(path: Path) -> list[str]:
    """The images of a frame folder in the order of their names; hidden files are not images."""
    with os.scandir(path) as entries:
        names = [entry.name for entry in entries]
    return sorted(n for n in names if n.lower().endswith(IMAGE_SUFFIXES) and n[0] != ".")
