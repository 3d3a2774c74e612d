"""metrics.json again from the predictions that dvc.lock names: a number that was edited is found out,
also where dvc.lock was edited with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vidprompt.errors import DataError
from vidprompt.review.markdown import several
from vidprompt.review.proof import Finding
from vidprompt.review.sides import Side
from vidprompt.review.store import Store
from vidprompt.stages import paths

LISTED = {
    "id",
    "run",
    "listed",
    "coverage",
    "skipped",
    "n",
}  # of the lists; n is compared where it is
DECIMALS = 2e-6  # of metrics.json, and a little


@dataclass(frozen=True)
class Recount:
    """`done` results were computed again, of `without` the predictions are not at hand."""

    findings: tuple[Finding, ...]
    done: int
    without: int


def recount(head: Side, store: Store) -> Recount:
    """Every metrics.json whose predictions are at hand."""
    findings, done, without = [], 0, 0
    for (dataset, method, protocol), metrics in head.results.items():
        tracked = paths.predictions(dataset, method, protocol).as_posix()
        path = (paths.results(dataset, method, protocol) / "metrics.json").as_posix()
        findings += [Finding(path, sentence) for sentence in _coverages(metrics)]
        file = store.file(head.recorded.get(tracked, ""), tracked)
        if file is None:
            without += 1
            continue
        done += 1
        findings += [Finding(path, sentence) for sentence in _differing(file, metrics)]
    return Recount(tuple(findings), done, without)


def _differing(file: Any, metrics: Mapping[str, Any]) -> Iterator[str]:
    from vidprompt.evaluation.recomputed import recomputed

    try:
        found = recomputed(file)
    except DataError:
        yield "its predictions, as dvc.lock names them, cannot be read: `dvc repro`"
        return
    said = {"summary": metrics.get("summary", {})}
    if "tests" in found:
        splits = metrics.get("splits", {})
        said["tests"] = {name: split.get("tests", {}) for name, split in splits.items()}
    differing = list(_walk(found, said, ""))
    if differing:
        more = len(differing) - 1
        others = f", and {several(more, 'other number')} {'is' if more == 1 else 'are'} not"
        yield f"{differing[0]}{others if more else ''}: the predictions say otherwise"


def _walk(found: Any, said: Any, way: str) -> Iterator[str]:
    """Where two trees of numbers differ."""
    if isinstance(found, Mapping) and isinstance(said, Mapping):
        for key in sorted({*found, *said}):
            here = f"{way}.{key}" if way else str(key)
            if key in found and key in said:
                yield from _walk(found[key], said[key], here)
            elif key in found:
                yield f"`{here}` is missing"
            elif key not in LISTED:
                yield f"`{here}` is not computed from predictions"
    elif isinstance(found, list) and isinstance(said, list) and len(found) == len(said):
        for i, (one, two) in enumerate(zip(found, said, strict=True)):
            yield from _walk(one, two, f"{way}[{i}]")
    elif not _equal(found, said):
        yield f"`{way}` is {said} and should be {found}"


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, int | float) and isinstance(two, int | float):
        return abs(one - two) <= DECIMALS
    return bool(one == two)


def _coverages(entry: Any, way: str = "") -> Iterator[str]:
    """Every coverage is n / listed."""
    if not isinstance(entry, Mapping):
        return
    if {"n", "listed", "coverage"} <= entry.keys():
        try:
            share = entry["n"] / entry["listed"]
            right = _equal(round(share, 6), entry["coverage"]) and 0 <= share <= 1
        except (TypeError, ZeroDivisionError):
            right = False
        if not right:
            yield f"`{way}coverage` is not n / listed"
    for key in sorted(entry):
        yield from _coverages(entry[key], f"{way}{key}.")
