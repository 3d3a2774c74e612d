"""Read HMDB-51's official lists: `<class>_test_split<N>.txt`, N = 1, 2, 3, one of each for every class.

A line is `name.avi R `; R is 1 (train), 2 (test) or 0 (not used in that split). Layout: the lists in
`annotations/`, `testTrainMulti_7030_splits/` or `test_train_splits/`, or in a folder of one of the
latter names inside; the videos in `videos/`, `hmdb51_org/`, `HMDB51/` or the source's folder, a folder a
class or all in one, in any container. Names hold blanks and all sorts of signs, and systems differ in how
they write letters with accents: names are compared in Unicode's composed form.

A name is `<film>_<class>_<visible body parts>_<camera motion>_np<people>_<viewpoint>_<quality>_<n>.avi`:
clips of one film, of whatever class, are a group.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from vidprompt.data.annotations.base import (
    Annotation,
    DatasetAnnotations,
    Source,
    relative_path,
)
from vidprompt.data.annotations.video_files import VideoFiles, stem_of
from vidprompt.files.text import numbered_lines
from vidprompt.system.errors import DataError

SPLITS = (1, 2, 3)
ROLES = {"0": "", "1": "train", "2": "test"}
_FOLDERS = ("testTrainMulti_7030_splits", "test_train_splits")
_LIST = re.compile(r"([^.].*)_test_split[123]\.txt")
_ATTRIBUTES = r"[fulh]_(?:cm|nm)_np[0-9]+_(?:fr|le|ba|ri)_(?:goo|med|bad)_[0-9]+"


def read_hmdb51(source: Source) -> DatasetAnnotations:
    """All listed videos of all classes, those that no split uses among them.

    Raises DataError, naming file and line, for a missing list and for a malformed line.
    """
    folder, classes = _lists(source)
    roles: dict[tuple[str, str], list[str]] = {}
    for label in classes:
        for split in SPLITS:
            names: set[str] = set()
            for where, name, role in _read_list(folder / f"{label}_test_split{split}.txt"):
                if name in names:
                    raise DataError(
                        f"{where}: {name} is listed twice in split {split}; remove one line"
                    )
                names.add(name)
                roles.setdefault((label, name), [""] * len(SPLITS))[split - 1] = role
    videos = _VideoLookup(source, classes, [name for _, name in roles])
    return DatasetAnnotations(
        [_annotation(source.name, *key, roles[key], videos) for key in roles], classes
    )


def film_of(name: str, label: str) -> str:
    """The film that a video is cut from, by its name; "" when it is not an official name."""
    match = re.fullmatch(rf"(.+)_{re.escape(label)}_{_ATTRIBUTES}", stem_of(name))
    return match[1] if match else ""


class _VideoLookup:
    """Finds the file of a listed video: in its class's folder, or in no class's folder."""

    def __init__(self, source: Source, classes: list[str], names: Iterable[str]) -> None:
        self.files = VideoFiles(source.folder, source.video_folder("hmdb51_org", "HMDB51"))
        self._classes = set(classes)
        self._times_listed = Counter(map(stem_of, names))

    def find(self, name: str, label: str) -> str | None:
        """The file's path, or None; never a file in the folder of another class."""
        flat = None
        for path in self.files.paths(stem_of(name)):
            folders = PurePosixPath(path).relative_to(self.files.folder).parts[:-1]
            folder = next((part for part in reversed(folders) if part in self._classes), "")
            if folder == label:
                return path
            if not folder:
                flat = flat or path
        # a name listed in two classes may be either video where the file is in no class's folder
        return flat if self._times_listed[stem_of(name)] == 1 else None


def _lists(source: Source) -> tuple[Path, list[str]]:
    """The folder of the lists, and their classes."""
    top = source.annotation_folder(*_FOLDERS)
    for folder in (top, *(top / name for name in _FOLDERS)):
        if folder.is_dir():
            matches = [_LIST.fullmatch(path.name) for path in folder.iterdir()]
            classes = sorted({match[1] for match in matches if match})
            if classes:
                return folder, classes
    raise DataError(
        f"{top} has no list <class>_test_split<1|2|3>.txt; unpack test_train_splits.rar there"
    )


def _read_list(path: Path) -> Iterator[tuple[str, str, str]]:
    """(where, name of the video, role) of each line."""
    if not path.is_file():
        raise DataError(
            f"{path} is missing: each class has three lists; unpack test_train_splits.rar again"
        )
    for where, line in numbered_lines(path):
        name, _, digit = line.rpartition(" ")
        name = name.rstrip()
        if not name.endswith(".avi"):
            raise DataError(f"{where}: expected 'name.avi <0|1|2>', found {line!r}")
        if digit not in ROLES:
            raise DataError(
                f"{where}: {digit!r} is no role; write 1 (train), 2 (test) or 0 (not used)"
            )
        if len(relative_path(name, where).parts) != 1:
            raise DataError(f"{where}: expected a file's name without a folder, found {name!r}")
        yield where, name, ROLES[digit]


def _annotation(
    source: str, label: str, name: str, roles: list[str], videos: _VideoLookup
) -> Annotation:
    path = videos.find(name, label)
    return Annotation(
        video_id=f"{source}/{label}/{name}",
        source=source,
        path=path or videos.files.missing_path(f"{label}/{name}"),
        kind="video",
        label=label,
        group=film_of(name, label),
        split1=roles[0],
        split2=roles[1],
        split3=roles[2],
        exists=path is not None,
    )
