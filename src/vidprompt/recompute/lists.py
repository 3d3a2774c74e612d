"""What metrics.json and health.json say of lists and videos, again from split files and manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vidprompt.config import paths
from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.revision import Result, Revision
from vidprompt.reporting.markdown import plain

OF_LISTS = "the split files say otherwise"
OF_VIDEOS = "the manifest says otherwise"


@dataclass(frozen=True)
class Known:
    """A dataset's manifest and split files (name → content), None where they are not at hand."""

    manifest: Any
    splits: Mapping[str, Any] | None

    @property
    def whole(self) -> bool:
        return self.manifest is not None and self.splits is not None


def read(head: Revision, store: DvcProject, dataset: str) -> Known:
    """As head's dvc.lock names them."""
    import pandas as pd

    folder = paths.manifest(dataset).parent.as_posix()
    file = store.find_in_folder(head.output_md5s.get(folder, ""), folder, "manifest.parquet")
    try:
        manifest = None if file is None else pd.read_parquet(file)
    except (OSError, ValueError):
        manifest = None
    return Known(manifest, _splits(head, store, paths.splits(dataset).as_posix()))


def _splits(head: Revision, store: DvcProject, folder: str) -> dict[str, Any] | None:
    listing = store.listing(head.output_md5s.get(folder, ""))
    if listing is None:
        return None
    found = {}
    for name, md5 in sorted(listing.items()):
        if not name.endswith(".json"):
            continue
        file = store.find(md5, f"{folder}/{name}")
        if file is None:
            return None
        try:
            split = json.loads(file.read_bytes())
        except ValueError:
            return None
        if not isinstance(split, dict):
            return None
        found[name.removesuffix(".json")] = split
    return found


def of_dataset(head: Revision, dataset: str, known: Known) -> Iterator[tuple[str, list[str]]]:
    """health.json whole, and validation.json's counts of health: file, what is wrong with it."""
    from vidprompt.data.checks.health_report import health_report
    from vidprompt.recompute.results import _walk, told

    if known.manifest is None or known.splits is None:
        return
    checked = []
    health, validation = (path(dataset).as_posix() for path in (paths.health, paths.validation))
    said = head.try_json(health)
    if said is not None:
        try:
            checked.append((health, health_report(known.manifest, known.splits), said))
        except (KeyError, TypeError, ValueError, AttributeError):
            yield health, ["it cannot be computed again from manifest and splits: `dvc repro`"]
    said = head.try_json(validation)
    if isinstance(said, dict) and "health" in said and "health" in known.manifest:
        counts = {str(name): int(n) for name, n in known.manifest["health"].value_counts().items()}
        checked.append((validation, counts, said["health"]))
    for path, found, content in checked:
        yield path, list(told(list(_walk(found, content, "")), OF_VIDEOS))


def of_result(metrics: Mapping[str, Any], result: Result, known: Known) -> Iterator[str]:
    """Ids, lengths and tests of the lists, and the counts that follow from each other."""
    from vidprompt.recompute.results import told

    differing = list(_counts(metrics, result))
    yield from told(differing, "its own numbers and its report_order say otherwise")
    if known.splits is not None:
        yield from told(list(_lists(metrics, result[2], known.splits)), OF_LISTS)


def _counts(metrics: Mapping[str, Any], result: Result) -> Iterator[str]:
    for key, name in zip(("dataset", "method", "protocol"), result, strict=True):
        if metrics.get(key, name) != name:
            yield _not(key, metrics[key], name)
    tests = [
        test
        for split in metrics.get("splits", {}).values()
        for test in split.get("tests", {}).values()
    ]
    for key in ("n", "listed"):
        if key in metrics and all(isinstance(test.get(key), int) for test in tests):
            yield from _unlike(key, metrics[key], sum(test[key] for test in tests))
    queries = [
        split["tests"]["query"].get("n")
        for split in metrics.get("splits", {}).values()
        if "query" in split.get("tests", {})
    ]
    for name, entry in metrics["summary"].items() if len(queries) == 1 else ():
        n = entry.get("n")
        if "skipped" in entry and isinstance(n, int) and isinstance(queries[0], int):
            yield from _unlike(f"summary.{name}.skipped", entry["skipped"], queries[0] - n)


def _lists(metrics: Mapping[str, Any], protocol: str, splits: Mapping[str, Any]) -> Iterator[str]:
    said = metrics.get("splits", {})
    wanted = {name for name, split in splits.items() if split.get("protocol", "") == protocol}
    for name in sorted(wanted - said.keys()):
        yield f"`splits.{name}` is missing"
    for name in sorted(said):
        if name not in splits:
            yield f"`splits.{_name(name)}` is no list"
            continue
        for key in ("id", "run"):
            if key in splits[name]:
                way = f"splits.{name}.{key}"
                yield from _unlike(way, said[name].get(key), splits[name][key])
        for test, entry in sorted(said[name].get("tests", {}).items()):
            listed = (splits[name].get("tests") or {}).get(test) or {}
            way = f"splits.{name}.tests.{_name(test)}.listed"
            yield from _unlike(way, entry.get("listed"), len(listed.get("videos") or ()))


def _unlike(way: str, said: Any, found: Any) -> Iterator[str]:
    if said != found:
        yield _not(way, said, found)


def _not(way: str, said: Any, found: Any) -> str:
    return f"`{_name(way)}` is {_name(said)} and should be {_name(found)}"


def _name(value: Any) -> str:
    return plain(value, 100).replace("`", "'")
