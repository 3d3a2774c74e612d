"""CCVID's lists: `train.txt`, `query.txt`, `gallery.txt` beside `session1/ session2/ session3/`.

A line is `session1/001_01<TAB>001<TAB>u0_l0_s0_c0_a0`: the tracklet's folder, the person, the
clothes. The camera is the integer after `_` in the folder's name, +12 for session3 only. Layout and
rules: CCVID (Gu et al., CVPR 2022) and its reference loader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vidprompt.data.annotations.base import Annotation
from vidprompt.errors import DataError

ROLES: tuple[str, ...] = ("train", "query", "gallery")
SHIFTED_SESSION, CAMERA_SHIFT = "session3", 12
_FOLDER = re.compile(r"[^_]+_([0-9]+)")


def read_ccvid(root: Path, source: str) -> list[Annotation]:
    """Read the three lists under `root`, in the order train, query, gallery, each line by line.

    Whether a listed folder exists is not looked at: a missing or broken tracklet stays listed and
    counts against the coverage. Raises `DataError`, naming file and line, on anything malformed.
    """
    found: list[Annotation] = []
    first_seen: dict[str, str] = {}
    for role in ROLES:
        for where, line in _lines(root / f"{role}.txt"):
            annotation = _parse(line, where, source, role)
            if annotation.path in first_seen:
                raise DataError(
                    f"{where}: {annotation.path} is listed twice; "
                    f"the first time at {first_seen[annotation.path]}."
                )
            first_seen[annotation.path] = where
            found.append(annotation)
    return found


def clothes_id(annotation: Annotation) -> tuple[str, str]:
    """The identity of an outfit: strings are comparable within one person only."""
    return annotation.label, annotation.clothes


def camera_of(path: str) -> int:
    """Camera number of a tracklet's path (`session3/001_04` → 16); `ValueError` if it has none."""
    parts = PurePosixPath(path).parts
    match = _FOLDER.fullmatch(parts[-1]) if parts else None
    if match is None:
        raise ValueError(path)
    return int(match[1]) + (CAMERA_SHIFT if parts[0] == SHIFTED_SESSION else 0)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The non-empty lines of a list with where they stand, `<file>, line <n>`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is missing; CCVID has {', '.join(ROLES)} (.txt).") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if line.strip():
            yield f"{path}, line {number}", line


def _parse(line: str, where: str, source: str, role: str) -> Annotation:
    columns = [column.strip() for column in line.split("\t")]
    if len(columns) != 3 or not all(columns):
        raise DataError(
            f"{where}: expected path, person and clothes separated by tabs, "
            f"found {len(columns)} column(s), {sum(map(bool, columns))} not empty: {line!r}."
        )
    path, person, clothes = columns
    posix = PurePosixPath(path)
    if posix.is_absolute() or ".." in posix.parts or "\\" in path or re.match("[A-Za-z]:", path):
        raise DataError(f"{where}: {path!r} leads out of the dataset's folder.")
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
