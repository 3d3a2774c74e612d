"""Build little videos for tests, with PyAV and with the ffmpeg program, and decode them for reference.

The program comes with the Python package imageio-ffmpeg, so that every machine tests the same.
"""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

# name → codec and its options: those that make random access fail and succeed
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
    """The frames of a plain decode with PyAV, uint8 RGB (n, H, W, 3)."""
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


# -- with the ffmpeg program

FRAMES = 36  # of most of the videos
_CARD = ("-f", "lavfi", "-i", "testsrc2=size={size}:rate=25:duration=10")
_H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-x264-params")
_VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "12")
_BT709 = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")

# name → how a test card is encoded
ENCODED: dict[str, tuple[str, ...]] = {
    "closed_gop.mp4": (*_H264, "keyint=12:bframes=0:scenecut=0"),
    "b_frames.mp4": (*_H264, "keyint=12:bframes=3:b-adapt=0:scenecut=0"),
    "open_gop.mp4": (*_H264, "keyint=12:bframes=3:b-adapt=0:open-gop=1:scenecut=0"),
    "bt709.mp4": (*_H264, "keyint=12:bframes=2", *_BT709),
    "full_range.mp4": (*_H264, "keyint=12", "-pix_fmt", "yuvj420p"),
    "ten_bit.mp4": (*_H264, "keyint=12:bframes=2", "-pix_fmt", "yuv420p10le"),
    "hevc.mp4": (
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=error:keyint=12",
    ),
    "vp9.webm": _VP9,
    "odd_size.webm": _VP9,
    "av1.webm": ("-c:v", "libaom-av1", "-cpu-used", "8", "-g", "12"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-g", "12", "-q:v", "4"),
    "mpeg4_b_frames.avi": ("-c:v", "mpeg4", "-bf", "2", "-g", "12", "-q:v", "4"),
    "xvid_packed.avi": ("-c:v", "libxvid", "-bf", "2", "-g", "12", "-q:v", "4"),
    "motion_jpeg.avi": ("-c:v", "mjpeg", "-q:v", "6", "-pix_fmt", "yuvj420p"),
    "mpeg2.ts": ("-c:v", "mpeg2video", "-bf", "2", "-g", "12", "-q:v", "4"),
    "variable_rate.mp4": (
        *("-vf", "select=not(mod(n\\,3))+not(mod(n\\,5))", "-fps_mode", "vfr"),
        *(*_H264, "keyint=12:bframes=2"),
    ),
    "one_frame.mp4": (*_H264, "keyint=12"),
    "short.mp4": (*_H264, "keyint=12:bframes=2"),
}
# name → options of ffmpeg before and after `-i b_frames.mp4`; the packets stay as they are
COPIED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "rotated_90.mp4": (("-display_rotation", "90"), ()),
    "rotated_180.mp4": (("-display_rotation", "180"), ()),
    "rotated_270.mp4": (("-display_rotation", "270"), ()),
    "mirrored.mp4": (("-display_hflip",), ()),
    "mirrored_and_rotated.mp4": (("-display_rotation", "90", "-display_hflip"), ()),
    "edit_list.mp4": (("-ss", "0.3"), ()),  # begins at the key frame before, to be dropped again
    "starts_late.mp4": (("-itsoffset", "1.5"), ()),
    "starts_in_open_gop.mkv": (("-ss", "0.6"), ()),  # of open_gop.mp4
}
_COUNTS = {"one_frame.mp4": 1, "short.mp4": 5}
_SIZES = {"odd_size.webm": "127x95"}


def ffmpeg(*arguments: str | Path) -> bytes:
    """Run the program; returns its standard output. Raises AssertionError with its error messages."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-hide_banner",
        "-loglevel",
        "error",
        "-nostdin",
        "-y",
    ]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def make(folder: Path, name: str, frames: int = FRAMES, size: str = "128x96") -> Path:
    """Make the video of this name in the folder (with what it is copied from)."""
    path = folder / name
    if path.exists():
        return path
    if name in ENCODED:
        card = [part.format(size=_SIZES.get(name, size)) for part in _CARD]
        count = str(_COUNTS.get(name, frames))
        ffmpeg(*card, "-pix_fmt", "yuv420p", *ENCODED[name], "-frames:v", count, path)
    else:
        source = "open_gop.mp4" if "open_gop" in name else "b_frames.mp4"
        before, after = COPIED[name]
        ffmpeg(*before, "-i", make(folder, source, frames, size), "-c", "copy", *after, path)
    return path


def decode(path: Path, height: int, width: int, scale: str = "") -> NDArray[np.uint8]:
    """All frames of the first video stream as the program gives them, uint8 RGB (n, H, W, 3)."""
    filters = ("-vf", f"scale={scale}") if scale else ()
    raw = ("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    data = ffmpeg("-i", path, "-map", "0:v:0", *filters, *raw)
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)


def is_packed(path: Path) -> bool:
    """Whether an MPEG-4 file says that it stores B-frames in the packet of the frame before."""
    return re.search(rb"DivX\d+b\d+p", path.read_bytes()) is not None


def ffmpeg_errors(path: Path) -> str:
    """The program's error messages for a decode of the first video stream."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin"]
    command += ["-threads", "1", "-i", str(path), "-map", "0:v:0", "-f", "null", "-"]
    return subprocess.run(command, capture_output=True).stderr.decode(errors="replace")


def claim_size(vp9: bytes, side: int) -> bytes:
    """The same stream, its key frames saying that pictures are `side` pixels wide and high."""
    data, at = bytearray(vp9), 0
    while (
        at := data.find(b"\x49\x83\x42", at)
    ) >= 0:  # VP9's sync code; then 4 bits, then the size
        bits = int.from_bytes(data[at + 3 : at + 8], "big")
        size = (side - 1) << 20 | (side - 1) << 4
        data[at + 3 : at + 8] = (bits >> 36 << 36 | size | bits & 0xF).to_bytes(5, "big")
        at += 8
    return bytes(data)


def claim_samples(mp4: bytes, count: int) -> bytes:
    """The same file, its table of packet sizes saying that it has `count` entries."""
    data = bytearray(mp4)
    at = data.index(b"stsz") + 12
    data[at : at + 4] = struct.pack(">I", count)
    return bytes(data)
