"""Compares the ids, lengths, counts and health in results with split files and manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vidprompt.config import paths
from vidprompt.metrics.result import ProtocolResult, SplitTest
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.revision import Result
from vidprompt.recompute.differences import (
    is_equal,
    shown,
    summarize,
    tree_differences,
    value_difference,
)


@dataclass(frozen=True)
class DatasetLists:
    """A dataset's manifest and split files (name → content); None where no store has them."""

    manifest: pd.DataFrame | None
    splits: Mapping[str, Any] | None


def read_lists(project: DvcProject, dataset: str) -> DatasetLists:
    """The manifest and split files that the revision's dvc.lock names."""
    md5s = project.revision.output_md5s
    folder = paths.manifest(dataset).parent.as_posix()
    file = project.find_in_folder(md5s.get(folder, ""), folder, "manifest.parquet")
    try:
        manifest = None if file is None else pd.read_parquet(file)
    except (OSError, ValueError):
        manifest = None
    folder = paths.splits(dataset).as_posix()
    return DatasetLists(manifest, _read_splits(project, folder, md5s.get(folder, "")))


def _read_splits(project: DvcProject, folder: str, folder_md5: str) -> dict[str, Any] | None:
    listing = project.listing(folder_md5)
    if listing is None:
        return None
    splits = {}
    for name, md5 in sorted(listing.items()):
        if not name.endswith(".json"):
            continue
        file = project.find(md5, f"{folder}/{name}")
        try:
            split = json.loads(file.read_bytes()) if file else None
        except ValueError:
            return None
        if not isinstance(split, dict):
            return None
        splits[name.removesuffix(".json")] = split
    return splits


def health_differences(
    project: DvcProject, dataset: str, lists: DatasetLists
) -> Iterator[tuple[str, str]]:
    """(file, sentence) for health.json, and for validation.json's counts of health."""
    from vidprompt.data.checks.health_report import health_report
    from vidprompt.data.splits.split_file import Split

    if lists.manifest is None or lists.splits is None:
        return
    health, validation = (path(dataset).as_posix() for path in (paths.health, paths.validation))
    pairs = []
    recorded = project.revision.try_json(health)
    if recorded is not None:
        try:
            splits = {name: Split.from_json(raw) for name, raw in lists.splits.items()}
            pairs.append((health, health_report(lists.manifest, splits), recorded))
        except (KeyError, TypeError, ValueError, AttributeError):
            yield health, "it cannot be computed again from manifest and splits: `dvc repro`"
    recorded = project.revision.try_json(validation)
    if isinstance(recorded, dict) and "health" in recorded and "health" in lists.manifest:
        counts = {str(name): int(n) for name, n in lists.manifest["health"].value_counts().items()}
        pairs.append((validation, counts, recorded["health"]))
    for path, wanted, content in pairs:
        differences = list(tree_differences(wanted, content))
        for sentence in summarize(differences, "the manifest says otherwise"):
            yield path, sentence


def list_differences(
    metrics: ProtocolResult, result: Result, splits: Mapping[str, Any] | None
) -> list[str]:
    """Sentences for a metrics.json whose counts contradict each other, its place, or the split files."""
    sentences = [*_coverages(metrics)]
    sentences += summarize(
        [*_counts(metrics, result)], "its own numbers and its place say otherwise"
    )
    if splits is not None:
        differences = [*_split_differences(metrics, result[2], splits)]
        sentences += summarize(differences, "the split files say otherwise")
    return sentences


def _coverages(metrics: ProtocolResult) -> Iterator[str]:
    """Every coverage has to be n / listed."""
    counted: dict[str, ProtocolResult | SplitTest] = {"": metrics}
    counted |= {
        f"splits.{name}.tests.{test}.": entry
        for name, split in metrics.splits.items()
        for test, entry in split.tests.items()
    }
    for path, one in counted.items():
        share = one.n / one.listed if one.listed else -1.0
        if not (is_equal(round(share, 6), one.coverage) and 0 <= share <= 1):
            yield f"`{path}coverage` is not n / listed"


def _counts(metrics: ProtocolResult, result: Result) -> Iterator[str]:
    place = (metrics.dataset, metrics.method, metrics.protocol)
    for key, name, recorded in zip(("dataset", "method", "protocol"), result, place, strict=True):
        yield from _unequal(key, name, recorded)
    tests = [test for split in metrics.splits.values() for test in split.tests.values()]
    yield from _unequal("n", sum(test.n for test in tests), metrics.n)
    yield from _unequal("listed", sum(test.listed for test in tests), metrics.listed)
    queries = [s.tests["query"].n for s in metrics.splits.values() if "query" in s.tests]
    for name, entry in metrics.summary.items() if len(queries) == 1 else ():
        if entry.skipped is not None and entry.n is not None:
            yield from _unequal(f"summary.{name}.skipped", queries[0] - entry.n, entry.skipped)


def _split_differences(
    metrics: ProtocolResult, protocol: str, splits: Mapping[str, Any]
) -> Iterator[str]:
    wanted = {name for name, split in splits.items() if split.get("protocol", "") == protocol}
    for name in sorted(wanted - metrics.splits.keys()):
        yield f"`splits.{name}` is missing"
    for name, recorded in sorted(metrics.splits.items()):
        if name not in splits:
            yield f"`splits.{shown(name)}` is no list"
            continue
        for key, value in (("id", recorded.id), ("run", recorded.run)):
            if key in splits[name]:
                yield from _unequal(f"splits.{name}.{key}", splits[name][key], value)
        for test, entry in sorted(recorded.tests.items()):
            subset = (splits[name].get("tests") or {}).get(test) or {}
            path = f"splits.{name}.tests.{shown(test)}.listed"
            yield from _unequal(path, len(subset.get("videos") or ()), entry.listed)


def _unequal(path: str, wanted: Any, recorded: Any) -> Iterator[str]:
    if recorded != wanted:
        yield value_difference(path, wanted, recorded)
