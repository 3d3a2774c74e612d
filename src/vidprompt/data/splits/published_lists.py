"""Make a split of published lists: look their videos up in the manifest, keep their order and labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from vidprompt.config.schema import Protocols
from vidprompt.data.annotations.label_maps import read_label_map, resolve_labels
from vidprompt.data.annotations.list_files import ListedVideo, read_list
from vidprompt.data.splits.names import measure_of
from vidprompt.data.splits.split_file import Split, Subset
from vidprompt.system.errors import DataError, UserError

PARTS = ("train", "val")  # of a split file; every other list is a test


TESTS = {  # what evaluation takes of a published list's protocol
    "supervised": ("test",),
    "zero_shot": ("test",),
    "base_to_novel": ("base", "novel"),
    "few_shot": ("test",),
}


def split_from_lists(
    manifest: pd.DataFrame,
    files: Mapping[str, Path],
    *,
    id: str,
    run: str,
    label_map: Path | None = None,
) -> Split:
    """One split of lists (`files`: part → file): `train`, `val`, and tests by any other name.

    Each list has its own classes, in the order of their ids. Labels that are ids need a `label_map`
    unless the manifest labels the same videos. Raises DataError when a listed video is not in the
    manifest (missing files are in it), or when a list and the manifest label it differently.
    """
    names = read_label_map(label_map) if label_map else None
    index = _Index(manifest)
    subsets = {name: _subset(index, file, names) for name, file in files.items()}
    tests = {name: subset for name, subset in subsets.items() if name not in PARTS}
    return Split(
        id=id,
        protocol=id.partition("/")[0],
        run=run,
        train=subsets.get("train"),
        val=subsets.get("val"),
        tests=tests,
    )


class _Index:
    """Videos of the manifest by stem: lists name files in their authors' folders."""

    def __init__(self, manifest: pd.DataFrame) -> None:
        self.rows: dict[str, list[tuple[str, str, str]]] = {}
        for video, path, label in zip(
            manifest["video_id"], manifest["path"], manifest["label"], strict=True
        ):
            self.rows.setdefault(_stem(path), []).append((video, path, label))

    def find(self, listed: ListedVideo) -> tuple[str, str] | None:
        """(video id, annotated label) of the stem, or None; of several, the longest common end of the path.

        Raises DataError when two are equally long.
        """
        rows = self.rows.get(_stem(listed.path), [])
        if not rows:
            return None
        reversed_parts = PurePosixPath(listed.path).with_suffix("").parts[::-1]

        def common(path: str) -> int:
            parts = PurePosixPath(path).with_suffix("").parts[::-1]
            same = [a == b for a, b in zip(reversed_parts, parts, strict=False)]
            return same.index(False) if False in same else len(same)

        best = max(common(path) for _, path, _ in rows)
        chosen = [(video, label) for video, path, label in rows if common(path) == best]
        if len(chosen) > 1:
            raise DataError(
                f"{listed.where}: {listed.path} may be {chosen[0][0]} or {chosen[1][0]}: "
                "list it with its folder"
            )
        return chosen[0]


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def _subset(index: _Index, file: Path, names: Mapping[str, str] | None) -> Subset:
    """A list file as a list of a split; `names`: a label map."""
    rows = read_list(file)
    matches = [index.find(row) for row in rows]
    unknown = [row for row, match in zip(rows, matches, strict=True) if match is None]
    if unknown:
        raise DataError(
            f"{unknown[0].where}: {unknown[0].path} is not in the manifest, nor are "
            f"{len(unknown) - 1:,} more of {len(rows):,} listed videos"
        )
    videos = [match for match in matches if match is not None]
    if names is None and all(row.label.isdigit() for row in rows):
        names = _names_by_manifest(rows, [label for _, label in videos])
    resolved, classes = resolve_labels(rows, dict(names) if names is not None else None)
    for row, (video, label) in zip(resolved, videos, strict=True):
        if row.label != label and _folded(row.label) != _folded(label):
            raise DataError(f"{row.where}: {video} is labelled {row.label!r}, annotated {label!r}")
    as_annotated = {row.label: label for row, (_, label) in zip(resolved, videos, strict=True)}
    index_of = {name: i for i, name in enumerate(classes)}
    return Subset(
        classes=[as_annotated.get(name, name) for name in classes],
        videos=[video for video, _ in videos],
        labels=[index_of[row.label] for row in resolved],
    )


def _folded(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _names_by_manifest(rows: Sequence[ListedVideo], annotated: Sequence[str]) -> dict[str, str]:
    """The class name of each id of a list, from the manifest's labels of its videos."""
    names: dict[str, str] = {}
    for row, label in zip(rows, annotated, strict=True):
        if names.setdefault(row.label, label) != label:
            raise DataError(
                f"{row.where}: label {row.label} stands for {names[row.label]!r} before and for "
                f"{label!r} here: give a label map"
            )
    return names


def published_stem(id: str) -> str:
    """`zero_shot/hmdb51@published` → `zero_shot_published`, its split file's name.

    Raises UserError for an id of another form, of a protocol that takes no lists, or of a drawn split.
    """
    protocol, slash, rest = id.partition("/")
    name = rest.partition("@")[2]
    if protocol == "reid":
        raise UserError(
            f"id {id!r}: lists of re-identification name cameras and clothes, so they are no published "
            "lists: write them as CCVID's train.txt, query.txt and gallery.txt and read them by "
            "`reader: ccvid` (docs/datasets/ccvid.md)"
        )
    if protocol not in TESTS or not slash or not name:
        raise UserError(
            f"id {id!r}: give PROTOCOL/DATASET@NAME, as in zero_shot/hmdb51@published; "
            f"protocols: {', '.join(TESTS)}"
        )
    stem = f"{protocol}_{re.sub(r'[^a-z0-9]+', '_', name.lower())}"
    if measure_of(stem):
        raise UserError(
            f"id {id!r}: {name} is what a drawn split is called, and the two would be averaged: "
            f"give another name (--id), as {protocol}/{rest.partition('@')[0]}@published-{name}"
        )
    return stem


def model_of(trained_on: str, dataset: str, protocols: Protocols) -> str:
    """The training whose model a list without a training part is tested with: its split file's name.

    `<dataset>/<name>` is another dataset's; left out, it is what `zero_shot` is trained on. Raises
    UserError when nothing says it.
    """
    zero_shot = protocols.zero_shot
    named = trained_on or (zero_shot.trained_on if zero_shot else "")
    if not named:
        raise UserError(
            "without a train list, trained_on (--trained-on) names the split file its model is of"
        )
    return str(named).removeprefix(f"{dataset}/")


def check_tests(id: str, files: Mapping[str, Path]) -> None:
    """Raises UserError unless the lists are all tests of the id's protocol (and train, val), and no other."""
    protocol = id.partition("/")[0]
    wanted = TESTS[protocol]
    if {*files} - {*PARTS} != {*wanted}:
        raise UserError(
            f"{id}: {protocol} is evaluated on {' and '.join(wanted)}, and the lists are "
            f"{', '.join(files)}: give {' '.join(f'{test}=FILE' for test in wanted)}, "
            "and train=FILE, val=FILE if there are such"
        )


def list_files(given: Sequence[str]) -> dict[str, Path]:
    """Part → file, of `[PART=]FILE` as the command line has them; `train` in a name alone means that part.

    Raises UserError for a part that is given twice, or is no name.
    """
    files: dict[str, Path] = {}
    for entry in given:
        name, equals, file = entry.partition("=")
        if not equals or Path(entry).is_file():
            name, file = "train" if "train" in Path(entry).stem.lower() else "test", entry
        if not name.isidentifier() or name in files:
            raise UserError(f"--from-list {entry!r}: give PART=FILE, each part once")
        files[name] = Path(file)
    return files
