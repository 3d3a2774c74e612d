"""Stage splits: manifest → one file a split of every protocol."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from vidprompt.config import paths
from vidprompt.config.compose import protocols_of
from vidprompt.config.schema import Config
from vidprompt.data.annotations.class_names import check_class_names
from vidprompt.data.manifest.table import read_classes, read_manifest
from vidprompt.data.splits.dataset_splits import dataset_splits
from vidprompt.data.splits.held_out import shortfall
from vidprompt.data.splits.list_sizes import batch_note, check_lists, frames_note, list_notes
from vidprompt.data.splits.published_lists import (
    check_maps,
    check_tests,
    list_files,
    model_of,
    published_stem,
    split_from_lists,
)
from vidprompt.data.splits.split_file import Split, write_split

logger = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Write every split file of the dataset."""
    dataset = config.dataset.name
    manifest = read_manifest(paths.manifest(dataset))
    classes = read_classes(paths.classes(dataset))
    protocols = protocols_of(config)
    held_out = {name: getattr(one, "held_out", 0) for name, one in protocols.present().items()}
    health = dict(zip(manifest["video_id"], manifest["health"], strict=True))
    drawn: list[Split] = []
    for stem, split in dataset_splits(manifest, config.dataset, protocols, classes):
        check_lists(split)
        _write(split, dataset, stem)
        if split.val:
            wanted = max(1, int(held_out[split.protocol]))  # a share: one at least
            if short := shortfall(split.val.classes, split.val.labels, wanted):
                logger.info(f"note: {split.id}: {short}")
        for note in list_notes(split, health):
            logger.info(f"note: {note}")
        drawn.append(split)
    small = (
        batch_note(drawn, config.values["trainer"].get("batch_size")),
        frames_note(manifest, config.method.num_frames),
    )
    for note in filter(None, small):
        logger.info(f"note: {note}")
    root = Path(config.dataset.root)
    for entry in config.dataset.published:
        parts = [f"{part}={root / file}" for part, file in entry.lists.items()]
        given = entry.label_map or {}
        named = {"": given} if isinstance(given, str) else given
        maps = {part: root / file for part, file in named.items()}
        take_lists(config, parts, entry.id, maps, entry.trained_on or "")


def take_lists(
    config: Config,
    given: Sequence[str],
    id: str,
    label_maps: Mapping[str, Path] | None,
    trained_on: str,
) -> None:
    """Write one split file from published lists (`[part=]file`), beside the others.

    `label_maps`: part → file, "" for the parts without one of their own.
    Without an id it is called after its first file; without a training list its model is the one that
    is tested zero-shot. Raises UserError for parts that the protocol's evaluation does not take.
    """
    dataset = config.dataset.name
    files = list_files(given)
    if not id:
        protocol = "supervised" if "train" in files else "zero_shot"
        id = f"{protocol}/{dataset}@{next(iter(files.values())).stem}"
    stem = published_stem(id)
    check_tests(id, files)
    check_maps(id, files, label_maps or ())
    if "train" in files:
        run = stem
    else:
        run = model_of(trained_on, dataset, protocols_of(config))
    manifest = read_manifest(paths.manifest(dataset))
    _write(split_from_lists(manifest, files, id=id, run=run, label_map=label_maps), dataset, stem)


def _write(split: Split, dataset: str, stem: str) -> None:
    if split.protocol != "reid":  # which has no texts of persons
        for name, subset in split.lists():
            check_class_names(subset.classes, f"{split.id} {name}")
    write_split(split, paths.splits(dataset) / f"{stem}.json")
    trained = len(split.train.videos) if split.train else 0
    tested = ", ".join(
        f"{name} {len(t.videos):,} ({len(t.classes)} classes)" for name, t in split.tests.items()
    )
    held_out = f"val {len(split.val.videos):,}, " if split.val else ""
    logger.info(f"{split.id}: train {trained:,}, {held_out}{tested}")
