"""Tar files of deterministic bytes, with the offset of every member's data."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Sequence
from typing import BinaryIO


def member_key(video_id: str) -> str:
    """A tar member's name: `/`, `.` and control characters as %XX (`%` too: ids stay distinct)."""
    return re.sub(r"[%/.\\\x00-\x1f\x7f]", lambda match: f"%{ord(match[0]):02X}", video_id)


class TarWriter:
    """A tar with nothing in it that depends on when, where or by whom it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.position = 0

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.position += len(data)

    def add(self, name: str, parts: Sequence[bytes]) -> int:
        """Append a member of concatenated parts; the offset of its data in bytes."""
        info = tarfile.TarInfo(name)  # mtime 0, uid and gid 0, no names, mode 0644
        info.size = sum(map(len, parts))
        self._put(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        offset = self.position
        for part in parts:
            self._put(part)
        self._put(bytes(-self.position % tarfile.BLOCKSIZE))
        return offset

    def finish(self) -> tuple[str, int]:
        """Write the end; the file's SHA-256 and size."""
        self._put(bytes(2 * tarfile.BLOCKSIZE))
        self._put(bytes(-self.position % tarfile.RECORDSIZE))
        return self._hash.hexdigest(), self.position
