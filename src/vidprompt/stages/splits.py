"""Stage splits: manifest → one file a split of every protocol."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vidprompt.configuration import plain
from vidprompt.data import class_lists, splits
from vidprompt.data.manifest import read_classes, read_manifest
from vidprompt.errors import UserError
from vidprompt.stages import paths

PROTOCOLS = ("supervised", "zero_shot", "base_to_novel", "few_shot", "reid")
RECOGNITION = ("supervised", "base_to_novel", "few_shot")
ROLES = ("recognition", "zero_shot", "reid")
Named = Iterator[tuple[str, splits.Split]]


def build(
    manifest: pd.DataFrame,
    dataset: Any,
    protocols: Mapping[str, Any],
    classes: Mapping[str, list[str]],
) -> Named:
    """All splits of a dataset as (file stem, split).

    `protocols` are the parameters of those the dataset takes part in, `classes` a source's classes in
    official order. `dataset.roles` says which source plays which part.
    """
    roles = dataset.roles
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise UserError(f"dataset.roles: unknown {unknown[0]!r}; valid: {', '.join(ROLES)}")
    rows = {role: manifest[manifest["source"] == source] for role, source in roles.items()}
    if "recognition" in rows:
        yield from _recognition(rows["recognition"], dataset.name, protocols)
    if "zero_shot" in rows and "zero_shot" in protocols:
        source = roles["zero_shot"]
        name = dataset.name if source == dataset.name else f"{dataset.name}_{source}"
        root = Path(dataset.root)
        yield from _zero_shot(
            rows["zero_shot"], name, protocols["zero_shot"], classes[source], root
        )
    if "reid" in rows and "reid" in protocols:
        yield "reid", splits.reid(rows["reid"], dataset.name, protocols["reid"].tracklet)


def _recognition(rows: pd.DataFrame, dataset: str, protocols: Mapping[str, Any]) -> Named:
    if p := protocols.get("supervised"):
        for s in p.splits:
            yield f"supervised_split{s}", splits.supervised(rows, dataset, s)
    if p := protocols.get("base_to_novel"):
        for seed in p.seeds if p.shots else p.seeds[:1]:  # the whole base set needs no draw
            split = splits.base_to_novel(rows, dataset, p.split, p.shots, seed)
            yield split.run, split
    if p := protocols.get("few_shot"):
        for shots in p.shots:
            for seed in p.seeds:
                split = splits.few_shot(rows, dataset, p.split, shots, seed, p.nested)
                yield split.run, split


def _zero_shot(rows: pd.DataFrame, name: str, p: Any, classes: list[str], root: Path) -> Named:
    for s in p.splits:
        yield f"zero_shot_split{s}", splits.zero_shot(rows, name, s, p.trained_on)

    def among(stem: str, chosen: list[str]) -> tuple[str, splits.Split]:
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


def protocols_of(config: Any) -> dict[str, Any]:
    """Each protocol's parameters, the dataset's own numbers merged in; null leaves one out."""
    from vidprompt.configuration import usual_protocol, with_own_numbers

    own = config.dataset.protocols
    unknown = sorted(set(own) - set(PROTOCOLS))
    if unknown:
        valid = ", ".join(PROTOCOLS)
        raise UserError(f"dataset.protocols: unknown {unknown[0]!r}; valid: {valid}")
    found = {}
    for name in PROTOCOLS:
        if name not in own or own[name] is not None:
            chosen = name == config.protocol.name  # with what the command line says about it
            usual = usual_protocol(name)
            found[name] = config.protocol if chosen else with_own_numbers(usual, config.dataset)
    return found


def run(config: Any) -> None:
    """Write every split file of the dataset."""
    dataset = config.dataset.name
    manifest = read_manifest(paths.manifest(dataset))
    classes = read_classes(paths.classes(dataset))
    for stem, split in build(manifest, config.dataset, protocols_of(config), classes):
        _write(split, dataset, stem)
    root = Path(config.dataset.root)
    for entry in plain(config.dataset)["published"]:
        parts = [f"{part}={root / file}" for part, file in entry["lists"].items()]
        label_map = root / entry["label_map"] if entry.get("label_map") else None
        take_lists(config, parts, entry["id"], label_map, entry.get("trained_on", ""))


def published_stem(id: str) -> str:
    """`zero_shot/hmdb51@published` → `zero_shot_published`, its split file's name."""
    protocol, slash, rest = id.partition("/")
    if protocol not in PROTOCOLS or not slash or not rest.partition("@")[2]:
        raise UserError(
            f"id {id!r}: give PROTOCOL/DATASET@NAME, as in zero_shot/hmdb51@published; "
            f"protocols: {', '.join(PROTOCOLS)}"
        )
    return f"{protocol}_{re.sub(r'[^a-z0-9]+', '_', rest.partition('@')[2].lower())}"


def take_lists(
    config: Any, given: Sequence[str], id: str, label_map: Path | None, trained_on: str
) -> None:
    """Write one split file from published lists (`[part=]file`), beside the others.

    Without an id it is called after its first file; without a training list its model is the one that
    is tested zero-shot.
    """
    from vidprompt.data.published_lists import split_from_lists

    dataset = config.dataset.name
    files = _list_files(given)
    if not id:
        protocol = "supervised" if "train" in files else "zero_shot"
        id = f"{protocol}/{dataset}@{next(iter(files.values())).stem}"
    stem = published_stem(id)
    zero_shot = protocols_of(config).get("zero_shot")
    trained_on = trained_on or (zero_shot.trained_on if zero_shot else "")
    if "train" not in files and not trained_on:
        raise UserError("without a train list, --trained-on names the split file its model is of")
    split = split_from_lists(
        read_manifest(paths.manifest(dataset)),
        files,
        id=id,
        run=stem if "train" in files else trained_on,
        label_map=label_map,
    )
    _write(split, dataset, stem)


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


def _write(split: splits.Split, dataset: str, stem: str) -> None:
    splits.write_split(split, paths.splits(dataset) / f"{stem}.json")
    trained = len(split.train.videos) if split.train else 0
    tested = ", ".join(
        f"{name} {len(t.videos):,} ({len(t.classes)} classes)" for name, t in split.tests.items()
    )
    print(f"{split.id}: train {trained:,}, {tested}")
