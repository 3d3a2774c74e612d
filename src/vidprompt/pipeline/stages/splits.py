"""Stage splits: manifest → one file a split of every protocol."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from vidprompt.config import paths
from vidprompt.config.compose import protocols_of
from vidprompt.config.schema import Config, DatasetConfig, Protocols, ZeroShotConfig
from vidprompt.data.manifest.table import read_classes, read_manifest
from vidprompt.data.splits import class_lists
from vidprompt.data.splits import protocols as splits
from vidprompt.data.splits.held_out import check_count, check_seed, check_share, shortfall
from vidprompt.data.splits.names import measure_of
from vidprompt.data.splits.published_lists import PARTS, split_from_lists
from vidprompt.data.splits.split_file import Split, write_split
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

logger = logging.getLogger(__name__)

RECOGNITION = ("supervised", "base_to_novel", "few_shot")
ROLES = ("recognition", "zero_shot", "reid")
TESTS = {  # what evaluation takes of a published list's protocol
    "supervised": ("test",),
    "zero_shot": ("test",),
    "base_to_novel": ("base", "novel"),
    "few_shot": ("test",),
}
Named = Iterator[tuple[str, Split]]


def build(
    manifest: pd.DataFrame,
    dataset: DatasetConfig,
    protocols: Protocols,
    classes: Mapping[str, list[str]],
) -> Named:
    """All splits of a dataset as (file stem, split).

    `protocols` are the parameters of those the dataset takes part in, `classes` a source's classes in
    official order. `dataset.roles` says which source plays which part.
    """
    roles = dataset.roles
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise UserError(f"dataset.roles: unknown {unknown[0]!r}: {suggestion(unknown[0], ROLES)}")
    _check_held_out(protocols)
    rows = {role: manifest[manifest["source"] == source] for role, source in roles.items()}
    if "recognition" in rows:
        yield from _recognition(rows["recognition"], dataset.name, protocols)
    if "zero_shot" in rows and protocols.zero_shot:
        source = roles["zero_shot"]
        name = dataset.name if source == dataset.name else f"{dataset.name}_{source}"
        root = Path(dataset.root)
        yield from _zero_shot(rows["zero_shot"], name, protocols.zero_shot, classes[source], root)
    if "reid" in rows and (p := protocols.reid):
        split = splits.reid(rows["reid"], dataset.name, p.tracklet, p.held_out, p.held_out_seed)
        yield "reid", split


def _check_held_out(protocols: Protocols) -> None:
    """Refuse a wrong number of any protocol before a file is written."""
    for p in (protocols.supervised, protocols.reid):
        if p:
            check_seed(p.held_out_seed, p.name)
            check_share(p.held_out, p.name)
    for q in (protocols.base_to_novel, protocols.few_shot):
        if q:
            check = check_count if q.shots else check_share
            check(q.held_out, q.name)


def _recognition(rows: pd.DataFrame, dataset: str, protocols: Protocols) -> Named:
    if one := protocols.supervised:
        for number in one.splits:
            split = splits.supervised(rows, dataset, number, one.held_out, one.held_out_seed)
            yield split.run, split
    if novel := protocols.base_to_novel:
        for seed in novel.seeds if novel.shots else novel.seeds[:1]:  # the whole set needs no draw
            split = splits.base_to_novel(
                rows, dataset, novel.split, novel.shots, seed, novel.held_out
            )
            yield split.run, split
    if few := protocols.few_shot:
        for shots in few.shots:
            for seed in few.seeds:
                split = splits.few_shot(
                    rows, dataset, few.split, shots, seed, few.nested, int(few.held_out)
                )
                yield split.run, split


def _zero_shot(
    rows: pd.DataFrame, name: str, p: ZeroShotConfig, classes: list[str], root: Path
) -> Named:
    for s in p.splits:
        yield f"zero_shot_split{s}", splits.zero_shot(rows, name, s, p.trained_on)

    def among(stem: str, chosen: list[str]) -> tuple[str, Split]:
        split = splits.zero_shot_among(rows, f"{name}@{stem}", 1, p.trained_on, chosen)
        return f"zero_shot_{stem.replace('-', '_')}", split

    for seed in range(p.halves):
        yield among(f"half{seed}", class_lists.half_classes(classes, seed))
    new = classes
    if p.known_classes:
        known = class_lists.read_classes_file(root / p.known_classes)
        new = class_lists.new_classes(classes, known)
        yield among(f"{name.replace('kinetics', 'k')}-minus-{p.known_name}", new)
        if p.renamed_classes:
            renamed = class_lists.read_classes_file(root / p.renamed_classes)
            new = class_lists.new_classes(new, (), renamed)
    for number, file in enumerate(p.partitions, 1):
        tested = class_lists.read_classes_file(root / file)
        class_lists.check_known(tested, classes, str(root / file))
        yield among(f"partition{number}", tested)
    for seed in p.partition_seeds:
        yield among(f"seed{seed}", class_lists.draw_partition(new, p.test_classes, seed)[1])


def run(config: Config) -> None:
    """Write every split file of the dataset."""
    dataset = config.dataset.name
    manifest = read_manifest(paths.manifest(dataset))
    classes = read_classes(paths.classes(dataset))
    protocols = protocols_of(config)
    held_out = {name: getattr(one, "held_out", 0) for name, one in protocols.present().items()}
    for stem, split in build(manifest, config.dataset, protocols, classes):
        _write(split, dataset, stem)
        if split.val:
            wanted = max(1, int(held_out[split.protocol]))  # a share: one at least
            if short := shortfall(split.val.classes, split.val.labels, wanted):
                logger.info(f"note: {split.id}: {short}")
    root = Path(config.dataset.root)
    for entry in config.dataset.published:
        parts = [f"{part}={root / file}" for part, file in entry.lists.items()]
        label_map = root / entry.label_map if entry.label_map else None
        take_lists(config, parts, entry.id, label_map, entry.trained_on or "")


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


def take_lists(
    config: Config, given: Sequence[str], id: str, label_map: Path | None, trained_on: str
) -> None:
    """Write one split file from published lists (`[part=]file`), beside the others.

    Without an id it is called after its first file; without a training list its model is the one that
    is tested zero-shot. Raises UserError for parts that the protocol's evaluation does not take.
    """
    dataset = config.dataset.name
    files = _list_files(given)
    if not id:
        protocol = "supervised" if "train" in files else "zero_shot"
        id = f"{protocol}/{dataset}@{next(iter(files.values())).stem}"
    stem = published_stem(id)
    _check_tests(id, files)
    if "train" in files:
        run = stem
    else:
        run = model_of(trained_on, dataset, protocols_of(config))
    manifest = read_manifest(paths.manifest(dataset))
    _write(split_from_lists(manifest, files, id=id, run=run, label_map=label_map), dataset, stem)


def _check_tests(id: str, files: Mapping[str, Path]) -> None:
    """Every test the protocol has, and no other."""
    protocol = id.partition("/")[0]
    wanted = TESTS[protocol]
    if {*files} - {*PARTS} != {*wanted}:
        raise UserError(
            f"{id}: {protocol} is evaluated on {' and '.join(wanted)}, and the lists are "
            f"{', '.join(files)}: give {' '.join(f'{test}=FILE' for test in wanted)}, "
            "and train=FILE, val=FILE if there are such"
        )


def _list_files(given: Sequence[str]) -> dict[str, Path]:
    """Part → file. A file alone is the training list if its name says so, else the test's."""
    files: dict[str, Path] = {}
    for entry in given:
        name, equals, file = entry.partition("=")
        if not equals or Path(entry).is_file():
            name, file = "train" if "train" in Path(entry).stem.lower() else "test", entry
        if not name.isidentifier() or name in files:
            raise UserError(f"--from-list {entry!r}: give PART=FILE, each part once")
        files[name] = Path(file)
    return files


def _write(split: Split, dataset: str, stem: str) -> None:
    write_split(split, paths.splits(dataset) / f"{stem}.json")
    trained = len(split.train.videos) if split.train else 0
    tested = ", ".join(
        f"{name} {len(t.videos):,} ({len(t.classes)} classes)" for name, t in split.tests.items()
    )
    held_out = f"val {len(split.val.videos):,}, " if split.val else ""
    logger.info(f"{split.id}: train {trained:,}, {held_out}{tested}")
