"""Make a split of published lists: look their videos up in the manifest, keep their order and labels."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from vidprompt.config.schema import Protocols
from vidprompt.data.annotations.label_maps import read_label_map
from vidprompt.data.annotations.list_files import Reading, list_readings
from vidprompt.data.splits.list_labels import label_column, name_classes
from vidprompt.data.splits.listed_videos import ManifestIndex, repeated
from vidprompt.data.splits.names import measure_of
from vidprompt.data.splits.split_file import Split, Subset
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.suggestions import suggestion

PARTS = ("train", "val")  # of a split file; every other list is a test


TESTS = {  # what evaluation takes of a published list's protocol
    "supervised": ("test",),
    "zero_shot": ("test",),
    "base_to_novel": ("base", "novel"),
    "few_shot": ("test",),
}


LabelMaps = Mapping[str, Path]  # part → file; the key "" is for parts without one of their own


def split_from_lists(
    manifest: pd.DataFrame,
    files: Mapping[str, Path],
    *,
    id: str,
    run: str,
    label_map: Path | LabelMaps | None = None,
) -> Split:
    """One split of lists (`files`: part → file): `train`, `val`, and tests by any other name.

    Each list has its own classes, in the order of their ids, under the manifest's names. `label_map`: one
    for all lists, or one a part; `train` and `val` take that of `base` where they have none. Without one,
    the classes are those of the listed videos. What had to be resolved is a warning. Raises DataError when a
    listed video is not in the manifest (missing files are in it), or a label stands for several classes.
    """
    index = ManifestIndex(manifest)
    maps = {"": label_map} if isinstance(label_map, Path) else dict(label_map or {})
    base = maps.get("base") if "base" in files else None
    subsets = {}
    for part, file in files.items():
        chosen = maps.get(part) or (base if part in PARTS else None) or maps.get("")
        names = read_label_map(chosen, set(index.labels)) if chosen else None
        subsets[part] = _subset(index, file, names)
    return Split(
        id=id,
        protocol=id.partition("/")[0],
        run=run,
        train=subsets.get("train"),
        val=subsets.get("val"),
        tests={name: subset for name, subset in subsets.items() if name not in PARTS},
    )


def _subset(index: ManifestIndex, file: Path, names: Mapping[str, str] | None) -> Subset:
    """A list file as a list of a split; `names`: a label map."""
    reading, videos = _read(index, file)
    reading.log(file)
    rows = reading.rows
    again = repeated(videos)
    if again:
        first = min(again)
        warnings.warn(
            f"{file}: {len(again):,} of {len(rows):,} rows repeat a video, which is taken once (the first "
            f"is {rows[first].where})",
            stacklevel=3,
        )
    annotated = [index.labels[video] for video in videos]
    labels: Sequence[str] = [row.label for row in rows]
    if not reading.headed:
        frames = [index.n_frames[video] for video in videos]
        labels = label_column(rows, annotated, frames, names)
    places, classes, report = name_classes(rows, labels, annotated, names, set(index.labels))
    if report:
        warnings.warn(f"{file}: {report}", stacklevel=3)
    once = [place for place in range(len(rows)) if place not in again]
    return Subset(
        classes=classes,
        videos=[index.ids[videos[i]] for i in once],
        labels=[places[i] for i in once],
    )


def _read(index: ManifestIndex, file: Path) -> tuple[Reading, list[int]]:
    """A list and its rows' videos, in the form in which the manifest has the most of its paths.

    Raises DataError where the manifest has them all in two forms, or has not all in any.
    """
    best: list[tuple[Reading, list[list[int]]]] = []
    most = -1
    for reading in list_readings(file):
        found = [index.candidates(row.path) for row in reading.rows]
        known = sum(map(bool, found))
        if known >= most:
            best = [*(best if known == most else []), (reading, found)]
            most = known
    if len(best) > 1 and most:
        ways = " or ".join(repr(reading.rows[0].path) for reading, _ in best)
        raise DataError(
            f"{best[0][0].rows[0].where}: the path can be {ways}, and the manifest has both, here and below: "
            "separate the fields with tabs instead"
        )
    reading, found = best[-1]  # of forms without any video: the one with a number of frames
    unknown = [row for row, videos in zip(reading.rows, found, strict=True) if not videos]
    if unknown:
        other = ": is it a list of another dataset?" if 2 * most < len(found) else ""
        raise DataError(
            f"{unknown[0].where}: {unknown[0].path} is not in the manifest, nor are "
            f"{len(unknown) - 1:,} more of {len(found):,} listed videos{other}"
        )
    return reading, index.choose(reading.rows, found)


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
        part, file = _part_and_file(entry)
        if part is None:
            part = "train" if "train" in Path(file).stem.lower() else "test"
        if not part.isidentifier() or part in files:
            raise UserError(f"--from-list {entry!r}: give PART=FILE, each part once")
        files[part] = Path(file)
    return files


def label_maps(given: Sequence[str]) -> dict[str, Path]:
    """Part → label map, of `[PART=]FILE` as the command line has them; "" is for all parts without one.

    Raises UserError for a part that is given twice.
    """
    maps: dict[str, Path] = {}
    for entry in given:
        named, file = _part_and_file(entry)
        part = named or ""
        if part in maps or (named is not None and not file):
            raise UserError(f"--label-map {entry!r}: give [PART=]FILE, one for each part")
        maps[part] = Path(file)
    return maps


def _part_and_file(entry: str) -> tuple[str | None, str]:
    """`PART=FILE` of the command line; the part is None of a file alone, which may have a = in its name."""
    part, equals, file = entry.partition("=")
    return (part, file) if equals and not Path(entry).is_file() else (None, entry)


def check_maps(id: str, parts: Iterable[str], maps: Iterable[str]) -> None:
    """Raises UserError for a label map of a part that has no list."""
    for part in maps:
        if part and part not in set(parts):
            raise UserError(
                f"{id}: a label map for {part!r}, which has no list: {suggestion(part, list(parts))}"
            )
