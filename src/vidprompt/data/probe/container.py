"""Compare a video file's length with the length that its container declares (no decoder needed)."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MP4_FIRST = (
    b"ftyp",
    b"styp",
    b"moov",
    b"moof",
    b"sidx",
    b"mdat",
    b"wide",
    b"free",
    b"skip",
    b"pnot",
)
_RIFF_UNKNOWN = (0, 0x7FFFFFFF, 0xFFFFFFFF)  # a recorder that could not go back to write the length
_EBML, _SEGMENT, _CLUSTER, _BLOCKS = 0x1A45DFA3, 0x18538067, 0x1F43B675, (0xA3, 0xA0)
_FLV_TAGS = (8, 9, 18)  # sound, pictures, script
_ASF_HEADER = bytes.fromhex("3026B2758E66CF11A6D900AA0062CE6C")
_ASF_DATA = bytes.fromhex("3626B2758E66CF11A6D900AA0062CE6C")
_TS_SYNC = b"\x47"
_TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # length of a packet, place of its sync byte
_OGG_PAGE = 27 + 255 + 255 * 255  # the longest, in bytes


@dataclass(frozen=True)
class ContainerCheck:
    """Result of `check_container`.

    `missing`: bytes between the end of the file and the end that its container, or the last piece of
    it, declares. `in_pictures`: bytes of pictures or sound are among them, so it is not just an index.
    `headless`: an MP4 without its `moov` box, which cannot be opened. `detail` is a phrase about them.
    """

    missing: int = 0
    in_pictures: bool = False
    headless: bool = False

    @property
    def detail(self) -> str:
        parts = []
        if self.missing:
            parts.append(f"{self.missing:,} bytes are missing at its end")
        if self.headless:
            parts.append("its index (moov box) is missing")
        return ", ".join(parts)


def check_container(path: Path) -> ContainerCheck:
    """Compare a file's length with the lengths of its container or, of a live recording, of its pieces.

    For MP4 and MOV, AVI, Matroska and WebM, FLV, ASF, MPEG-TS, Ogg and GIF; of others nothing is missing.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        if head[4:8] in _MP4_FIRST:
            return _check_mp4(file, size)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return _check_avi(file, size)
        if int.from_bytes(head[:4], "big") == _EBML:
            return _check_matroska(file, size)
        if head[:3] == b"FLV":
            end = _flv_end(file, size)
        elif head == _ASF_HEADER:
            end = _asf_end(file)
        elif head[:4] == b"OggS":
            end = _ogg_end(file, size)
        elif head[:4] == b"GIF8":
            end = _gif_end(file, size)
        else:
            end = _ts_end(file, size)
        return ContainerCheck(max(0, end - size), in_pictures=end > size)


def _check_mp4(file: BinaryIO, size: int) -> ContainerCheck:
    offset, moov = 0, False
    while offset + 8 <= size:
        head = _read(file, offset, 16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:
            length = size - offset  # to the end of the file
        if length < 8:
            break
        offset += length
        moov = moov or (kind == b"moov" and offset <= size)
    return ContainerCheck(max(0, offset - size), headless=not moov)


def _check_avi(file: BinaryIO, size: int) -> ContainerCheck:
    """Skip from chunk to chunk; into lists only where their length is unknown or their end is missing."""
    offset = missing = 0
    inside = in_pictures = live = False
    while offset + 8 <= size:
        head = _read(file, offset, 12)
        kind, length = head[:4], int.from_bytes(head[4:8], "little")
        if not (kind == b"RIFF" or (inside and all(32 <= byte < 127 for byte in kind))):
            break  # not a chunk
        end, known = offset + 8 + length, length not in _RIFF_UNKNOWN
        if kind in (b"RIFF", b"LIST") and (not known or end > size):
            inside, pictures = True, head[8:12] == b"movi"
            live = live or (pictures and not known)
            in_pictures = in_pictures or (pictures and known)
            missing = max(missing, end - size if known else 0)
            offset += 12
        elif end > size:
            in_pictures = in_pictures or (live and kind != b"idx1")
            return ContainerCheck(max(missing, end - size), in_pictures)
        else:
            offset = end + length % 2
    return ContainerCheck(missing, in_pictures)


def _check_matroska(file: BinaryIO, size: int) -> ContainerCheck:
    """Skip from element to element; into segments and clusters as `_check_avi` into lists."""
    offset = missing = 0
    in_pictures = False
    while offset < size:
        file.seek(offset)
        identity, length = _vint(file, with_marker=True), _vint(file)
        start = file.tell()
        if identity is None or length is None:
            break  # not an element, or one whose first bytes are the last of the file
        known = length >= 0
        if identity in (_SEGMENT, _CLUSTER) and (not known or start + length > size):
            missing = max(missing, start + length - size if known else 0)
            in_pictures = in_pictures or (known and identity == _CLUSTER)
            offset = start
        elif start + length > size:
            in_pictures = in_pictures or identity in _BLOCKS
            return ContainerCheck(max(missing, start + length - size), in_pictures)
        else:
            offset = start + max(0, length)
    return ContainerCheck(missing, in_pictures)


def _vint(file: BinaryIO, with_marker: bool = False) -> int | None:
    """An EBML number; -1: a length that is unknown (a live recording); None: cut off, or no number."""
    first = file.read(1)
    if not first or first == b"\0":
        return None
    width = 9 - first[0].bit_length()
    rest = file.read(width - 1)
    if len(rest) < width - 1:
        return None
    value = int.from_bytes(first + rest, "big")
    if with_marker:
        return value
    mask = (1 << 7 * width) - 1
    return -1 if value & mask == mask else value & mask


def _flv_end(file: BinaryIO, size: int) -> int:
    """Where the last tag ends, which may be behind the end of the file."""
    offset = int.from_bytes(_read(file, 5, 4), "big") + 4
    while offset + 11 <= size:
        head = _read(file, offset, 4)
        if head[0] & 0x1F not in _FLV_TAGS:
            break
        offset += 11 + int.from_bytes(head[1:], "big")
        if offset > size:
            return offset
        offset += 4
    return size


def _asf_end(file: BinaryIO) -> int:
    """Where the data object ends; 0 where that is unknown."""
    offset = int.from_bytes(_read(file, 16, 8), "little")
    head = _read(file, offset, 24)
    return offset + int.from_bytes(head[16:], "little") if head[:16] == _ASF_DATA else 0


def _ogg_end(file: BinaryIO, size: int) -> int:
    """Where the last page ends, which may be behind the end of the file."""
    start = max(0, size - _OGG_PAGE)
    tail = _read(file, start, _OGG_PAGE)
    page = tail.rfind(b"OggS")
    count = tail[page + 26 : page + 27]
    if page < 0 or not count:
        return size + (page >= 0)
    return start + page + 27 + count[0] + sum(tail[page + 27 : page + 27 + count[0]])


def _gif_end(file: BinaryIO, size: int) -> int:
    """Behind the end of the file where a picture goes on there, else at it."""
    if size < 13:
        return size
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        offset = 13 + _gif_colours(data[10])
        while offset < size and data[offset] in b",!":  # a picture, an extension
            if data[offset : offset + 1] == b"!":
                offset += 2
            else:
                offset += 11 + (_gif_colours(data[offset + 9]) if offset + 9 < size else 0)
            while offset < size and data[offset]:  # blocks with their length in front
                offset += 1 + data[offset]
            offset += 1
    return max(offset, size)


def _gif_colours(flags: int) -> int:
    """Bytes of a table of colours."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _ts_end(file: BinaryIO, size: int) -> int:
    """Where the last packet ends, which may be behind the end of the file; 0: not MPEG-TS."""
    for length, place in _TS_PACKETS:
        begun = -(-size // length)
        packets = [0, 1, 2, begun - 1]
        if all(_read(file, n * length + place, 1) == _TS_SYNC for n in packets):
            return begun * length
    return 0


def _read(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)
