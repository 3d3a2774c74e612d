"""Stage validate: Great Expectations over manifest and splits; a failed expectation stops here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from vidprompt.config import paths
from vidprompt.config.compose import protocols_of
from vidprompt.config.schema import Config
from vidprompt.data.annotations.class_names import check_class_names
from vidprompt.data.checks.duplicates import near_duplicates_note
from vidprompt.data.checks.health_report import health_report
from vidprompt.data.checks.validation import first_failures, validate_dataset
from vidprompt.data.manifest.table import read_classes, read_manifest
from vidprompt.data.splits.class_lists import read_classes_file
from vidprompt.data.splits.list_sizes import batch_note, frames_note
from vidprompt.data.splits.split_file import read_splits
from vidprompt.files.atomic import write_json
from vidprompt.system.errors import DataError

logger = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Write health.json and validation.json; raise DataError when an expectation of severity error fails."""
    dataset = config.dataset
    manifest = read_manifest(paths.manifest(dataset.name))
    classes = read_classes(paths.classes(dataset.name))
    splits = read_splits(paths.splits(dataset.name))
    if dataset.roles and not splits:
        raise DataError(
            f"{paths.splits(dataset.name)} has no split files: run `vidprompt splits dataset={dataset.name}`"
        )
    for split in splits.values():
        if split.protocol != "reid":  # which has no texts of persons
            for name, subset in split.lists():
                check_class_names(subset.classes, f"{split.id} {name}")
    health = health_report(manifest, splits)
    write_json(paths.health(dataset.name), health)
    report = validate_dataset(
        manifest,
        splits,
        classes=classes,
        min_frames=dataset.min_frames,
        expected=dict(dataset.validation.expected),
        severity=dict(dataset.validation.severity),
        max_broken_share=dataset.validation.max_broken_share,
        ranges=dataset.validation.ranges,
        known_classes=_known_classes(config, classes),
        docs=Path("cache/data_docs") / dataset.name,
    )
    write_json(paths.validation(dataset.name), report)
    for sentence in first_failures(report, "warn"):
        logger.warning(sentence)
    if near := near_duplicates_note(health["duplicates"]["near"]):
        logger.info(f"note: {near} ({paths.health(dataset.name)})")
    small = (
        batch_note(splits.values(), config.values["trainer"].get("batch_size")),
        frames_note(manifest, config.method.num_frames),
    )
    for note in filter(None, small):
        logger.info(f"note: {note}")
    failures = first_failures(report)
    if failures:
        raise DataError(f"{dataset.name} does not validate: " + "; ".join(failures))
    counts = ", ".join(f"{reason} {count}" for reason, count in report["health"].items())
    logger.info(f"{len(report['expectations'])} expectations met; videos: {counts}")


def _known_classes(config: Config, classes: Mapping[str, list[str]]) -> list[str]:
    zero_shot = protocols_of(config).zero_shot
    if zero_shot is None or not zero_shot.known_classes:
        return []
    tested = classes[config.dataset.roles["zero_shot"]]
    return read_classes_file(Path(config.dataset.root) / zero_shot.known_classes, tested)
