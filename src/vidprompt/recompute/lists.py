"""Compares the ids, lengths, counts and health in results with split files and manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vidprompt.config import paths
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

    @property
    def is_complete(self) -> bool:
        return self.manifest is not None and self.splits is not None


def read_lists(project: DvcProject, dataset: str) -> DatasetLists:
    """The manifest and split files that the revision's dvc.lock names."""
    folder = paths.manifest(dataset).parent.as_posix()
    file = project.find_in_folder(_md5(project, folder), folder, "manifest.parquet")
    try:
        manifest = None if file is None else pd.read_parquet(file)
    except (OSError, ValueError):
        manifest = None
    return DatasetLists(manifest, _read_splits(project, paths.splits(dataset).as_posix()))


def _md5(project: DvcProject, path: str) -> str:
    return project.revision.output_md5s.get(path, "")


def _read_splits(project: DvcProject, folder: str) -> dict[str, Any] | None:
    listing = project.listing(_md5(project, folder))
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
    metrics: Mapping[str, Any], result: Result, splits: Mapping[str, Any] | None
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


def _coverages(entry: Any, path: str = "") -> Iterator[str]:
    """Every coverage has to be n / listed."""
    if not isinstance(entry, Mapping):
        return
    if {"n", "listed", "coverage"} <= entry.keys():
        try:
            share = entry["n"] / entry["listed"]
            is_right = is_equal(round(share, 6), entry["coverage"]) and 0 <= share <= 1
        except (TypeError, ZeroDivisionError):
            is_right = False
        if not is_right:
            yield f"`{path}coverage` is not n / listed"
    for key in sorted(entry):
        yield from _coverages(entry[key], f"{path}{key}.")


def _counts(metrics: Mapping[str, Any], result: Result) -> Iterator[str]:
    for key, name in zip(("dataset", "method", "protocol"), result, strict=True):
        yield from _unequal(key, name, metrics.get(key, name))
    splits = metrics.get("splits", {}).values()
    tests = [test for split in splits for test in split.get("tests", {}).values()]
    for key in ("n", "listed"):
        if key in metrics and all(isinstance(test.get(key), int) for test in tests):
            yield from _unequal(key, sum(test[key] for test in tests), metrics[key])
    queries = [
        split["tests"]["query"].get("n") for split in splits if "query" in split.get("tests", {})
    ]
    for name, entry in metrics["summary"].items() if len(queries) == 1 else ():
        n = entry.get("n")
        if "skipped" in entry and isinstance(n, int) and isinstance(queries[0], int):
            yield from _unequal(f"summary.{name}.skipped", queries[0] - n, entry["skipped"])


def _split_differences(
    metrics: Mapping[str, Any], protocol: str, splits: Mapping[str, Any]
) -> Iterator[str]:
    recorded = metrics.get("splits", {})
    wanted = {name for name, split in splits.items() if split.get("protocol", "") == protocol}
    for name in sorted(wanted - recorded.keys()):
        yield f"`splits.{name}` is missing"
    for name in sorted(recorded):
        if name not in splits:
            yield f"`splits.{shown(name)}` is no list"
            continue
        for key in ("id", "run"):
            if key in splits[name]:
                path = f"splits.{name}.{key}"
                yield from _unequal(path, splits[name][key], recorded[name].get(key))
        for test, entry in sorted(recorded[name].get("tests", {}).items()):
            subset = (splits[name].get("tests") or {}).get(test) or {}
            path = f"splits.{name}.tests.{shown(test)}.listed"
            yield from _unequal(path, len(subset.get("videos") or ()), entry.get("listed"))


def _unequal(path: str, wanted: Any, recorded: Any) -> Iterator[str]:
    if recorded != wanted:
        yield value_difference(path, wanted, recorded)
