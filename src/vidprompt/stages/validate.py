"""Stage validate: Great Expectations over manifest and splits; a failed expectation stops here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidprompt.atomic import write_json
from vidprompt.configuration import plain
from vidprompt.data.annotations import read_class_names
from vidprompt.data.expectations import first_failures, validate_dataset
from vidprompt.data.manifest import read_manifest
from vidprompt.data.splits import read_split
from vidprompt.errors import DataError
from vidprompt.stages import paths


def run(config: Any) -> None:
    """Write validation.json; raise DataError when an expectation of severity error fails."""
    dataset = config.dataset
    manifest = read_manifest(paths.manifest(dataset.name))
    files = sorted(paths.splits(dataset.name).glob("*.json"))
    settings = plain(dataset.validation)
    report = validate_dataset(
        manifest,
        {file.stem: read_split(file).to_json() for file in files},
        classes={
            name: read_class_names(source.reader, Path(dataset.root) / source.folder)
            for name, source in dataset.sources.items()
        },
        min_frames=dataset.min_frames,
        expected=settings["expected"],
        severity=settings["severity"],
        max_broken_share=settings["max_broken_share"],
        docs=Path("cache/data_docs") / dataset.name,
    )
    write_json(paths.validation(dataset.name), report)
    for sentence in first_failures(report, "warn"):
        print(f"warning: {sentence}")
    failures = first_failures(report)
    if failures:
        raise DataError(f"{dataset.name} does not validate: " + "; ".join(failures))
    health = ", ".join(f"{reason} {count}" for reason, count in report["health"].items())
    print(f"{len(report['expectations'])} expectations met; videos: {health}")
