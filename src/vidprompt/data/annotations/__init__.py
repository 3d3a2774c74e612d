"""Official annotations: one small reader a dataset, all giving `Annotation` rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vidprompt.data.annotations.base import Annotation
from vidprompt.data.annotations.ccvid import read_ccvid
from vidprompt.data.annotations.ucf101 import read_class_list, read_ucf101
from vidprompt.errors import UserError

READERS: dict[str, Callable[[Path, str], list[Annotation]]] = {
    "ucf101": read_ucf101,
    "ccvid": read_ccvid,
}


def read_annotations(reader: str, root: Path, source: str) -> list[Annotation]:
    """All annotated videos below `root`, sorted by id.

    Raises UserError for an unknown reader, DataError for annotations that cannot be read.
    """
    if reader not in READERS:
        raise UserError(f"unknown reader {reader!r}; choose one of {', '.join(READERS)}")
    return sorted(READERS[reader](root, source), key=lambda a: a.video_id)


def read_class_names(reader: str, root: Path) -> list[str]:
    """The classes that labels may have: the official class list, or the persons listed."""
    if reader == "ucf101":
        return read_class_list(root / "annotations" / "classInd.txt")
    return sorted({annotation.label for annotation in read_annotations(reader, root, "")})


__all__ = ["READERS", "Annotation", "read_annotations", "read_class_names"]
