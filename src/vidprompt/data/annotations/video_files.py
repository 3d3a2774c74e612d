"""Find the video files below a folder, and look them up by stem."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

# Of downloads and conversions of the field's datasets.
VIDEO_SUFFIXES = frozenset(
    [
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
    ]
)


def has_videos(folder: Path, suffixes: Collection[str] = VIDEO_SUFFIXES) -> bool:
    """Whether the folder has a file of these suffixes, at any depth. Stops at the first."""
    return next(_walk(folder, ".", suffixes), None) is not None


class VideoFiles:
    """The video files below `root`/`folder`; symbolic links to folders are followed once.

    Paths are POSIX and relative to `root`. Folder layouts differ between downloads (flat, a folder a
    class, renamed folders), file names rarely do: so files are looked up by their stem. Systems store
    letters with accents in different ways: stems are compared in Unicode's composed form.
    """

    def __init__(self, root: Path, folder: str = ".") -> None:
        self.folder = str(PurePosixPath(folder))
        self._by_stem: dict[str, list[str]] = {}
        for path in sorted(_walk(root, self.folder)):
            self._by_stem.setdefault(stem_of(path), []).append(path)

    def find(self, stem: str, folders: Sequence[str] = ()) -> str | None:
        """The file of that stem; among several, one in the folder whose name is first in `folders`.

        Without a preferred one, the first in the order of paths; None when there is no such file.
        """
        paths = self.paths(stem)
        for folder in folders:
            for path in paths:
                if folder in PurePosixPath(path).parts[:-1]:
                    return path
        return paths[0] if paths else None

    def paths(self, stem: str) -> list[str]:
        """All files of that stem, in the order of paths."""
        return self._by_stem.get(unicodedata.normalize("NFC", stem), [])

    def missing_path(self, path: str) -> str:
        """The path that a missing video would have, from its path below the folder."""
        return path if self.folder == "." else f"{self.folder}/{path}"

    def __iter__(self) -> Iterator[str]:
        for paths in self._by_stem.values():
            yield from paths


def stem_of(path: str) -> str:
    """A path's stem in Unicode's composed form."""
    return unicodedata.normalize("NFC", PurePosixPath(path).stem)


def _walk(root: Path, folder: str, suffixes: Collection[str] = VIDEO_SUFFIXES) -> Iterator[str]:
    """Files below `root`/`folder` with such a suffix, as POSIX paths relative to root; no hidden ones."""
    visited: set[tuple[int, int]] = set()
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            state = (root / current).stat()
            entries = list(os.scandir(root / current))
        except OSError:  # missing or not readable: its videos count as missing
            continue
        if (state.st_dev, state.st_ino) in visited:
            continue
        visited.add((state.st_dev, state.st_ino))
        for entry in entries:
            path = entry.name if current == "." else f"{current}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                pending.append(path)
            elif PurePosixPath(entry.name).suffix.lower() in suffixes and entry.is_file():
                yield path
