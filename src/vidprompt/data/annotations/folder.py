"""Read videos of one's own: a folder for each class, or lists in any format of `list_files`.

Layout without lists, below `videos/` (option `videos`; the source's folder where there is none):

    walking/a.mp4, walking/day 2/b.mp4, …     any depth; or with roles above all classes:
    train/walking/a.mp4, test/walking/b.mp4   (train, val, test)

A file is a video if its name says so (`VIDEO_SUFFIXES`), or else if FFmpeg opens it as one. Files that are no
videos, and folders without any, are left out and named in `DatasetAnnotations.notes`.

Option `list` names one file, or one a role (`{train: train.txt, test: val.txt}`), relative to the source's
folder or its `annotations/`; listed paths are relative to the videos' folder (or the source's), and may
be folders of images. Option `label_map` names the classes. Where no video has a role, `test_share` (0.25) of
each class's groups are drawn for testing by `seed` (1). Option `group_pattern`, a regular expression with
one group searched in file names, names the group of each video: the draw keeps a group together within a
class; a group in several classes is kept together only by lists with roles.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vidprompt.data.annotations import label_maps, list_files
from vidprompt.data.annotations.base import (
    ANNOTATION_FOLDERS,
    Annotation,
    DatasetAnnotations,
    Source,
    relative_path,
)
from vidprompt.data.annotations.left_out import LeftOut, empty_classes
from vidprompt.data.annotations.opening import opened_videos
from vidprompt.data.annotations.video_files import VIDEO_SUFFIXES, Entry, Kind, walk
from vidprompt.data.decode.reader import IMAGE_SUFFIXES
from vidprompt.system.errors import DataError

_EXPECTED = "expected a folder for each class, as walking/clip 1.mp4, or the option `list`"


def read_folder(source: Source) -> DatasetAnnotations:
    """The videos of class folders or of lists. Raises DataError for a layout that is neither."""
    # images too: a listed video may be a folder of frames
    folder = source.video_folder(".", suffixes=VIDEO_SUFFIXES.union(IMAGE_SUFFIXES))
    videos = str(relative_path(folder, f"{source.name}: option videos"))
    given = source.options.get("list")
    notes: list[str] = []
    if given:
        rows = _listed(source, given, source.folder / videos)
    else:
        rows = _in_folders(source, videos, notes)
    label_map = source.options.get("label_map")
    if given or label_map:
        used = {row.label for row in rows}
        names = label_maps.read_label_map(_file(source, label_map), used) if label_map else None
        rows, classes = label_maps.resolve_labels(rows, names)
    else:  # folders' names are names, also where they are numbers
        classes = sorted({row.label for row in rows})
    annotations: dict[str, Annotation] = {}
    lines: dict[str, str] = {}
    group_of = _Groups(source.options.get("group_pattern"))
    for row in rows:
        annotation = _annotation(row, source, videos, group_of)
        first = lines.setdefault(annotation.video_id, row.where)
        if annotation.video_id in annotations:
            raise DataError(f"{row.where}: {row.path} is listed twice; the first time at {first}")
        annotations[annotation.video_id] = annotation
    rows_with_roles = _with_roles(list(annotations.values()), source)
    return DatasetAnnotations(rows_with_roles, classes, tuple(notes))


def draw_test(groups: Sequence[str], label: str, share: float, seed: int) -> set[str]:
    """A class's groups to test on: a share of them, at least one; at least one is left to train on.

    Depends on the set of groups and the seed only; empty where there is only one group.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        return set()
    count = min(max(round(share * len(names)), 1), len(names) - 1)
    rng = np.random.default_rng([seed, *label.encode()])
    return {names[i] for i in rng.choice(len(names), count, replace=False)}


def _in_folders(source: Source, videos: str, notes: list[str]) -> list[list_files.ListedVideo]:
    """The videos of class folders, below folders of roles if there are any; adds to `notes`."""
    folder = source.folder / videos
    left_out = LeftOut()
    paths = [PurePosixPath(path) for path in _video_paths(folder, left_out)]
    notes += [f"{source.name}: {sentence}" for sentence in left_out.sentences()]
    if not paths:
        there = "; ".join(left_out.sentences()) or "no files at all"
        raise DataError(f"{folder} has no videos ({there}): {_EXPECTED}")
    heads = {path.parts[0] for path in paths if len(path.parts) > 1}
    roles = {head for head in heads if head.casefold() in list_files.ROLES}
    # `train` may well be a class among others, but then its videos do not lie in classes' folders.
    deep = sorted(path.parts[0] for path in paths if path.parts[0] in roles and len(path.parts) > 2)
    if roles != heads and deep:
        other = min(heads - roles)
        raise DataError(
            f"{folder}: {deep[0]}/ holds folders as a role does, and {other}/ beside it is no role:"
            " put all classes below train/ and test/ (train/walking/clip 1.mp4), or move the other away"
        )
    above = int(roles == heads)  # folders above the class's
    parents = [folder / head for head in roles] if above else [folder]
    named = {path.parts[above] for path in paths if len(path.parts) > above + 1}
    if sentence := empty_classes(_folders(parents), named):
        notes.append(f"{source.name}: {sentence}")
    rows = []
    for path in paths:
        if not _is_text(str(path)):
            raise DataError(f"{folder}: the file name {str(path)!r} is not UTF-8: rename the file")
        if len(path.parts) < above + 2:
            raise DataError(f"{folder / path} lies in no class's folder: {_EXPECTED}")
        role = list_files.role_of(path.parts[0], str(folder)) if above else ""
        rows.append(
            list_files.ListedVideo(str(path), path.parts[above], None, role, "", str(folder / path))
        )
    return rows


def _video_paths(folder: Path, left_out: LeftOut) -> list[str]:
    """The videos below a folder, sorted; other files are added to `left_out`."""
    paths: list[str] = []
    undecided: list[str] = []
    for entry in walk(folder, "."):
        if entry.kind is Kind.VIDEO:
            paths.append(entry.path)
        elif entry.kind is Kind.OPEN:
            undecided.append(entry.path)
        else:
            left_out.add(entry)
    answers = opened_videos([folder / path for path in undecided])
    for path, is_video in zip(undecided, answers, strict=True):
        if is_video:
            paths.append(path)
        else:
            left_out.add(Entry(path, Kind.OPEN))
    return sorted(paths)


def _folders(parents: Sequence[Path]) -> set[str]:
    """Names of the folders in these, without hidden ones and those of annotations."""
    return {
        path.name
        for parent in parents
        for path in parent.iterdir()
        if path.is_dir() and path.name[0] != "." and path.name not in ANNOTATION_FOLDERS
    }


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:  # bytes of another encoding, which no manifest can hold
        return False


def _listed(source: Source, given: Any, root: Path) -> list[list_files.ListedVideo]:
    """The videos of the option `list`: one file, or a mapping of roles to files."""
    if not isinstance(given, Mapping):
        return list_files.read_list(_file(source, given), root)
    rows = []
    for key, name in given.items():
        role = list_files.role_of(str(key), f"{source.name}: option list")
        for row in list_files.read_list(_file(source, name), root):
            if row.role not in ("", role):
                raise DataError(
                    f"{row.where}: its split is {row.role}, but the file is listed as {role}"
                )
            rows.append(replace(row, role=role))
    return rows


def _file(source: Source, name: Any) -> Path:
    """A list or a label map: in the source's folder, or in its folder of annotations."""
    folders = [str(source.options.get("annotations") or ""), *ANNOTATION_FOLDERS]
    paths = [source.folder / folder / str(name) for folder in ("", *folders)]
    return next((path for path in paths if path.is_file()), paths[0])


def _annotation(
    row: list_files.ListedVideo, source: Source, videos: str, group_of: _Groups
) -> Annotation:
    path, name = str(PurePosixPath(videos) / row.path), row.path
    kind = _kind(source.folder / path)
    if not kind and videos != ".":  # listed relative to the source's folder?
        other = _kind(source.folder / row.path)
        if other or row.path.startswith(f"{videos}/"):
            kind, path, name = other, row.path, row.path.removeprefix(f"{videos}/")
    is_frames = (
        row.n_frames is not None and PurePosixPath(name).suffix.lower() not in VIDEO_SUFFIXES
    )
    return Annotation(
        video_id=f"{source.name}/{name}",
        source=source.name,
        path=path,
        kind=kind or ("frames" if is_frames else "video"),
        label=row.label,
        group=row.group or group_of(name),
        split1=row.role,
        exists=bool(kind),
    )


def _kind(path: Path) -> str:
    """`video` for a file, `frames` for a folder with images, "" for anything else."""
    try:
        if path.is_dir():
            images = (entry.suffix.lower() in IMAGE_SUFFIXES for entry in path.iterdir())
            return "frames" if any(images) else ""
        return "video" if path.is_file() else ""
    except OSError:  # a name that cannot be, or a folder not to be read
        return ""


class _Groups:
    """The group of a video by its file name; "" without a pattern."""

    def __init__(self, pattern: Any) -> None:
        try:
            self.pattern = re.compile(str(pattern)) if pattern else None
        except re.error as error:
            raise DataError(
                f"group_pattern {pattern!r} is no regular expression: {error}"
            ) from error
        if self.pattern is not None and self.pattern.groups != 1:
            raise DataError(
                f"group_pattern {pattern!r} needs one group in brackets, as (person[0-9]+)"
            )

    def __call__(self, name: str) -> str:
        if self.pattern is None:
            return ""
        match = self.pattern.search(PurePosixPath(name).name)
        if match is None or not match[1]:
            raise DataError(
                f"{name}: group_pattern {self.pattern.pattern!r} finds no group in its name"
            )
        return match[1]


def _with_roles(rows: list[Annotation], source: Source) -> list[Annotation]:
    """The given roles (val becomes test where there is no test), or drawn ones where none is given."""
    given = {row.split1 for row in rows}
    if given == {""}:
        return _drawn(rows, source)
    val = "" if "test" in given else "test"
    return [replace(row, split1=val) if row.split1 == "val" else row for row in rows]


def _drawn(rows: list[Annotation], source: Source) -> list[Annotation]:
    """Roles by a draw of each class's groups."""
    share, seed = source.options.get("test_share", 0.25), source.options.get("seed", 1)
    if not isinstance(share, int | float) or not 0 < share < 1:
        raise DataError(
            f"{source.name}: option test_share={share!r}: give a number between 0 and 1"
        )
    if not isinstance(seed, int) or seed < 0:
        raise DataError(f"{source.name}: option seed={seed!r}: give a whole number from 0")
    by_class: dict[str, list[str]] = {}
    for row in rows:
        by_class.setdefault(row.label, []).append(row.group or row.video_id)
    test = {label: draw_test(groups, label, share, seed) for label, groups in by_class.items()}
    untested = sorted(label for label, drawn in test.items() if not drawn)
    if untested:
        warnings.warn(
            f"{source.name}: nothing to test on in {len(untested)} of {len(test)} classes, which have one"
            f" video or one group only: {', '.join(untested)}",
            stacklevel=2,
        )
    return [
        replace(
            row,
            split1="test" if (row.group or row.video_id) in test[row.label] else "train",
            group=row.group and f"{row.label}/{row.group}",  # apart within a class, by the draw
        )
        for row in rows
    ]
