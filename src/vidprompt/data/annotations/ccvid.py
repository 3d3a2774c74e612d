"""Read CCVID's lists: `train.txt`, `query.txt`, `gallery.txt` beside `session1/ session2/ session3/`.

A line is `session1/001_01<TAB>001<TAB>u0_l0_s0_c0_a0`: the tracklet's folder, the person, the
clothes. The camera is the integer after `_` in the folder's name, +12 for session3 only. Layout and
rules: CCVID (Gu et al., CVPR 2022) and its reference loader.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath

from vidprompt.data.annotations.base import (
    Annotation,
    DatasetAnnotations,
    Source,
    relative_path,
)
from vidprompt.files.text import numbered_lines
from vidprompt.system.errors import DataError

ROLES: tuple[str, ...] = ("train", "query", "gallery")
SHIFTED_SESSION, CAMERA_SHIFT = "session3", 12
_FOLDER = re.compile(r"[^_]+_([0-9]{1,6})")


def read_ccvid(source: Source) -> DatasetAnnotations:
    """The tracklets of the three lists, in the order train, query, gallery.

    Raises DataError, naming file and line, for a malformed line.
    """
    annotations: list[Annotation] = []
    first_seen: dict[str, str] = {}
    for role in ROLES:
        for where, line in numbered_lines(source.folder / f"{role}.txt"):
            annotation = _parse_line(line, where, source.name, role)
            if annotation.path in first_seen:
                raise DataError(
                    f"{where}: {annotation.path} is listed twice; "
                    f"the first time at {first_seen[annotation.path]}."
                )
            first_seen[annotation.path] = where
            annotations.append(
                replace(annotation, exists=(source.folder / annotation.path).is_dir())
            )
    return DatasetAnnotations(annotations, sorted({annotation.label for annotation in annotations}))


def camera_of(path: str) -> int:
    """Camera number of a tracklet's path (`session3/001_04` → 16); `ValueError` if it has none."""
    parts = PurePosixPath(path).parts
    match = _FOLDER.fullmatch(parts[-1]) if parts else None
    if match is None:
        raise ValueError(path)
    return int(match[1]) + (CAMERA_SHIFT if parts[0] == SHIFTED_SESSION else 0)


def _parse_line(line: str, where: str, source: str, role: str) -> Annotation:
    columns = [column.strip() for column in line.split("\t")]
    if len(columns) != 3 or not all(columns):
        raise DataError(
            f"{where}: expected path, person and clothes separated by tabs, "
            f"found {len(columns)} column(s), {sum(map(bool, columns))} not empty: {line!r}."
        )
    path, person, clothes = columns
    posix = relative_path(path, where)
    try:
        camera = camera_of(path)
    except ValueError:
        raise DataError(
            f"{where}: {path!r} does not end in <person>_<camera number>, so it has no camera."
        ) from None
    return Annotation(
        video_id=f"{source}/{posix}",
        source=source,
        path=str(posix),
        kind="frames",
        label=person,
        group=person,
        split1=role,
        camera=camera,
        clothes=clothes,
    )
