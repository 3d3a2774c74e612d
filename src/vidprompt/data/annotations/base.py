"""What every reader of official annotations takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vidprompt.data.annotations.video_files import VIDEO_SUFFIXES, has_videos
from vidprompt.system.errors import DataError

# Where annotations lie in a source's folder unless its `annotations` says otherwise.
ANNOTATION_FOLDERS = ("annotations",)


@dataclass(frozen=True, slots=True)
class Annotation:
    """A row of an official list; nothing in it comes from opening the video.

    `exists`: whether a file (or folder) of that name exists; otherwise `path` is the name it would have,
    so that a missing video stays listed and counts in the coverage.
    """

    video_id: str  # f"{source}/{name}", unique over a dataset and the same in every layout
    source: str  # the part of the dataset it comes from
    path: str  # POSIX, relative to the source's folder
    kind: str  # "video" (a file) or "frames" (a folder of images)
    label: str  # the class as annotated, or the person
    group: str  # what must not stand on both sides of a split; "" when unknown
    split1: str = ""  # official role: train, test, query, gallery, or empty
    split2: str = ""
    split3: str = ""
    camera: int = -1  # re-identification only
    clothes: str = ""  # re-identification only: the clothes string
    exists: bool = True


@dataclass(frozen=True)
class Source:
    """A folder with official annotations and videos, as `params/dataset/<name>.yaml` names it."""

    name: str
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)  # of the reader; see each reader

    def annotation_folder(self, *official: str) -> Path:
        """The first of the folders that is there: the option `annotations`, or an official name."""
        given = self.options.get("annotations")
        if given:
            return self.folder / str(given)
        names = (*ANNOTATION_FOLDERS, *official)
        for name in names:
            if (self.folder / name).is_dir():
                return self.folder / name
        raise DataError(f"{self.folder} has no folder of annotations ({', '.join(names)})")

    def video_folder(self, *official: str, suffixes: Collection[str] = VIDEO_SUFFIXES) -> str:
        """Where videos lie, relative to the source's folder: option `videos`, or an official name.

        The first of the names that has any file of the suffixes below it; else the source's folder,
        if that has; else (nothing is there) the first name that is a folder, as the name to say.
        """
        given = self.options.get("videos")
        if given:
            return str(given)
        names = ("videos", *official)
        # a name may be that of a folder of lists: archives unpack to `kinetics400/` with no video in it
        for name in (*names, "."):
            if has_videos(self.folder / name, suffixes):
                return name
        return next((name for name in names if (self.folder / name).is_dir()), names[0])


@dataclass(frozen=True)
class DatasetAnnotations:
    """What a reader found: the annotated videos, and the classes in their official order."""

    annotations: list[Annotation]
    classes: list[str]


Reader = Callable[[Source], DatasetAnnotations]


def inside(path: str, where: str) -> PurePosixPath:
    """A listed path, checked. Raises DataError when it is absolute or leads out of the folder."""
    posix = PurePosixPath(path)
    if posix.is_absolute() or ".." in posix.parts or "\\" in path or path[1:2] == ":":
        raise DataError(f"{where}: {path!r} leads out of the dataset's folder")
    return posix


def numbered_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, stripped, as (`<file>:<n>`, line); a byte order mark is dropped.

    Raises DataError when the file is missing, cannot be read, or is not UTF-8.
    """
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield f"{path}:{number}", line.strip()


def read_text(path: Path) -> str:
    """A whole UTF-8 file, with `\\n` line ends. Raises DataError when it cannot be had."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})") from error
