"""Read frames of a video by number, exactly those of a decode in order.

PyAV decodes in order. Random access (decord) is several times faster on short closed-GOP files and
wrong on others: on MPEG-4 AVI with B-frames, as in UCF-101 and HMDB-51, it is off by up to dozens of
frames. `read_frames` uses random access only where the probe found both to be equal bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprompt.data.decode.decoder_log import DecoderLog
from vidprompt.data.decode.upright import ColourError, Frames, UprightRGB, upright_image
from vidprompt.files.natural_order import natural_key
from vidprompt.system.errors import DataError

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pnm", ".tga", ".jp2", ".avif"),
)
# FFmpeg's formats of texts, single images and playlists
_NO_VIDEO_FORMATS = ("tty", "image2", "hls", "dash", "concat", "sdp", "imf")


def read_frames(
    path: Path | str, indices: Sequence[int], kind: str = "video", exact: bool = True
) -> Frames:
    """Frames by number, uint8 RGB (n, H, W, 3): exactly those of a decode in order.

    Indices may repeat and come in any order. `kind` is `video` or `frames` (a folder of images, in the
    order of their numbers and resized to the first one's size). `exact` is the probe's result: True
    reads by random access, False decodes from the start. Rotation is applied; non-square pixels stay
    as they are stored, and so do both fields of interlaced video, in one frame; alpha is dropped, and
    HDR is not tone-mapped. Raises DataError, naming the file, for an index out of range and for a file
    that cannot be read.
    """
    path = Path(path)
    wanted, inverse = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
    if wanted.size == 0:
        raise DataError(f"{path}: the list of frames to read is empty")
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
    return frames[inverse]


def _out_of_range(path: Path, index: int, n_frames: int) -> DataError:
    return DataError(f"{path}: frame {index} is out of range, it has {n_frames} frames")


def _read_folder(path: Path, wanted: NDArray[np.int64]) -> Frames:
    """Images of a folder by their place in the order of names."""
    from PIL import Image

    names = image_names(path)
    if wanted[-1] >= len(names):
        raise _out_of_range(path, int(wanted[-1]), len(names))
    frames: list[Frames] = []
    for index in [0, *wanted] if wanted[0] else wanted:  # image 0 gives the size
        try:
            with Image.open(path / names[index]) as image:
                frame = upright_image(image)
        except (OSError, ColourError) as error:
            raise DataError(f"{path / names[index]}: cannot be read: {error}") from error
        if frames and frame.shape != frames[0].shape:
            height, width, _ = frames[0].shape
            resized = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
            frame = np.asarray(resized)
        frames.append(frame)
    return np.stack(frames[-len(wanted) :])


def _read_random(path: Path, wanted: NDArray[np.int64]) -> Frames | None:
    """Read by decord, in one ascending batch of a fresh reader; None when decord refuses the file."""
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
    """Read by PyAV, decoding from the start to the last wanted frame."""
    import av

    frames: list[Frames] = []
    targets = set(wanted.tolist())
    count = 0
    try:
        with open_container(path) as container:
            stream = picture_stream(container)
            if stream is None:
                raise DataError(f"{path}: it has no video stream")
            convert = UprightRGB()
            for frame in decoded(container, stream):
                if count in targets:
                    frames.append(convert(frame))
                    if len(frames) == len(targets):
                        return np.stack(frames)
                count += 1
    except av.FFmpegError as error:
        raise DataError(f"{path}: cannot be decoded: {error.strerror}") from error
    except ColourError as error:
        raise DataError(f"{path}: {error}") from error
    raise _out_of_range(path, int(wanted[-1]), count)


def open_container(path: Path, max_pixels: int | None = None) -> Any:
    """Open a file with PyAV. Raises FFmpegError when FFmpeg knows no format that fits.

    The decoder refuses pictures of more than `max_pixels` before it takes memory for them. Only files
    are opened, even where the file is a playlist of network addresses.
    """
    import av

    options = {"protocol_whitelist": "file"}
    if max_pixels is not None:
        options["max_pixels"] = str(max_pixels)
    settings: dict[str, Any] = {"options": options}
    if int(av.__version__.split(".")[0]) < 19:
        settings["metadata_errors"] = "ignore"  # titles need not be UTF-8
    return av.open(native_name(path), **settings)


def is_video_format(name: str) -> bool:
    """Whether FFmpeg's format of that name holds moving pictures: no text, no single image, no playlist."""
    return name not in _NO_VIDEO_FORMATS and not name.endswith("_pipe")


def native_name(path: Path) -> str:
    """An absolute path, which FFmpeg cannot mistake for a protocol (`a:b.mp4`)."""
    return str(path.absolute())


def picture_stream(container: Any, max_pixels: int | None = None) -> Any | None:
    """The first video stream that is not a cover picture, set to decode in the calling thread."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            stream.codec_context.thread_count = 1
            if max_pixels is not None:
                stream.codec_context.options = {"max_pixels": str(max_pixels)}
            return stream
    return None


def decoded(container: Any, stream: Any, log: DecoderLog | None = None) -> Iterator[Any]:
    """Decode all frames in order. Packets that the decoder refuses are skipped and noted in `log`.

    Raises MemoryError when memory runs out.
    """
    import av

    log = DecoderLog() if log is None else log
    packets = container.demux(stream)
    count = 0
    while True:
        try:
            packet = next(packets, None)
        except MemoryError:  # an FFmpegError too, but it says nothing about the packet
            raise
        except av.FFmpegError as error:  # the container itself breaks off
            log.add_refused_packet(count, error.strerror or type(error).__name__)
            return
        if packet is None:
            return
        log.packets += packet.size > 0
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except av.FFmpegError as error:
            log.add_refused_packet(count, error.strerror or type(error).__name__)
            continue
        log.collect(count)
        for frame in frames:
            log.check_frame(count, frame)
            yield frame
            count += 1


def image_names(path: Path) -> list[str]:
    """Names of the images in a folder of frames, 2.jpg before 10.jpg; hidden files are left out."""
    with os.scandir(path) as entries:
        names = [entry.name for entry in entries]
    images = (n for n in names if n.lower().endswith(IMAGE_SUFFIXES) and n[0] != ".")
    return sorted(images, key=natural_key)
