"""What the readers of official annotations share: their input, their output, and listed paths."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vidprompt.data.annotations.video_files import VIDEO_SUFFIXES, has_videos
from vidprompt.system.errors import DataError

# The folder of annotations in a source's folder, unless the source's option `annotations` names another.
ANNOTATION_FOLDERS = ("annotations",)


@dataclass(frozen=True, slots=True)
class Annotation:
    """A row of an official list; nothing in it comes from opening the video.

    `exists`: whether a file (or folder) of that name exists; otherwise `path` is the name it would have,
    so that a missing video stays listed and counts in the coverage.
    """

    video_id: str  # f"{source}/{name}", unique in a dataset and the same in every layout
    source: str  # the part of the dataset it comes from
    path: str  # POSIX, relative to the source's folder
    kind: str  # "video" (a file) or "frames" (a folder of images)
    label: str  # the class as annotated, or the person
    group: str  # what must not be on both sides of a split; "" when unknown
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
        """The option `annotations`, or the first existing folder of `annotations/` and the official names.

        Raises DataError when none exists.
        """
        given = self.options.get("annotations")
        if given:
            return self.folder / str(given)
        names = (*ANNOTATION_FOLDERS, *official)
        for name in names:
            if (self.folder / name).is_dir():
                return self.folder / name
        raise DataError(f"{self.folder} has no folder of annotations ({', '.join(names)})")

    def video_folder(self, *official: str, suffixes: Collection[str] = VIDEO_SUFFIXES) -> str:
        """The folder of videos, relative to the source's folder: the option `videos`, or the first name
        of `videos/` and the official ones that has a file of these suffixes below it.

        Without any, the source's folder if it has some; else the first name that is a folder.
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
    """The annotated videos of a source, its classes in their official order, and sentences on what was
    left out."""

    annotations: list[Annotation]
    classes: list[str]
    notes: tuple[str, ...] = ()


# What a plug-in of the kind `datasets` is, too: it reads lists below `source.folder`, and opens no video
Reader = Callable[[Source], DatasetAnnotations]


def relative_path(path: str, where: str) -> PurePosixPath:
    """A listed path. Raises DataError, naming `where`, when it is absolute or leads out of the folder."""
    posix = PurePosixPath(path)
    if posix.is_absolute() or ".." in posix.parts or "\\" in path or path[1:2] == ":":
        raise DataError(f"{where}: {path!r} leads out of the dataset's folder")
    return posix


def is_id(text: str) -> bool:
    """Whether the text is a class id or a count: up to 18 decimal digits."""
    return text.isascii() and text.isdecimal() and len(text) <= 18
