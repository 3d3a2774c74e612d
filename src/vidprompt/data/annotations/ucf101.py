"""Read UCF-101's official annotations: `classInd.txt`, `trainlist0N.txt`, `testlist0N.txt`.

Layout: `<Class>/v_<Class>_gNN_cNN.avi` below `videos/`, `UCF-101/` (as unpacked) or the source's folder,
or all in one folder, in any container; the lists in `annotations/` or `ucfTrainTestlist/`. Clips of one
group `gNN` are cut from one source video. The class list says `HandstandPushups` where file names say
`HandStandPushups`: classes are compared without regard to case, and named as the class list names them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidprompt.data.annotations.base import (
    Annotation,
    DatasetAnnotations,
    Source,
    is_id,
    relative_path,
)
from vidprompt.data.annotations.video_files import VideoFiles
from vidprompt.files.text import numbered_lines
from vidprompt.system.errors import DataError

_GROUP = re.compile(r"_g(\d+)_c\d+$")


def read_class_list(path: Path) -> list[str]:
    """`1 ApplyEyeMakeup` a line → names in the order of their ids.

    Raises DataError when the file is missing, a line is not of that form, or a class is named twice.
    """
    names: list[str] = []
    folded: set[str] = set()
    for where, line in numbered_lines(path):
        words = line.split()
        if len(words) != 2 or words[0] != str(len(names) + 1):
            raise DataError(f"{where}: expected '{len(names) + 1} ClassName', found {line!r}")
        if words[1].casefold() in folded:
            raise DataError(f"{where}: class {words[1]} stands there before; remove one")
        folded.add(words[1].casefold())
        names.append(words[1])
    return names


def read_ucf101(source: Source) -> DatasetAnnotations:
    """All videos of the three official splits. Raises DataError, naming the line, for a malformed one."""
    folder = source.annotation_folder("ucfTrainTestlist")
    files = VideoFiles(source.folder, source.video_folder("UCF-101"))
    names = read_class_list(folder / "classInd.txt")
    by_folded = {name.casefold(): name for name in names}
    rows: dict[str, Annotation] = {}
    for split in (1, 2, 3):
        for role in ("train", "test"):
            for where, line in numbered_lines(folder / f"{role}list0{split}.txt"):
                row = _read_line(line, where, source.name, names, by_folded)
                known = rows.get(row.video_id) or _located(row, files)
                field = f"split{split}"
                if getattr(known, field):
                    raise DataError(f"{where}: {row.path} is listed twice in split {split}")
                changes: dict[str, Any] = {field: role}
                rows[row.video_id] = replace(known, **changes)
    return DatasetAnnotations(list(rows.values()), names)


def _located(row: Annotation, files: VideoFiles) -> Annotation:
    """The row with its file's path, or marked as missing."""
    path = files.find(row.path.rpartition("/")[2].rpartition(".")[0])
    if path is None:
        return replace(row, path=files.missing_path(row.path), exists=False)
    return replace(row, path=path)


def _read_line(
    line: str, where: str, source: str, names: list[str], by_folded: dict[str, str]
) -> Annotation:
    """The annotation of a line `Class/v_Class_g01_c01.avi [id]`, without roles."""
    path, blank, label = line.rpartition(" ")
    if not blank or not is_id(label):
        path, label = line, ""
    file = relative_path(path, where)
    if len(file.parts) != 2:
        raise DataError(f"{where}: expected 'Class/file [id]', found {line!r}")
    name = by_folded.get(file.parts[0].casefold())
    if name is None:
        raise DataError(f"{where}: class {file.parts[0]!r} is not in classInd.txt")
    if label and (not 1 <= int(label) <= len(names) or names[int(label) - 1] != name):
        raise DataError(f"{where}: label {label} is not the class {name}")
    group = _GROUP.search(file.stem)
    if group is None:
        raise DataError(f"{where}: {file.name!r} has no group (…_gNN_cNN.…)")
    return Annotation(
        video_id=f"{source}/{path}",
        source=source,
        path=path,
        kind="video",
        label=name,
        group=f"{name}/g{group[1]}",
    )
