"""Find the files below a folder that are or may be videos, and look videos up by stem.

A name says cheaply what most files are. What a name leaves open (another suffix, or none) only opening the
file decides: see `opening`.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import NamedTuple

# Of downloads and conversions of the field's datasets, cameras and recorders. Other suffixes (.gif, none)
# may be videos too.
VIDEO_SUFFIXES = frozenset(
    [
        *(".avi", ".divx", ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".flv"),
        *(".mkv", ".webm", ".ogv", ".wmv", ".asf", ".rm", ".rmvb", ".mxf"),
        *(".mpg", ".mpeg", ".mpe", ".m2v", ".vob", ".ts", ".mts", ".m2ts"),
    ]
)
# Never videos, so never opened: texts, tables, arrays, images, sound, archives, programs.
NO_VIDEO_SUFFIXES = frozenset(
    [
        *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini"),
        *(".md", ".rst", ".html", ".htm", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".ods"),
        *(".log", ".nfo", ".srt", ".vtt", ".ass", ".dvc", ".db", ".sqlite", ".lnk", ".url"),
        *(".parquet", ".arrow", ".npy", ".npz", ".mat", ".pkl", ".pt", ".pth", ".h5", ".hdf5"),
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic"),
        *(".ppm", ".pgm", ".pnm", ".tga", ".jp2", ".avif", ".svg", ".psd", ".ico", ".thm"),
        *(".wav", ".mp3", ".aac", ".m4a", ".flac", ".opus", ".wma", ".mid"),
        *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"),
        *(".py", ".sh", ".m", ".ipynb", ".exe", ".bat", ".dll", ".so", ".md5", ".sha256"),
    ]
)


class Kind(Enum):
    """What a name and `stat` say of an entry; the value is a phrase for messages."""

    VIDEO = "by its name a video"
    OPEN = "of no known suffix"  # opening it decides
    NO_VIDEO = "by its name no video"
    HIDDEN = "hidden"
    SPECIAL = "no regular file"
    UNREADABLE = "a folder that cannot be read"
    SEEN = "a link to a folder that is read already"


class Entry(NamedTuple):
    """A file (or a folder that is not read), as a POSIX path relative to the root of the walk."""

    path: str
    kind: Kind


def has_videos(folder: Path, suffixes: Collection[str] = VIDEO_SUFFIXES) -> bool:
    """Whether the folder has a file of these suffixes, at any depth. Stops at the first."""
    return any(
        entry.kind not in (Kind.HIDDEN, Kind.SPECIAL, Kind.UNREADABLE, Kind.SEEN)
        and suffix_of(entry.path) in suffixes
        for entry in walk(folder, ".")
    )


class VideoFiles:
    """The video files below `root`/`folder`; symbolic links to folders are followed once.

    Paths are POSIX and relative to `root`. Folder layouts differ between downloads (flat, a folder a
    class, renamed folders), file names rarely do: so files are looked up by their stem. Systems store
    letters with accents in different ways: stems are compared in Unicode's composed form. A file of
    another suffix, or none, is found where no video has the stem: the probe tells whether it is one.
    """

    def __init__(self, root: Path, folder: str = ".") -> None:
        self.folder = str(PurePosixPath(folder))
        self._by_stem: dict[str, list[str]] = {}
        self._others: dict[str, list[str]] = {}
        for path, kind in sorted(walk(root, self.folder), key=lambda entry: entry.path):
            if kind is Kind.VIDEO:
                self._by_stem.setdefault(stem_of(path), []).append(path)
            elif kind is Kind.OPEN:
                name = unicodedata.normalize("NFC", PurePosixPath(path).name)
                for key in {name, stem_of(path)}:
                    self._others.setdefault(key, []).append(path)

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
        key = unicodedata.normalize("NFC", stem)
        return self._by_stem.get(key) or self._others.get(key, [])

    def missing_path(self, path: str) -> str:
        """The path that a missing video would have, from its path below the folder."""
        return path if self.folder == "." else f"{self.folder}/{path}"

    def __iter__(self) -> Iterator[str]:
        for paths in self._by_stem.values():
            yield from paths


def suffix_of(path: str) -> str:
    """A path's suffix in small letters, with its dot; "" without one."""
    return os.path.splitext(path)[1].lower()  # noqa: PTH122 (pathlib is slow)


def stem_of(path: str) -> str:
    """A path's stem in Unicode's composed form, without any of several video suffixes (`a.avi.mp4`)."""
    stem = PurePosixPath(path).stem
    while suffix_of(stem) in VIDEO_SUFFIXES:
        stem = stem[: -len(suffix_of(stem))]
    return unicodedata.normalize("NFC", stem)


def walk(root: Path, folder: str) -> Iterator[Entry]:
    """Every file below `root`/`folder`, folder by folder, and the folders that are not read.

    Symbolic links are followed, to a folder once. A link that leads nowhere counts by its name.
    """
    visited: set[tuple[int, int]] = set()
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            state = (root / current).stat()
            with os.scandir(root / current) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            if current != folder:  # whether that is there is for the caller to say
                yield Entry(current, Kind.UNREADABLE)
            continue
        if (state.st_dev, state.st_ino) in visited:
            yield Entry(current, Kind.SEEN)
            continue
        visited.add((state.st_dev, state.st_ino))
        below = []
        for entry in entries:
            path = entry.name if current == "." else f"{current}/{entry.name}"
            if _is_folder(entry) and not entry.name.startswith("."):
                below.append(path)
            else:
                yield Entry(path, _kind(entry))
        pending += reversed(below)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _kind(entry: os.DirEntry[str]) -> Kind:
    if entry.name.startswith("."):
        return Kind.HIDDEN
    suffix = suffix_of(entry.name)
    if not _is_file(entry):
        lost = entry.is_symlink() and suffix in VIDEO_SUFFIXES  # leads nowhere: a missing video
        return Kind.VIDEO if lost else Kind.SPECIAL
    if suffix in VIDEO_SUFFIXES:
        return Kind.VIDEO
    return Kind.NO_VIDEO if suffix in NO_VIDEO_SUFFIXES else Kind.OPEN
