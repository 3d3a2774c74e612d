"""UCF-101's official annotations: `classInd.txt`, `trainlist0N.txt`, `testlist0N.txt`.

Layout: `videos/<Class>/v_<Class>_gNN_cNN.avi`, `annotations/*.txt`. Clips of one group `gNN` are cut
from one source video. The class list says `HandstandPushups` where file names say `HandStandPushups`:
classes are compared without regard to case, and named as the class list names them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from vidprompt.data.annotations.base import Annotation
from vidprompt.errors import DataError

_GROUP = re.compile(r"_g(\d+)_c\d+\.[^.]+$")


def read_class_list(path: Path) -> list[str]:
    """`1 ApplyEyeMakeup` a line → names in the order of their ids.

    Raises DataError when the file is missing or a line is not of that form.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing: UCF-101's annotations belong beside the videos")
    names: list[str] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or words[0] != str(len(names) + 1):
            raise DataError(
                f"{path}:{number}: expected '{len(names) + 1} ClassName', found {line!r}"
            )
        names.append(words[1])
    return names


def read_ucf101(root: Path, source: str) -> list[Annotation]:
    """All videos of the three official splits."""
    folder = root / "annotations"
    names = read_class_list(folder / "classInd.txt")
    by_folded = {name.casefold(): name for name in names}
    rows: dict[str, Annotation] = {}
    for split in (1, 2, 3):
        for role in ("train", "test"):
            path = folder / f"{role}list0{split}.txt"
            if not path.is_file():
                raise DataError(f"{path} is missing")
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                row = _read_line(line.strip(), where, source, names, by_folded)
                known = rows.setdefault(row.video_id, row)
                field = f"split{split}"
                if getattr(known, field):
                    raise DataError(f"{where}: {row.path} is listed twice in split {split}")
                changes: dict[str, Any] = {field: role}
                rows[row.video_id] = replace(known, **changes)
    return list(rows.values())


def _read_line(
    line: str, where: str, source: str, names: list[str], by_folded: dict[str, str]
) -> Annotation:
    """`Class/v_Class_g01_c01.avi [id]`, the label split from the right."""
    path, blank, label = line.rpartition(" ")
    if not blank or not label.isdigit():
        path, label = line, ""
    file = PurePosixPath(path)
    if file.is_absolute() or ".." in file.parts or len(file.parts) != 2:
        raise DataError(f"{where}: expected 'Class/file [id]', found {line!r}")
    name = by_folded.get(file.parts[0].casefold())
    if name is None:
        raise DataError(f"{where}: class {file.parts[0]!r} is not in classInd.txt")
    if label and (not 1 <= int(label) <= len(names) or names[int(label) - 1] != name):
        raise DataError(f"{where}: label {label} is not the class {name}")
    group = _GROUP.search(file.name)
    if group is None:
        raise DataError(f"{where}: {file.name!r} has no group (…_gNN_cNN.…)")
    return Annotation(
        video_id=f"{source}/{path}",
        source=source,
        path=f"videos/{path}",
        kind="video",
        label=name,
        group=f"{name}/g{group[1]}",
    )
