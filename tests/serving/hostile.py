"""Files that look like videos and want to harm, and broken bodies; for tests and the load test."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path

import av
import numpy as np
from tests.data.make_videos import claim_samples, claim_size, write_video

PASSWD = b"file:///etc/passwd"
PLAYLISTS = {
    "m3u8": b"#EXTM3U\n#EXTINF:10,\n" + PASSWD + b"\n#EXT-X-ENDLIST\n",
    "bom m3u8": b"\xef\xbb\xbf\n#EXTM3U\n#EXTINF:10,\n" + PASSWD + b"\n",
    "ffconcat": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "mpd": b'<?xml version="1.0"?><MPD><BaseURL>' + PASSWD + b"</BaseURL></MPD>",
    "sdp": b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n",
}


def long_gif(path: Path, seconds: int) -> bytes:
    """A GIF of two pictures of which each is shown for half of `seconds`, repeated for ever."""
    with av.open(str(path), "w", options={"loop": "0"}) as container:
        stream = container.add_stream("gif", rate=1)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb8"
        for number in range(seconds):
            picture = np.full((32, 32, 3), 40 * (number % 2), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def flipped(data: bytes, seed: int, flips: int = 60) -> bytes:
    """The same bytes with some bits flipped."""
    rng = np.random.default_rng(seed)
    changed = bytearray(data)
    for at in rng.integers(0, len(data), flips):
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def bombs() -> dict[str, bytes]:
    """Little that claims to be, or unpacks to, much."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("video.mp4", bytes(20 * 2**20))
    start = bytes.fromhex("000000206674797069736f6d0000020069736f6d69736f32617663316d703431")
    return {
        "zip bomb": zipped.getvalue(),
        "gzip bomb": gzip.compress(bytes(20 * 2**20)),
        "10 GB of MP4": (start + struct.pack(">I4sQ", 1, b"mdat", 10**10)).ljust(1024, b"\0"),
        "endless WebM": b"\x1a\x45\xdf\xa3\x01" + (2**55).to_bytes(7, "big") + bytes(1000),
    }


def hostile_files(folder: Path) -> dict[str, bytes]:
    """Files by name, for limits of 5 seconds and 640 × 480 pixels; made in `folder`."""
    good = write_video(folder / "h264.mp4").read_bytes()
    vp9 = write_video(folder / "vp9.webm").read_bytes()
    return {
        "empty": b"",
        "text": b"no video\n" * 40,
        "cut": good[: len(good) // 2],
        "noise": np.random.default_rng(0).bytes(5000),
        "huge pictures": claim_size(vp9, 16_000),
        "many packets": claim_samples(good, 300_000_000),
        "large pictures": write_video(folder / "l.mp4", 2, 720, 1280, "h264.mp4").read_bytes(),
        "long": write_video(folder / "long.mp4", 200, 32, 32, "h264.mp4").read_bytes(),
        "long gif": long_gif(folder / "long.gif", 60),
        **PLAYLISTS,
        **bombs(),
    }


BROKEN = {
    "no boundary": ("multipart/form-data", b"--x\r\n"),
    "another boundary": ("multipart/form-data; boundary=y", b"--x\r\n\r\n--x--\r\n"),
    "no end": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\nabc',
    ),
    "no name": ("multipart/form-data; boundary=x", b"--x\r\nA: b\r\n\r\nabc\r\n--x--\r\n"),
    "endless header": (
        "multipart/form-data; boundary=x",
        b"--x\r\n" + b"A" * 100_000 + b": b\r\n\r\nabc\r\n--x--\r\n",
    ),
    "nothing": ("multipart/form-data; boundary=x", b""),
    "long boundary": (f"multipart/form-data; boundary={'x' * 1000}", b"--x--\r\n"),
    "no JSON": ("application/json", b"{"),
    "deep JSON": ("application/json", b"[" * 100_000),
    "a list": ("application/json", b"[]"),
}
