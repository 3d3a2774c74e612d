"""One listed video, as an official annotation gives it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Annotation:
    """A row of an official list; nothing in it comes from opening the video."""

    video_id: str  # f"{source}/{path}", unique over a dataset
    source: str  # the part of the dataset it comes from
    path: str  # POSIX, relative to the source's root
    kind: str  # "video" (a file) or "frames" (a folder of images)
    label: str  # the class as annotated, or the person
    group: str  # what must not stand on both sides of a split
    split1: str = ""  # official role: train, test, query, gallery, or empty
    split2: str = ""
    split3: str = ""
    camera: int = -1  # re-identification only
    clothes: str = ""  # re-identification only: the clothes string
