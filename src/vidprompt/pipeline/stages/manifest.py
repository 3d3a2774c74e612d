"""Stage manifest: annotations + files → one probed row a video, and the classes."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from vidprompt.config import paths
from vidprompt.config.schema import Config, DatasetConfig
from vidprompt.data.annotations import Annotation, Source, read_annotations
from vidprompt.data.manifest.health import Health
from vidprompt.data.manifest.table import write_manifest
from vidprompt.data.probe.cache import ProbeCache, probe_cached
from vidprompt.data.probe.join import build_manifest
from vidprompt.data.probe.listing_report import write_listing_report
from vidprompt.data.probe.result import Limits, ProbeResult
from vidprompt.data.probe.videos import probe_by_stat
from vidprompt.files.atomic import write_json
from vidprompt.files.text import read_table
from vidprompt.system.errors import DataError
from vidprompt.system.progress import Progress

logger = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Probe every annotated video and write the manifest."""
    dataset = config.dataset
    root = Path(dataset.root)
    if not root.is_dir():
        raise DataError(
            f"{root} is missing: run `vidprompt unpack dataset={dataset.name}`"
            if dataset.archives
            else f"{root} is missing: put the videos and annotations of {dataset.name} there "
            f"(`vidprompt doctor dataset={dataset.name}` lists what is expected)"
        )
    listings = {
        name: read_annotations(source.reader, Source(name, root / source.folder, source.options))
        for name, source in dataset.sources.items()
    }
    folders = {name: source.folder for name, source in dataset.sources.items()}
    annotations = [a for listing in listings.values() for a in listing.annotations]
    names = [str(Path(folders[a.source], a.path)) for a in annotations]
    probes = _probe(config, names, annotations)
    table = build_manifest(annotations, probes, folders)
    write_manifest(table, paths.manifest(dataset.name))
    write_json(paths.classes(dataset.name), {n: listing.classes for n, listing in listings.items()})
    write_json(paths.class_groups(dataset.name), class_groups(dataset))
    missing = [probe.health is Health.MISSING for probe in probes]
    paths.missing(dataset.name).unlink(missing_ok=True)
    for sentence in (note for listing in listings.values() for note in listing.notes):
        logger.info(f"note: {sentence}")
    for sentence in write_listing_report(annotations, missing, paths.missing(dataset.name)):
        logger.info(sentence)
    for sentence in _flaws(annotations, probes):
        logger.info(sentence)
    noted = Counter(note.split(":")[0] for probe in probes for note in probe.notes)
    if noted:
        kinds = ", ".join(f"{kind}: {count:,}" for kind, count in sorted(noted.items()))
        logger.info(f"ok, with pixels to know of (see `detail` in the manifest): {kinds}")
    counts = Counter(probe.health.value for probe in probes)
    logger.info(", ".join(f"{reason}: {count:,}" for reason, count in sorted(counts.items())))


def _flaws(annotations: Sequence[Annotation], probes: Sequence[ProbeResult]) -> Iterator[str]:
    """A sentence a kind of video about those that are usable and not faultless, with the first of them."""
    for kind, fault in (("video", "FFmpeg complained"), ("frames", "its numbers have gaps")):
        flawed = [
            row
            for row, probe in enumerate(probes)
            if annotations[row].kind == kind and probe.health is Health.OK and probe.detail
        ]
        if flawed:
            first = min(flawed, key=lambda row: annotations[row].video_id)
            yield (
                f"ok, though {fault}: {len(flawed):,} (see `detail` in the manifest), first "
                f"{annotations[first].video_id}: {probes[first].detail}"
            )


def class_groups(dataset: DatasetConfig) -> dict[str, dict[str, str]]:
    """Column → class → group, from the file `dataset.class_groups` in each source that has one.

    Raises DataError for a class without a group.
    """
    groups: dict[str, dict[str, str]] = {}
    for source in dataset.sources.values() if dataset.class_groups else ():
        path = Path(dataset.root, source.folder, dataset.class_groups or "")
        if path.is_file():
            for column, named in _groups_in(path).items():
                groups.setdefault(column, {}).update(named)
    return groups


def _groups_in(path: Path) -> dict[str, dict[str, str]]:
    """Column → class → group, of a CSV file."""
    table = read_table(path, lambda header: "class" in header)
    columns = table.header
    if "class" not in columns or "" in columns or len(set(columns)) < len(columns):
        raise DataError(f"{path}:1: needs a column class, and names of the others, not {columns}")
    place = columns.index("class")
    groups: dict[str, dict[str, str]] = {name: {} for name in columns if name != "class"}
    seen: set[str] = set()
    for line, row in table.rows:
        if len(row) != len(columns) or not all(row):
            raise DataError(
                f"{path}:{line}: every class needs a group in every column; found {row}"
            )
        if row[place] in seen:
            raise DataError(f"{path}:{line}: class {row[place]!r} stands there before; remove one")
        seen.add(row[place])
        for name, cell in zip(columns, row, strict=True):
            if name != "class":
                groups[name][row[place]] = cell
    return groups


def limits(dataset: DatasetConfig) -> Limits:
    """What probing one video of a dataset may take."""
    return Limits(dataset.probe_timeout_s, dataset.probe_memory_mb, dataset.probe_max_pixels)


def _probe(
    config: Config, names: Sequence[str], annotations: Sequence[Annotation]
) -> list[ProbeResult]:
    """A probe each, of files named below the root. What is not there needs no worker to find out."""
    dataset = config.dataset
    root = Path(dataset.root)
    probes = [ProbeResult(Health.MISSING, f"There is no file {Path(name).name}.") for name in names]
    there = [
        row
        for row, annotation in enumerate(annotations)
        if annotation.exists or os.path.lexists(root / names[row])
    ]
    if dataset.probe == "stat":
        for row in there:
            probes[row] = probe_by_stat(root / names[row], annotations[row].kind)
        return probes
    items = [(names[row], annotations[row].kind) for row in there]
    home = paths.probes(dataset.name)
    with (
        ProbeCache(home, limits(dataset)) as cache,
        Progress(f"probe {dataset.name}", len(there), unit="videos") as progress,
    ):
        found, known = probe_cached(
            items, root, cache, dataset.min_frames, config.workers, progress.reach
        )
    if known:
        logger.info(
            f"{known:,} of {len(items):,} videos were known from {home} and not opened again"
        )
    for row, probe in zip(there, found, strict=True):
        probes[row] = probe
    return probes
