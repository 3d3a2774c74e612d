"""Compare a video file's length with the length that its container declares (no decoder needed)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MP4_FIRST = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067


@dataclass(frozen=True)
class ContainerCheck:
    """Result of `check_container`.

    `missing`: bytes between the end of the file and the end that its container declares. `headless`: an
    MP4 without its `moov` box, which cannot be opened. `detail` is a phrase about both.
    """

    missing: int = 0
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
    """Compare a file's length with its container's (AVI, MP4/MOV, Matroska/WebM; others: 0)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            declared = int.from_bytes(head[4:8], "little")
            known = declared not in (0, 0xFFFFFFFF)  # the recorder never wrote it
            return ContainerCheck(max(0, declared + 8 - size) if known else 0)
        if head[4:8] in _MP4_FIRST:
            return _walk_mp4(file, size)
        if int.from_bytes(head[:4], "big") == _EBML:
            file.seek(0)
            return ContainerCheck(_missing_matroska(file, size))
    return ContainerCheck()


def _walk_mp4(file: BinaryIO, size: int) -> ContainerCheck:
    offset, moov = 0, False
    while offset + 8 <= size:
        file.seek(offset)
        head = file.read(16)
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


def _missing_matroska(file: BinaryIO, size: int) -> int:
    end = 0
    for expected in (_EBML, _SEGMENT):
        identity = int.from_bytes(file.read(4), "big")
        length = _vint(file)
        if identity != expected or length is None:
            return 0
        end = file.tell() + length
        if end > size:  # perhaps further than a file can be
            break
        file.seek(end)  # past the header; then past the segment, which is the rest of the file
    return max(0, end - size)


def _vint(file: BinaryIO) -> int | None:
    """An EBML length; None when it is unknown (a live recording) or cut off."""
    first = file.read(1)
    if not first or first == b"\0":
        return None
    width = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(width - 1), "big")
    bits = 7 * width
    value &= (1 << bits) - 1
    return None if value == (1 << bits) - 1 else value
