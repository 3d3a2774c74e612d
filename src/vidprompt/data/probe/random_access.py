"""Compare decord's random access with reference frames of a decode in order."""

from __future__ import annotations

import hashlib
from collections import deque
from pathlib import Path
from typing import Any

from vidprompt.data.decode.reader import Frames, native_name
from vidprompt.data.decode.upright import UprightRGB
from vidprompt.data.probe.picture_fingerprint import Thumbnail, fingerprint, thumbnail

# decord's last frames of an AVI or MPEG-4 stream with B-frames depend on how its threads were
# scheduled: right in one reading, two frames early in the next. A comparison proves nothing there.
_UNRELIABLE_CONTAINERS, _UNRELIABLE_CODECS = ("avi",), ("mpeg4",)

_SAMPLES = 12  # evenly spread reference frames, at least
_B_PICTURE = 3  # AV_PICTURE_TYPE_B
_KEY_SAMPLES = 8  # key frames whose neighbourhood is compared too
_BATCH_BYTES = 256 * 2**20  # of frames that decord holds at once


class References:
    """Hashes of a few frames, collected while a video is decoded in order.

    They are evenly spread (thinned as the count grows, so that few frames are converted), and
    around key frames, where random access goes wrong first.
    """

    def __init__(self) -> None:
        self._stride = 1
        self._spread: dict[int, bytes] = {}
        self._thumbnails: dict[int, Thumbnail] = {}
        self._keys: dict[int, bytes] = {}
        self._key_count = 0
        self._after = 0
        self._last: deque[tuple[int, Any]] = deque(maxlen=2)
        self._convert = UprightRGB()
        self._reordered = False  # a B-frame was seen

    def add(self, index: int, frame: Any) -> None:
        """Hash frame number `index` if it is a reference; call it for every frame in order."""
        self._reordered = self._reordered or int(frame.pict_type) == _B_PICTURE
        if index % self._stride == 0:
            image = self._convert(frame)
            self._spread[index] = _digest(image)
            self._thumbnails[index] = thumbnail(image)
            if len(self._spread) > 2 * _SAMPLES:
                self._stride *= 2
                self._spread = {i: h for i, h in self._spread.items() if i % self._stride == 0}
                self._thumbnails = {i: self._thumbnails[i] for i in self._spread}
        if frame.key_frame and index and self._key_count < _KEY_SAMPLES:
            self._key_count += 1
            self._keys.update((i, self._hash(f)) for i, f in self._last)
            self._after = 2
        if self._after:
            self._keys[index] = self._hash(frame)
            self._after -= 1
        self._last.append((index, frame))

    def hashes(self, container: str, codec: str) -> dict[int, bytes]:
        """Frame number to hash, ascending, the last frame among them.

        Empty where a comparison would prove nothing; `container` and `codec` are FFmpeg's names.
        """
        if self._reordered and (container in _UNRELIABLE_CONTAINERS or codec in _UNRELIABLE_CODECS):
            return {}
        last = {i: self._hash(f) for i, f in list(self._last)[-1:]}
        return dict(sorted({**self._spread, **self._keys, **last}.items()))

    def fingerprint(self, count: int) -> str:
        """The fingerprint of the pictures of a video of `count` frames."""
        return fingerprint(self._thumbnails, count)

    def _hash(self, frame: Any) -> bytes:
        return _digest(self._convert(frame))


def _digest(image: Frames) -> bytes:
    return hashlib.blake2b(image.tobytes() + repr(image.shape).encode(), digest_size=16).digest()


def random_access_agrees(
    path: Path, n_frames: int, hashes: dict[int, bytes], frame_bytes: int
) -> bool:
    """Whether decord counts `n_frames` and gives the hashed frames, bit for bit.

    Two interleaved ascending batches, each from a fresh reader, which is how `read_frames` reads;
    of frames of many bytes, fewer are compared.
    """
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    indices = sorted(hashes)
    most = max(2, _BATCH_BYTES // max(1, frame_bytes))
    try:
        for part in filter(None, (indices[::2], indices[1::2])):
            chosen = [part[i] for i in _spread(len(part), most)]
            reader = decord.VideoReader(native_name(path), num_threads=1)
            if len(reader) != n_frames:
                return False
            frames = reader.get_batch(chosen).asnumpy()
            if any(_digest(f) != hashes[i] for f, i in zip(frames, chosen, strict=True)):
                return False
    except (decord.DECORDError, RuntimeError):
        return False
    return True


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [i * (count - 1) // (most - 1) for i in range(most)]
