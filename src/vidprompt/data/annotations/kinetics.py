"""Read Kinetics-400's and Kinetics-600's official lists: `train.csv`, `val.csv`, `test.csv`.

Columns, by their header: `label,youtube_id,time_start,time_end,split`, in some releases more. Layout: the
lists in `annotations/`, in a folder of the release inside (`annotations/kinetics400/`), or in the source's
folder; also named `validate.csv` or `validation.csv`, and with a prefix (`kinetics-600_train.csv`). A video
is `<id>_<start, six digits>_<end>.mp4`, in any folder and container, or `<id>.mp4` where that id has one
clip only; CVDF's replacements of its broken files (`replacement/`) come before the originals. Class folders
are renamed in every other download, so none is relied on.

Option `lists` names the lists to read, `[train, val]` unless given; the list's name is a clip's role in
split1. Where no test list is read, the validation list plays it, as in the field. The published zero-shot
tests of Kinetics-600 are on its test list: `lists: [val, test]` leaves the training list out.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from vidprompt.data.annotations.base import (
    Annotation,
    DatasetAnnotations,
    Source,
    relative_path,
)
from vidprompt.data.annotations.video_files import VideoFiles
from vidprompt.files.text import read_table
from vidprompt.system.errors import DataError, UserError

LISTS = ("train", "val", "test")
COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_RELEASES = ("k400", "k600", "kinetics400", "kinetics600")
_REPLACED = ("replacement", "replacement_for_corrupted_k400")
_SPELLINGS = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
_LIST = re.compile(r"(?:k(?:inetics)?[-_]?[0-9]*[-_])?([a-z]+)\.csv", re.IGNORECASE)
_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]+")

_Clips = dict[str, tuple[str, int, str]]  # stem of the file → list, line, label


def read_kinetics(source: Source) -> DatasetAnnotations:
    """The clips of all lists that are read, in the lists' order.

    A clip that a list repeats (Kinetics-600 has some under two labels) keeps its first label; a warning
    counts them. Raises DataError when a clip is in two lists, and for a malformed line.
    """
    names = _lists_to_read(source)
    folder = _list_folder(source, names[0])
    lists = {name: _list_file(folder, name) for name in names}
    clips: _Clips = {}
    again = sum(_add_list(clips, name, lists) for name in lists)
    if again:
        warnings.warn(f"{source.name}: {again} rows repeat a clip; first label kept", stacklevel=2)
    files = VideoFiles(source.folder, source.video_folder(*_RELEASES, "."))
    per_id = Counter(map(_youtube_id, clips))
    annotations = []
    for stem, (name, _, label) in clips.items():
        youtube_id = _youtube_id(stem)
        preferred = (*_REPLACED, *_SPELLINGS[name])
        path = files.find(stem, preferred)
        if path is None and per_id[youtube_id] == 1:
            path = files.find(youtube_id, preferred)
        annotations.append(
            Annotation(
                video_id=f"{source.name}/{stem}",
                source=source.name,
                path=path or files.missing_path(f"{name}/{label}/{stem}.mp4"),
                kind="video",
                label=label,
                group=youtube_id,
                split1=name,
                exists=path is not None,
            )
        )
    return DatasetAnnotations(annotations, sorted({label for _, _, label in clips.values()}))


def _lists_to_read(source: Source) -> list[str]:
    """The option `lists`, in the order of `LISTS`. Raises UserError for another name, or none."""
    given = source.options.get("lists", ("train", "val"))
    if "test_on" in source.options:
        raise UserError(
            f"{source.name}: test_on is no option of a source: set lists: [val, test] there, and test_on "
            "in protocols: {zero_shot: …}"
        )
    if isinstance(given, str) or not given or not set(given) <= {*LISTS}:
        raise UserError(f"{source.name}: lists={given}: give some of {', '.join(LISTS)}, as a list")
    return [name for name in LISTS if name in given]


def _list_folder(source: Source, name: str) -> Path:
    """The folder that has the lists, that of this name among them."""
    top = source.annotation_folder(".")
    folders = [top, *(top / release for release in _RELEASES)]
    having = [folder for folder in folders if _list_files(folder, name)]
    if not having and not source.options.get("annotations"):
        top = source.folder if _list_files(source.folder, name) else top
    if len(having) > 1:
        raise DataError(
            f"{' and '.join(map(str, having))} have lists; "
            f"name one folder in the option 'annotations' of {source.name}"
        )
    return having[0] if having else top


def _list_file(folder: Path, name: str) -> Path:
    """The file of the list `name` (train, val or test). Raises DataError unless there is exactly one."""
    paths = _list_files(folder, name)
    if not paths:
        wanted = " or ".join(f"{spelling}.csv" for spelling in _SPELLINGS[name])
        raise DataError(f"{folder} has no {wanted}; put the official lists there")
    if len(paths) > 1:
        raise DataError(f"{' and '.join(map(str, paths))} are both {name} lists; keep one there")
    return paths[0]


def _list_files(folder: Path, name: str) -> list[Path]:
    if not folder.is_dir():
        return []
    matches = ((path, _LIST.fullmatch(path.name)) for path in sorted(folder.iterdir()))
    return [path for path, match in matches if match and match[1].lower() in _SPELLINGS[name]]


def _add_list(clips: _Clips, name: str, lists: dict[str, Path]) -> int:
    """Add a list's clips; returns how many rows repeat one of its clips."""
    again = 0
    for line, stem, label in _read_list(lists[name], name):
        known = clips.setdefault(stem, (name, line, label))
        if known[0] != name:
            first = f"{lists[known[0]]}:{known[1]}"
            raise DataError(f"{lists[name]}:{line}: {stem} is also at {first}; remove one of them")
        again += known[1] != line
    return again


def _read_list(path: Path, name: str) -> Iterator[tuple[int, str, str]]:
    """(line number, stem of the video's file, label) of each row."""
    labels: dict[str, str] = {}  # one string a class, not one a row
    table = read_table(path, lambda header: "youtube_id" in map(str.lower, header), strict=False)
    places = _places([column.lower() for column in table.header], f"{path}:1", name)
    for line, row in table.rows:
        label, stem = _read_row(row, places, f"{path}:{line}", labels)
        yield line, stem, label


def _places(header: Sequence[str], where: str, name: str) -> list[int]:
    """The places of `COLUMNS` in the header."""
    if name == "test" and "label" not in header:
        raise DataError(f"{where}: this release of the list has no labels: take the one that has")
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise DataError(f"{where}: no column {', '.join(missing)}; take the official list")
    return [header.index(column) for column in COLUMNS]


def _read_row(
    row: list[str], places: list[int], where: str, labels: dict[str, str]
) -> tuple[str, str]:
    """A row's label and the stem of its file."""
    if len(row) <= max(places):
        raise DataError(f"{where}: expected {max(places) + 1} columns, found {len(row)}: {row[:5]}")
    label, youtube_id, start, end = (row[place].strip() for place in places)
    if not label or not _YOUTUBE_ID.fullmatch(youtube_id):
        raise DataError(f"{where}: expected label and YouTube id, found {label!r}, {youtube_id!r}")
    if label not in labels:
        relative_path(label, where)  # it is a folder of the path that a missing video would have
        labels[label] = label
    return labels[label], f"{youtube_id}_{_second(start, where):06d}_{_second(end, where):06d}"


def _second(text: str, where: str) -> int:
    """A time in seconds, written `10` or `10.0`, as releases differ."""
    try:
        number = int(text) if text.isdigit() else float(text)
    except ValueError:
        number = -1
    if number < 0 or number != number // 1:
        raise DataError(f"{where}: expected a time in whole seconds, found {text!r}")
    return int(number)


def _youtube_id(stem: str) -> str:
    return stem.rsplit("_", 2)[0]
