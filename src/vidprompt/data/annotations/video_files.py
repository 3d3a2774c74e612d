"""Which videos are there: a folder walked once, and asked by path or by stem."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

# What downloads and conversions of the field's datasets end in.
VIDEO_SUFFIXES = frozenset(
    (
        ".avi",
        ".mp4",
        ".webm",
        ".mkv",
        ".mov",
        ".m4v",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".3gp",
        ".ts",
    )
)


def has_videos(folder: Path, suffixes: Collection[str] = VIDEO_SUFFIXES) -> bool:
    """Is there any file of these suffixes in the folder, at any depth? Looks no further than the first."""
    return next(_walk(folder, ".", suffixes), None) is not None


class VideoFiles:
    """The video files below `root`/`folder`; symbolic links to folders are followed once.

    Paths are POSIX and relative to `root`. Folder layouts differ between downloads (flat, a folder a
    class, renamed folders), file names hardly: so a file is asked for by its stem.
    """

    def __init__(self, root: Path, folder: str = ".") -> None:
        self.folder = str(PurePosixPath(folder))
        self._by_stem: dict[str, str | list[str]] = {}
        self.count = 0
        for path in sorted(_walk(root, self.folder)):
            self.count += 1
            stem = PurePosixPath(path).stem
            known = self._by_stem.get(stem)
            if known is None:
                self._by_stem[stem] = path
            elif isinstance(known, str):
                self._by_stem[stem] = [known, path]
            else:
                known.append(path)

    def find(self, stem: str, folders: Sequence[str] = ()) -> str | None:
        """The file of that stem; among several, one whose folder's name is earliest in `folders`.

        None when there is none. Without a preferred one, the first in the order of paths.
        """
        known = self._by_stem.get(stem)
        if known is None or isinstance(known, str):
            return known
        for folder in folders:
            for path in known:
                if folder in PurePosixPath(path).parts[:-1]:
                    return path
        return known[0]

    def would_be(self, path: str) -> str:
        """Where a video that is not there would lie, by its path below the folder."""
        return path if self.folder == "." else f"{self.folder}/{path}"

    def __iter__(self) -> Iterator[str]:
        for known in self._by_stem.values():
            yield from [known] if isinstance(known, str) else known


def _walk(root: Path, folder: str, suffixes: Collection[str] = VIDEO_SUFFIXES) -> Iterator[str]:
    """Files below with such a suffix (hidden ones left out), as POSIX paths relative to root."""
    seen: set[tuple[int, int]] = set()
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            about = (root / current).stat()
            entries = list(os.scandir(root / current))
        except OSError:  # not there, or not to be read: its videos count as missing
            continue
        if (about.st_dev, about.st_ino) in seen:
            continue
        seen.add((about.st_dev, about.st_ino))
        for entry in entries:
            path = entry.name if current == "." else f"{current}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                pending.append(path)
            elif PurePosixPath(entry.name).suffix.lower() in suffixes and entry.is_file():
                yield path
