"""Read Something-Something v2's official annotations: lists of videos and of classes, in JSON.

Layout: `something-something-v2-{train,validation,labels}.json`, or `{train,validation,labels}.json` as
they are named now, in `annotations/`, `labels/` or the source's folder; `<id>.webm` (or converted) below
`videos/`, `20bn-something-something-v2/`, or anywhere below the source. An entry's class is its template
without square brackets: "Putting [something] on a surface" → "Putting something on a surface". Validation
is the test set; the official test list has no labels and is not read. No groups are published.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidprompt.data.annotations.base import (
    ANNOTATION_FOLDERS,
    Annotation,
    DatasetAnnotations,
    Source,
    is_id,
)
from vidprompt.data.annotations.video_files import VideoFiles
from vidprompt.files.text import read_json
from vidprompt.system.errors import DataError

_ROLES = {"train": "train", "validation": "test"}


def read_ssv2(source: Source) -> DatasetAnnotations:
    """The labelled videos: train as `train`, validation as `test`, classes in the order of their ids."""
    labels = _annotation_file(source, "labels")
    classes = read_labels(labels)
    known = set(classes)
    files = VideoFiles(source.folder, source.video_folder("20bn-something-something-v2", "."))
    rows: dict[str, Annotation] = {}
    for name, role in _ROLES.items():
        for where, video, template in _entries(_annotation_file(source, name)):
            label = template.replace("[", "").replace("]", "")
            if label not in known:
                raise DataError(
                    f"{where}: class {label!r} is not in {labels.name}; are they of one release?"
                )
            if video in rows:
                raise DataError(
                    f"{where}: the video is listed before, as {rows[video].split1}; remove one"
                )
            path = files.find(video)
            rows[video] = Annotation(
                video_id=f"{source.name}/{video}",
                source=source.name,
                path=path or files.missing_path(f"{video}.webm"),
                kind="video",
                label=label,
                group="",
                split1=role,
                exists=path is not None,
            )
    return DatasetAnnotations(list(rows.values()), classes)


def read_labels(path: Path) -> list[str]:
    """`{"Approaching something with your camera": "0", …}` → names in the order of their ids.

    Raises DataError unless the ids are 0, 1, 2, …, each once.
    """
    raw = read_json(path)
    if not isinstance(raw, dict) or not all(_is_id(number) for number in raw.values()):
        raise DataError(f'{path}: expected {{"class": "0", …}}: fetch the official list of labels')
    by_id = {int(number): str(name) for name, number in raw.items()}
    if len(by_id) < len(raw) or sorted(by_id) != list(range(len(raw))):
        raise DataError(f"{path}: {len(raw)} classes need the ids 0 to {len(raw) - 1}, each once")
    return [by_id[number] for number in range(len(raw))]


def _annotation_file(source: Source, name: str) -> Path:
    names = (f"something-something-v2-{name}.json", f"{name}.json")
    given = source.options.get("annotations")
    folders = [str(given)] if given else [*ANNOTATION_FOLDERS, "labels", "."]
    for folder in folders:
        for path in (source.folder / folder / file for file in names):
            if path.is_file():
                return path
    raise DataError(f"{source.folder} has no {' or '.join(names)} (looked in {', '.join(folders)})")


def _entries(path: Path) -> Iterator[tuple[str, str, str]]:
    """(where, id, template) of each entry. JSON has no lines to name, so where names entry and id."""
    raw = read_json(path)
    if not isinstance(raw, list):
        raise DataError(f"{path}: expected a list of videos, found {type(raw).__name__}")
    for number, entry in enumerate(raw, 1):
        video = entry.get("id") if isinstance(entry, dict) else None
        where = f"{path}: entry {number} (id {video})"
        if not _is_id(video):
            raise DataError(
                f"{where}: expected an id of digits; the file is damaged: fetch it anew"
            )
        template = entry.get("template")
        if not isinstance(template, str):
            raise DataError(
                f"{where}: has no template; is this the test list, which has no labels?"
            )
        yield where, str(video), template


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and is_id(str(value))
